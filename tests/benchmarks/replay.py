"""Stands before the pretend GitHub, and gives the answer to a GraphQL query again from memory.

`python -m tests.benchmarks.replay PORT URL`. GitHub answers on machines of its own; the pretend one
would take the processor from what is measured.
"""

import sys

import aiohttp
from aiohttp import web

UPSTREAM, ANSWERS = web.AppKey("upstream", str), web.AppKey("answers", dict)
#: What belongs to one connection, or is stated anew.
LEFT_OUT = {"Host", "Content-Length", "Transfer-Encoding", "Connection", "Content-Encoding"}


async def answer(request: web.Request) -> web.Response:
    body = await request.read()
    known = request.app[ANSWERS]
    if body not in known:
        url = request.app[UPSTREAM] + request.path_qs
        headers = {name: text for name, text in request.headers.items() if name not in LEFT_OUT}
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, data=body, headers=headers) as found,
        ):
            kept = {name: text for name, text in found.headers.items() if name not in LEFT_OUT}
            given = found.status, kept, await found.read()
        if request.path != "/graphql":
            return _build(*given)
        known[body] = given
    return _build(*known[body])


def _build(status: int, headers: dict[str, str], body: bytes) -> web.Response:
    return web.Response(status=status, headers=headers, body=body)


def serve(port: int, upstream: str) -> None:
    """Serve until the process is ended."""
    application = web.Application()
    application[UPSTREAM], application[ANSWERS] = upstream, {}
    application.router.add_route("*", "/{path:.*}", answer)
    web.run_app(application, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
