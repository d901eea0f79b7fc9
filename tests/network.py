"""Ports of loopback, and a line to a server that can be cut or fall silent."""

import asyncio
import socket
import threading
from contextlib import suppress
from enum import Enum
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from metrics_sync.sandbox.broker import find_free_port
from metrics_sync.sandbox.server import stop_accepting
from tests.conftest import PATIENCE_SECONDS


def answers(url: str) -> bool:
    """Whether the service there says that it is alive."""
    try:
        with urlopen(f"{url}/healthz", timeout=5) as answer:  # noqa: S310  (our own)
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


class Line(Enum):
    """What becomes of what is sent through a `Proxy`."""

    #: It arrives.
    UP = "up"
    #: Open connections are reset and new ones refused, as when the server's machine restarts.
    CUT = "cut"
    #: It is swallowed in both directions, as when a firewall forgets a connection.
    SILENT = "silent"


class Proxy:
    """Passes TCP connections on to a server of loopback, as long as its `line` is up."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = find_free_port()
        self._line = Line.UP
        self._writers: set[asyncio.StreamWriter] = set()
        self._up = asyncio.Event()

    def set_line(self, line: Line) -> None:
        """Change what becomes of the connections, the open ones included."""
        asyncio.run_coroutine_threadsafe(self._set_line(line), self._loop).result(PATIENCE_SECONDS)

    async def _set_line(self, line: Line) -> None:
        self._line = line
        if line is Line.UP:
            self._up.set()
            await self._listen()
            return
        self._up.clear()
        if line is Line.CUT:
            if self._server.is_serving():
                await stop_accepting(self._listening)
                self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()

    async def _listen(self) -> None:
        if not hasattr(self, "_server") or not self._server.is_serving():
            self._listening = socket.create_server(("127.0.0.1", self.port))
            self._server = await asyncio.start_server(self._pass_on, sock=self._listening)
        self._up.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError):
            await self._up.wait()
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._writers.add(far_writer)
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
            self._writers.discard(far_writer)
        self._writers.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._up.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(PATIENCE_SECONDS)
        return self

    async def _end(self) -> None:
        await self._set_line(Line.CUT)
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def __exit__(self, *_error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(PATIENCE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()
