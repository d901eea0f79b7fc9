"""Lets another process switch faults on and off at `/_sandbox/faults`, which is not GitHub's."""

from dataclasses import asdict

from aiohttp import web

from metrics_sync.sandbox.faults import Fault, Faults
from metrics_sync.sandbox.world import World

PREFIX = "/_sandbox"


def add_control_routes(application: web.Application, *, world: World, faults: Faults) -> None:
    """Serve `GET /_sandbox/`, and `GET`, `POST`, `DELETE /_sandbox/faults`."""

    async def show(_request: web.Request) -> web.Response:
        pulls = [f"{item.repo}#{item.number}" for item in world.recordings()]
        return web.json_response({"pull_requests": pulls, "inflicted": faults.counts})

    async def list_faults(_request: web.Request) -> web.Response:
        return web.json_response({"inflicted": faults.counts})

    async def add(request: web.Request) -> web.Response:
        try:
            fault = faults.add(Fault.from_json(await request.json()))
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=422)
        return web.json_response(asdict(fault), status=201)

    async def clear(_request: web.Request) -> web.Response:
        faults.clear()
        return web.Response(status=204)

    application.router.add_get(f"{PREFIX}/", show)
    application.router.add_get(f"{PREFIX}/faults", list_faults)
    application.router.add_post(f"{PREFIX}/faults", add)
    application.router.add_delete(f"{PREFIX}/faults", clear)
