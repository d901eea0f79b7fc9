"""The HTTP side: authenticates, limits, delays, breaks, and answers each request."""

import asyncio
import hashlib
import random
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from aiohttp import web

# All but `routing` enter their routes into the table by being imported.
from metrics_sync.sandbox import (  # noqa: F401
    access_routes,
    commit_routes,
    graphql_route,
    hooks,
    pulls,
    routing,
)
from metrics_sync.sandbox.answers import Answer, Document, Listing, refuse
from metrics_sync.sandbox.control import add_control_routes
from metrics_sync.sandbox.cutting import cut_page, read_number
from metrics_sync.sandbox.faults import (
    PRIMARY,
    SECONDARY,
    Fault,
    FaultKind,
    Faults,
    alter_answer,
    replace_answer,
)
from metrics_sync.sandbox.limits import RateLimits
from metrics_sync.sandbox.posting import send_event
from metrics_sync.sandbox.routing import Ask
from metrics_sync.sandbox.world import Delivery, Hook, Token, World

ENTERPRISE_PREFIX = "/api/v3"
MAX_BODY_BYTES = 256 * 2**20
LOG_SIZE = 50_000

Latency = float | tuple[float, float]


@dataclass(frozen=True)
class SeenRequest:
    """One request that was answered; `status` 0 means that it got no answer.

    `canonical_path` names the repository also where the path has its id. `conditional` tells
    that it came with `If-None-Match`.
    """

    method: str
    path: str
    query: str
    token: str
    status: int
    conditional: bool
    started_at: float
    canonical_path: str


@dataclass(frozen=True)
class _Reply:
    status: int
    body: bytes
    headers: dict[str, str]
    fault: Fault | None = None


class Service:
    """Answers requests; one event loop runs it, and tests read its log from outside."""

    def __init__(
        self,
        world: World,
        faults: Faults,
        *,
        latency_ms: Latency,
        max_concurrent: int,
        clock: Callable[[], float],
        seed: int,
    ) -> None:
        self.world = world
        self.faults = faults
        self.latency_ms = latency_ms
        self.max_concurrent = max_concurrent
        self.log: deque[SeenRequest] = deque(maxlen=LOG_SIZE)
        self._clock = clock
        self._limits = RateLimits(clock)
        self._random = random.Random(seed)
        self._active: Counter[str] = Counter()
        self._redeliveries: set[asyncio.Task[Delivery]] = set()

    def make_application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        add_control_routes(application, world=self.world, faults=self.faults)
        application.router.add_route("*", "/{path:.*}", self._handle)
        application.on_cleanup.append(self._end_redeliveries)
        return application

    async def _end_redeliveries(self, _application: web.Application) -> None:
        """Cancel the tasks of redeliveries; a request that is being sent still arrives."""
        for task in self._redeliveries:
            task.cancel()
        await asyncio.gather(*self._redeliveries, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        started_at = self._clock()
        token, refusal = self._authenticate(request, now=started_at)
        ask = await _read_ask(request, world=self.world, token=token, now=started_at)
        self._active[token.value] += 1
        try:
            reply = await self._reply(request, ask, refusal)
        finally:
            self._active[token.value] -= 1
        self._record(request, ask, reply, started_at=started_at)
        for hook, delivery in ask.redeliveries:
            self._redeliver(hook, delivery)
        return await _send(request, reply)

    def _authenticate(self, request: web.Request, *, now: float) -> tuple[Token, Document | None]:
        """Find whose request it is; an unknown or expired token is refused."""
        _, _, value = request.headers.get("Authorization", "").partition(" ")
        if not value:
            return self.world.anonymous, None
        if value.count(".") == 2 and not value.startswith("ghs_"):
            return access_routes.read_app_token(value, apps=self.world.apps, now=now)
        token = self.world.tokens.get(value)
        if token is None or (token.expires_at is not None and token.expires_at <= now):
            return Token(value), refuse(401)
        return token, None

    async def _reply(self, request: web.Request, ask: Ask, refusal: Document | None) -> _Reply:
        struck = self.faults.strike(
            ask.canonical_path, query=request.query_string, token=ask.token.value
        )
        waits = sum(fault.seconds for fault in struck if fault.kind != FaultKind.DRIP)
        await asyncio.sleep(self._draw_latency() + waits)
        fault = next((item for item in struck if item.kind != FaultKind.SLOW), None)
        if refusal is None:
            points = self._limits.look(ask.token, "graphql")
            is_graphql = ask.path == graphql_route.PATH
            budget = points if is_graphql else self._limits.look(ask.token)
            ask = replace(ask, budget=budget, points=points)
        given = refusal or self._refuse_too_many(ask)
        if given is None and fault is not None:
            given = replace_answer(fault, now=ask.now)
        answer = given or self._answer(ask, fault)
        document = _cut(answer, ask) if isinstance(answer, Listing) else answer
        return self._write(request, document, ask, fault)

    def _draw_latency(self) -> float:
        low, high = _span(self.latency_ms)
        return self._random.uniform(low, high) / 1000

    def _refuse_too_many(self, ask: Ask) -> Document | None:
        if ask.budget is not None and ask.budget.remaining == 0 and ask.path != "/rate_limit":
            is_graphql = ask.path == graphql_route.PATH
            return graphql_route.refuse_rate_limited() if is_graphql else refuse(403, PRIMARY)
        if self._active[ask.token.value] > self.max_concurrent:
            return refuse(403, SECONDARY, headers={"Retry-After": "60"})
        return None

    def _answer(self, ask: Ask, fault: Fault | None) -> Answer:
        with self.world.lock:
            found = routing.answer(ask)
        return found if fault is None else alter_answer(fault, found)

    def _write(
        self, request: web.Request, document: Document, ask: Ask, fault: Fault | None
    ) -> _Reply:
        """Add the headers of every answer; an answer that the client already has costs nothing."""
        body, status = document.encode(), document.status
        headers = {"Content-Type": document.content_type, "Server": "github.com"}
        if status == 200:
            # Like GitHub's, it belongs to the token that asked.
            headers |= {"Vary": "Accept, Authorization, Cookie, X-GitHub-OTP"}
            digest = hashlib.sha256(ask.token.value.encode() + body).hexdigest()
            headers["ETag"] = f'W/"{digest}"'
            if headers["ETag"] in request.headers.get("If-None-Match", ""):
                status, body = 304, b""
        if ask.budget is not None:
            if status != 304 and ask.budget.remaining:
                ask.budget.used += document.cost
            headers |= ask.budget.to_headers()
        if ask.token.is_classic:
            headers["X-OAuth-Scopes"] = ask.token.scopes
        return _Reply(status, body, {**headers, **document.headers}, fault)

    def _record(self, request: web.Request, ask: Ask, reply: _Reply, *, started_at: float) -> None:
        is_lost = reply.fault is not None and reply.fault.kind == FaultKind.RESET
        seen = SeenRequest(
            method=ask.method,
            path=ask.path,
            query=request.query_string,
            token=ask.token.value,
            status=0 if is_lost else reply.status,
            conditional="If-None-Match" in request.headers,
            started_at=started_at,
            canonical_path=ask.canonical_path,
        )
        self.log.append(seen)

    def _redeliver(self, hook: Hook, delivery: Delivery) -> None:
        again = asyncio.to_thread(
            send_event,
            self.world,
            hook,
            event=delivery.event,
            payload=delivery.payload,
            guid=delivery.guid,
            redelivery=True,
        )
        task = asyncio.create_task(again)
        self._redeliveries.add(task)
        task.add_done_callback(self._redeliveries.discard)


async def _read_ask(request: web.Request, *, world: World, token: Token, now: float) -> Ask:
    path = request.path.removesuffix("/") or "/"
    root = f"{request.scheme}://{request.host}"
    path = graphql_route.PATH if path == graphql_route.ENTERPRISE_PATH else path
    if path.startswith(ENTERPRISE_PREFIX):
        path, root = path.removeprefix(ENTERPRISE_PREFIX), f"{root}{ENTERPRISE_PREFIX}"
    try:
        body = await request.json() if request.can_read_body else None
    except ValueError:
        body = None
    ask = Ask(
        world=world,
        method=request.method,
        path=path,
        root=root,
        token=token,
        now=now,
        query=dict(request.query),
        body=body,
    )
    with world.lock:
        return routing.locate(ask)


def _span(latency_ms: Latency) -> tuple[float, float]:
    return latency_ms if isinstance(latency_ms, tuple) else (latency_ms, latency_ms)


def _cut(listing: Listing, ask: Ask) -> Document:
    shown, link = cut_page(listing.items, ask.query, url=ask.link_url)
    total = len(listing.items) if listing.total is None else listing.total
    page = read_number(ask.query.get("page"), default=1)
    headers = {"Link": link} if link else {}
    return Document(listing.render(shown, page, total), headers=headers)


async def _send(request: web.Request, reply: _Reply) -> web.StreamResponse:
    kind = reply.fault.kind if reply.fault else None
    if kind == FaultKind.RESET:
        _reset_connection(request)
        return web.Response()
    if kind == FaultKind.GARBAGE and reply.fault is not None:
        text = reply.fault.body if reply.fault.body is not None else "<html>}{ no JSON"
        return web.Response(body=str(text).encode(), content_type="application/json")
    if kind == FaultKind.TRUNCATED:
        return await _send_half(request, reply)
    if kind == FaultKind.DRIP and reply.fault is not None:
        return await _send_in_pieces(request, reply, seconds=reply.fault.seconds)
    return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


async def _send_in_pieces(
    request: web.Request, reply: _Reply, *, seconds: float
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = len(reply.body)
    await response.prepare(request)
    size = -(-len(reply.body) // 10)
    for start in range(0, len(reply.body), size):
        await asyncio.sleep(seconds)
        await response.write(reply.body[start : start + size])
    return response


async def _send_half(request: web.Request, reply: _Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: len(reply.body) // 2])
    _reset_connection(request)
    return response


def _reset_connection(request: web.Request) -> None:
    """Close at once with a TCP reset, as a load balancer does that gives up."""
    transport = request.transport
    if transport is None:
        return
    connected = transport.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
