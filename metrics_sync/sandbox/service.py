"""The HTTP side: authenticates, limits, delays, breaks, and answers each request."""

import asyncio
import hashlib
import random
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from metrics_sync.sandbox import accounts, commits, hooks, pulls, routing
from metrics_sync.sandbox.answers import Document, Listing, refuse
from metrics_sync.sandbox.control import add_control_routes
from metrics_sync.sandbox.faults import (
    PRIMARY,
    SECONDARY,
    Fault,
    FaultKind,
    Faults,
    alter_answer,
    replace_answer,
)
from metrics_sync.sandbox.limits import Budget, RateLimits
from metrics_sync.sandbox.pages import cut_page, read_number
from metrics_sync.sandbox.routing import Ask
from metrics_sync.sandbox.webhooks import send_event
from metrics_sync.sandbox.world import Delivery, Hook, Token, World

#: Modules that enter their routes by being imported.
ROUTE_MODULES = (accounts, commits, hooks, pulls)
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
        self.statuses: Counter[int] = Counter()
        self._clock = clock
        self._limits = RateLimits(clock)
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._active: Counter[str] = Counter()
        self._answered = 0
        self._redeliveries: set[asyncio.Task[Delivery]] = set()

    def make_application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        add_control_routes(
            application, world=self.world, faults=self.faults, statuses=self.statuses
        )
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        started_at = self._clock()
        ask = locate_request(request, world=self.world, now=started_at)
        ask = Ask(**{**vars(ask), "body": await _read_body(request)})
        value = ask.token.value
        self._active[value] += 1
        try:
            reply = await self._reply(request, ask)
        finally:
            self._active[value] -= 1
        self._record(request, ask, status=reply.status, started_at=started_at)
        return await _send(request, reply)
