"""What stands before Django: whole requests for few threads, and an answer in any case."""

import asyncio
import json
import resource
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any
from urllib.request import urlopen

import pytest

from metrics_sync.sandbox import build_pull_request_event, deliver, make_recording
from project.front import PART_BYTES, Front, Limits
from tests.conftest import PATIENCE_SECONDS
from tests.factories import TrackedRepositoryFactory
from tests.test_tracing import serve

DELIVERY = "/webhooks/github/"
Environ = dict[str, Any]


class Django:
    """Answers what it was asked, or waits until it may."""

    def __init__(self, answer: Iterable[bytes] = (b"done",)) -> None:
        self.answer = answer
        self.may_answer = Event()
        self.may_answer.set()
        self.asked: list[Environ] = []

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterator[bytes]:
        assert self.may_answer.wait(PATIENCE_SECONDS)
        self.asked.append({**environ, "body": environ["wsgi.input"].read()})
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter(self.answer)


def make_front(django: Django, **limits: Any) -> Front:
    return Front(django, Limits(**{"body_bytes": 100, "threads": 1, **limits}))


async def ask(
    front: Front, path: str = "/", *parts: bytes, is_whole: bool = True, **scope: Any
) -> tuple[int, bytes]:
    """Ask as the server does; without `is_whole` the rest of the body never comes."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if is_whole:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asked = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    await front({**asked, "http_version": "1.1", **scope}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def run(question: Callable[[], Awaitable[Any]]) -> Any:
    async def answer() -> Any:
        return await question()

    return asyncio.run(answer())


def test_body_arrives_whole_with_its_length() -> None:
    """Django reads nothing of a body whose length nobody states, and GitHub's proxies may not."""
    django = Django()
    headers = [(b"content-type", b"text/x"), (b"cookie", b"a=1"), (b"cookie", b"b=2")]

    run(lambda: ask(make_front(django), "/a%20b", b"he", b"llo", headers=headers, raw_path=b"/%C3"))

    [environ] = django.asked
    assert (environ["body"], environ["CONTENT_LENGTH"]) == (b"hello", "5")
    assert (environ["CONTENT_TYPE"], environ["HTTP_COOKIE"]) == ("text/x", "a=1; b=2")
    assert environ["PATH_INFO"] == "/\xc3"


@pytest.mark.parametrize(
    "headers", [[], [(b"content-length", b"101")]], ids=["of no stated length", "stated"]
)
def test_body_that_is_too_large_is_not_taken(headers: Any) -> None:
    """In chunks it would fill the memory before anybody looks at it."""
    django = Django()
    front = make_front(django)

    status, _ = run(lambda: ask(front, DELIVERY, b"x" * 60, b"x" * 60, headers=headers))

    assert (status, django.asked, front.held_bytes) == (413, [], 0)


def test_body_that_does_not_come_holds_no_thread() -> None:
    """Twelve clients that sent one byte each held all threads of `web`, without a secret."""
    django = Django()

    async def attack() -> Any:
        front = make_front(django, body_seconds=0.2)
        slow = [asyncio.create_task(ask(front, DELIVERY, b"{", is_whole=False)) for _ in range(99)]
        await asyncio.sleep(0)
        honest = await ask(front, DELIVERY, b"{}")
        return honest, {status for status, _ in await asyncio.gather(*slow)}, front.held_bytes

    assert run(attack) == ((200, b"done"), {408}, 0)


def test_large_bodies_do_not_fill_the_memory() -> None:
    """A hundred of 25 MiB, sent slowly by anybody, are 2.5 GB; small ones go on."""
    limits = {"body_seconds": 0.2, "held_bytes": 100, "small_bytes": 10}

    async def attack() -> Any:
        front = make_front(Django(), **limits)
        large = [ask(front, DELIVERY, b"x" * 40, is_whole=False) for _ in range(4)]
        sent = asyncio.gather(*large)
        await asyncio.sleep(0)
        small = await ask(front, DELIVERY, b"{}")
        return small[0], [status for status, _ in await sent]

    assert run(attack) == (200, [408, 408, 503, 503])


