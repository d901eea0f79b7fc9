"""Runs in front of Django in `web`: reads each request completely before it takes a thread.

A client that sends or reads slowly costs memory here, but no thread. A request that would wait too
long for a thread or for its response is answered 503 before the client gives up.
"""

import asyncio
import io
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

#: Bytes of a response that are buffered here for a slow client.
PART_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one process of `web`."""

    #: Requests that Django handles at the same time, and requests that may wait for a thread.
    threads: int = 4
    waiting: int = 1000
    #: The largest body.
    body_bytes: int
    #: The largest total of all bodies in memory; beyond it only small ones are accepted.
    held_bytes: int = 128 * 1024 * 1024
    small_bytes: int = 256 * 1024
    #: Seconds for a body to arrive.
    body_seconds: float = 10
    #: Seconds from then to the response; GitHub gives up after ten.
    #: https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks
    answer_seconds: float = 8
    #: Paths with that time limit; people may wait longer for a page.
    hurried: tuple[str, ...] = ("/webhooks/", "/api/", "/readyz", "/metrics")
    #: Paths whose work is finished even after the time limit: GitHub sends a delivery only once.
    kept: tuple[str, ...] = ("/webhooks/",)


class RefusedError(Exception):
    """The request is answered here, with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Front:
    """An ASGI application that hands whole requests to a WSGI application in threads."""

    def __init__(self, application: Application, limits: Limits) -> None:
        self.application, self.limits = application, limits
        self.threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="web")
        self.turns = asyncio.Semaphore(limits.threads)
        self.waiting = self.held_bytes = 0

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # There are no websockets; an exception would put every attempt into the log.
            await send({"type": "websocket.close"})
            return
        if scope["path"] == "/healthz" and scope["method"] in {"GET", "HEAD"}:
            # Answered without a thread or the database, however busy they are.
            await _send_whole(send, 200, "text/plain", b"ok\n")
            return
        try:
            answer = await self._begin(scope, await self._read_body(scope, receive))
        except RefusedError as error:
            content = json.dumps({"message": str(error)}).encode()
            await _send_whole(send, error.status, "application/json", content)
            return
        try:
            await send(answer.start)
            while answer.more:
                await send({"type": "http.response.body", "body": answer.part, "more_body": True})
                await self._call(answer.read)
            await send({"type": "http.response.body", "body": answer.part, "more_body": False})
        finally:
            if answer.more:
                self.threads.submit(answer.close)

    async def _read_body(self, scope: Mapping[str, Any], receive: Receive) -> bytes:
        """Return the whole body. Raises RefusedError if it is too large or too slow."""
        limits = self.limits
        stated = dict(scope["headers"]).get(b"content-length", b"")
        if stated.isdigit() and int(stated) > limits.body_bytes:
            raise RefusedError(413, f"A body has at most {limits.body_bytes / 2**20:.3g} MiB.")
        body = bytearray()
        try:
            async with asyncio.timeout(limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    part, more = message.get("body", b""), message.get("more_body", False)
                    body += part
                    self.held_bytes += len(part)
                    self._check(message, len(body))
        except BaseException as error:
            self.held_bytes -= len(body)
            if isinstance(error, TimeoutError):
                text = f"The body did not arrive within {limits.body_seconds:g} s."
                raise RefusedError(408, text) from error
            raise
        return bytes(body)

    def _check(self, message: Message, size: int) -> None:
        limits = self.limits
        if message["type"] == "http.disconnect":
            raise RefusedError(408, "The body did not arrive.")
        if size > limits.body_bytes:
            raise RefusedError(413, f"A body has at most {limits.body_bytes / 2**20:.3g} MiB.")
        if self.held_bytes > limits.held_bytes and size > limits.small_bytes:
            raise RefusedError(503, "Too many large bodies at the same time; try again.")

    async def _begin(self, scope: Mapping[str, Any], body: bytes) -> "_Answer":
        """Return the beginning of the response. Raises RefusedError if it takes too long."""

        def let_go(_done: Any) -> None:
            self.held_bytes -= len(body)

        answer = _Answer(self.application, build_environ(scope, body))
        calling = asyncio.create_task(self._call(answer.read))
        calling.add_done_callback(let_go)
        is_hurried = scope["path"].startswith(self.limits.hurried)
        seconds = self.limits.answer_seconds if is_hurried else None
        done, _ = await asyncio.wait({calling}, timeout=seconds)
        if not done:
            if not scope["path"].startswith(self.limits.kept):
                calling.cancel()
            raise RefusedError(503, "The request took too long; try again.")
        calling.result()
        return answer

    async def _call(self, work: Callable[[], None]) -> None:
        """Run the work in a thread as soon as one is free, in order of arrival.

        Raises RefusedError if too many requests wait. A thread stays taken until its work is done,
        even if the client is gone.
        """
        if self.waiting >= self.limits.waiting:
            raise RefusedError(503, "Too many requests are waiting; try again.")
        self.waiting += 1
        try:
            await self.turns.acquire()
        finally:
            self.waiting -= 1
        loop = asyncio.get_running_loop()

        def pass_on(_done: Future[None]) -> None:
            with suppress(RuntimeError):  # the process is ending
                loop.call_soon_threadsafe(self.turns.release)

        doing = self.threads.submit(work)
        doing.add_done_callback(pass_on)
        await asyncio.wrap_future(doing)


async def _send_whole(send: Send, status: int, content_type: str, content: bytes) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(content)).encode()),
    ]
    if status >= 400:
        # Does not wait for the rest of the body.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})


class _Answer:
    """The response of the WSGI application, read in parts, each in a thread."""

    def __init__(self, application: Application, environ: dict[str, Any]) -> None:
        self.application, self.environ = application, environ
        self.start: Message = {}
        self.parts: Iterator[bytes] | None = None
        self.close: Callable[[], None] = lambda: None
        self.part, self.more = b"", True

    def read(self) -> None:
        """Read the next part; the first call also calls the application."""
        try:
            if self.parts is None:
                answer = self.application(self.environ, self._start)
                self.close, self.parts = getattr(answer, "close", self.close), iter(answer)
            found = bytearray()
            self.more = False
            for part in self.parts:
                found += part
                if len(found) >= PART_BYTES:
                    self.more = True
                    break
            self.part = bytes(found)
        finally:
            if not self.more:
                self.close()

    def _start(self, status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
        self.start = {
            "type": "http.response.start",
            "status": int(status[:3]),
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
            ],
        }


def build_environ(scope: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """Build the WSGI environment of a request.

    https://peps.python.org/pep-3333/#environ-variables
    """
    raw_path = scope.get("raw_path") or scope["path"].encode()
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("localhost", 0)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope.get("root_path", ""),
        "PATH_INFO": unquote_to_bytes(raw_path).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        separator = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{separator}{text}" if key in environ else text
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    environ.pop("HTTP_CONTENT_LENGTH", None)
    # Also for a chunked body, which Django would not read otherwise.
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ
