"""Runs the pretend GitHub in a thread, with its own event loop, on a port of loopback."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from metrics_sync.sandbox.faults import Faults
from metrics_sync.sandbox.service import Latency, SeenRequest, Service
from metrics_sync.sandbox.world import World

START_SECONDS = 10
#: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
MAX_CONCURRENT = 100

#: Turns of asyncio's loop from the accepting of a connection to its `connection_made`: one each
#: for the task, the transport and the protocol.
TURNS_OF_AN_ACCEPT = 3


async def stop_accepting(listening: socket.socket) -> None:
    """Accept no more connections, and let those just accepted become known to their server.

    Closing an `asyncio.Server` in between leaves such a connection open, with nobody who knows
    of it: its transport cannot be made any more.
    """
    asyncio.get_running_loop().remove_reader(listening)
    for _turn in range(TURNS_OF_AN_ACCEPT):
        await asyncio.sleep(0)


class SandboxServer:
    """A GitHub at `url` while the `with` block runs; `world` and `faults` may change meanwhile.

    `latency_ms` is added to every answer: a number, or the two ends of a range. `clock` gives
    the seconds since the epoch that rate limits and expiries go by.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        port: int = 0,
        latency_ms: Latency = 0,
        max_concurrent: int = MAX_CONCURRENT,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.world = world or World()
        self.faults = Faults(seed=seed)
        self.url = ""
        self._port = port
        self._service = Service(
            self.world,
            self.faults,
            latency_ms=latency_ms,
            max_concurrent=max_concurrent,
            clock=clock,
            seed=seed,
        )

    @property
    def requests(self) -> list[SeenRequest]:
        """The requests so far, in the order of their answers."""
        return list(self._service.log)

    def start(self) -> Self:
        """Serve from now on. Raises OSError when the port is taken."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        try:
            self.url = started.result(START_SECONDS)
        except BaseException:
            self._end_loop()
            raise
        return self

    def stop(self) -> None:
        """End the server; connections that are open are closed."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(START_SECONDS)
        self._end_loop()

    async def _start(self) -> str:
        self._runner = web.AppRunner(
            self._service.make_application(),
            access_log=None,
            shutdown_timeout=0.1,
            handler_cancellation=True,
        )
        await self._runner.setup()
        self._listening = socket.create_server(("127.0.0.1", self._port))
        await web.SockSite(self._runner, self._listening).start()
        host, port = self._listening.getsockname()
        return f"http://{host}:{port}"

    async def _stop(self) -> None:
        await stop_accepting(self._listening)
        await self._runner.cleanup()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