def test_alive_is_said_while_all_threads_are_busy() -> None:
    """A platform that restarts `web` because the database is slow makes it worse."""
    django = Django()
    django.may_answer.clear()

    async def look() -> Any:
        front = make_front(django)
        busy = [asyncio.create_task(ask(front)) for _ in range(3)]
        await asyncio.sleep(0)
        alive = await ask(front, "/healthz", method="GET")
        django.may_answer.set()
        await asyncio.gather(*busy)
        return alive

    assert run(look) == (200, b"ok\n")


def test_delivery_that_waits_too_long_is_answered_and_done_nevertheless() -> None:
    """GitHub listens for ten seconds, and sends nothing again by itself."""
    django = Django()
    django.may_answer.clear()

    async def wait() -> Any:
        front = make_front(django, answer_seconds=0.01)
        begun = await ask(front, DELIVERY, b"1")
        late = [await ask(front, DELIVERY, b"2"), await ask(front, "/api/v1/", b"3")]
        django.may_answer.set()
        page = await ask(front, "/admin/", b"4")
        return [status for status, _ in (begun, *late)], page[0], front.held_bytes

    assert run(wait) == ([503, 503, 503], 200, 0)
    assert [environ["body"] for environ in django.asked] == [b"1", b"2", b"4"]


def test_only_so_many_wait() -> None:
    """What nobody could answer in time is not kept for later."""
    django = Django()
    django.may_answer.clear()

    async def crowd() -> list[int]:
        front = make_front(django, waiting=1)
        asking = [asyncio.create_task(ask(front, DELIVERY)) for _ in range(3)]
        await asking[2]
        django.may_answer.set()
        return [status for status, _ in await asyncio.gather(*asking)]

    assert run(crowd) == [200, 200, 503]


def test_large_answer_is_sent_in_parts_without_a_thread() -> None:
    """Who reads slowly holds none either."""
    django = Django([b"a" * PART_BYTES, b"b" * PART_BYTES, b"c"])

    async def read() -> Any:
        front = make_front(django)
        large, small = await asyncio.gather(ask(front), ask(front, "/small"))
        return len(large[1]), small

    assert run(read)[0] == 2 * PART_BYTES + 1


def test_websocket_is_refused() -> None:
    """Anybody could fill the log with errors that say nothing."""
    sent = []

    async def send(message: Any) -> None:
        sent.append(message)

    run(
        lambda: make_front(Django())({"type": "websocket", "path": "/"}, asyncio.Event().wait, send)
    )

    assert sent == [{"type": "websocket.close"}]


@pytest.mark.long(seconds=14)
@pytest.mark.django_db(transaction=True)
def test_slow_senders_leave_the_web_server_to_the_others(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """The same with the server of the Procfile: a thread each is what they used to hold."""
    hook = TrackedRepositoryFactory(full_name="acme/anvil").integration
    payload = build_pull_request_event(make_recording("acme/anvil", 7), "closed")
    path, secret = hook.get_webhook_path(), hook.webhook_secret
    beginning = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{{"

    served = serve({**environment, "ALLOWED_HOSTS": "127.0.0.1"}, tmp_path / "log")
    with served as url, ExitStack() as stack:
        port = int(url.rpartition(":")[2])
        for _ in range(50):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            slow.sendall(beginning.encode())
        answer = deliver(url + path, event="pull_request", payload=payload, secret=secret)
        with urlopen(f"{url}/healthz", timeout=10) as alive:  # noqa: S310  (our own)
            assert alive.status == 200
        slow.settimeout(60)
        refusal = slow.recv(1000)

    assert answer.status == 202
    assert refusal.startswith(b"HTTP/1.1 408")
    assert json.loads(refusal.partition(b"\r\n\r\n")[2])["message"].startswith("The body did not")


@pytest.mark.long(seconds=5)
@pytest.mark.django_db(transaction=True)
def test_idle_connections_leave_the_web_server_to_the_others(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Each is a file, of which init systems allow few to a process that asks for no more."""
    served = serve({**environment, "ALLOWED_HOSTS": "127.0.0.1"}, tmp_path / "log")
    few, limits = 200, resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        url = stack.enter_context(served)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        port = int(url.rpartition(":")[2])
        for _ in range(few):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        with urlopen(f"{url}/healthz", timeout=30) as alive:  # noqa: S310  (our own)
            assert alive.status == 200
