"""State that a test could leave in its process for the next test."""

import ast
import gc
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from metrics_sync.sandbox import SandboxServer
from tests.conftest import PATIENCE_SECONDS
from tests.network import Line, Proxy

#: Enough for each run to meet connections in all their stages.
STOPS = 20

#: What a process of the service remembers: `conftest.forgetful` has each test begin at nothing.
FORGOTTEN = {
    "metrics_sync.ingest.throttling: _failures",
    "metrics_sync.observe.counting: _counts",
    "metrics_sync.work.counts: _next_save_at",
    "metrics_sync.work.counts: _wait_until",
}
#: What may stay: it is the same for the same arguments, or ends with its block or event loop.
HARMLESS = {
    "metrics_sync.admin.columns: _make_time",
    "metrics_sync.admin.files: send_comparison",
    "metrics_sync.admin.files: send_trend",
    "metrics_sync.fields: _fernet",
    "metrics_sync.github.transport: _current",
    "metrics_sync.github.transport: _kept",
    "metrics_sync.github.transport: _tls_context",
    "metrics_sync.github.transport: prepare_api",
    "metrics_sync.github.graphql: prepare_client",
    "metrics_sync.github.queries: build_fetch",
    "metrics_sync.ingest.deliveries: _insert",
    "metrics_sync.ingest.events: _save_refetch",
    "metrics_sync.ingest.events: _with_head",
    "metrics_sync.ingest.events: _with_number",
    "metrics_sync.ingest.targets: _of_all_teams",
    "metrics_sync.ingest.targets: _of_one_team",
    "metrics_sync.ingest.views: _integration",
    "metrics_sync.jobs.__init__: _pull_request",
    "metrics_sync.jobs.__init__: _repository",
    "metrics_sync.models.budgets: _prepare_note",
    "metrics_sync.models.credential: _token",
    "metrics_sync.models.pull_request: _passing",
    "metrics_sync.models.pull_request: _run",
    "metrics_sync.models.records: _supersede_of_one",
    "metrics_sync.observe.counting: _lock",
    "metrics_sync.observe.tracing: _ids",
    "metrics_sync.store.accounts: _prepare_members",
    "metrics_sync.store.lists: _build_count",
    "metrics_sync.store.lists: _prepare_upsert",
    "metrics_sync.store.lists: _review_states",
    "metrics_sync.store.pull_requests: _claimants",
    "metrics_sync.store.pull_requests: _claimants_in_repository",
    "metrics_sync.work.queues: _open_queue",
}
#: Names, and makers, of what nothing changes once the modules are loaded.
SETTLED = {"__all__", "urlpatterns", "getLogger", "RegexValidator", "Router", "NinjaAPI", "Signal"}
SETTLED |= {"AppSettings", "Front", "Library", "get_wsgi_application"}
#: Not part of a process of the service, or read once as it starts.
LEFT_OUT = {"demo", "migrations", "sandbox", "serving", "settings"}


def test_nothing_remembered_in_a_process_is_missed() -> None:
    """Once a remembered pause after a dead Redis failed another test, in one order of many."""
    assert set(find_remembered()) == FORGOTTEN | HARMLESS


def find_remembered() -> Iterator[str]:
    """Name what a module of the product changes after it is loaded, as far as its text tells."""
    for folder in ("metrics_sync", "project"):
        for path in sorted((settings.BASE_DIR / folder).rglob("*.py")):
            parts = path.relative_to(settings.BASE_DIR).with_suffix("").parts
            if LEFT_OUT.isdisjoint(parts):
                tree = ast.parse(path.read_text())
                yield from (f"{'.'.join(parts)}: {each}" for each in find_variables(tree))


def find_variables(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names
        elif isinstance(node, ast.FunctionDef):
            decorators = [ast.unparse(each).partition("(")[0] for each in node.decorator_list]
            if {"cache", "lru_cache"} & set(decorators):
                yield node.name
    for statement in tree.body:
        target, value = read_assignment(statement)
        maker = ast.unparse(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
        may_change = maker or isinstance(value, ast.List | ast.Dict | ast.Set)
        if may_change and target.islower() and {target, maker}.isdisjoint(SETTLED):
            yield target


def read_assignment(statement: ast.stmt) -> tuple[str, ast.expr | None]:
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0]), statement.value
    if isinstance(statement, ast.AnnAssign):
        return ast.unparse(statement.target), statement.value
    return "", None


@pytest.mark.parametrize("is_proxied", [False, True])
def test_no_connection_is_left_open_by_a_server_that_ends(
    *, is_proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was accepted a moment before failed whichever test ran next."""
    left: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: left.append(raised.exc_value))

    for _stop in range(STOPS):
        with SandboxServer() as server:
            address = urlsplit(server.url).hostname, urlsplit(server.url).port
            if is_proxied:
                with Proxy(*address) as proxy:
                    connecting = connect_until_refused(("127.0.0.1", proxy.port))
                    proxy.set_line(Line.CUT)
            else:
                connecting = connect_until_refused(address)
        connecting.join(PATIENCE_SECONDS)
    gc.collect()

    assert left == []


def connect_until_refused(address: tuple[str, int]) -> threading.Thread:
    """Open connections in a thread, and return once the first has been accepted."""
    connected = threading.Event()
    clients: list[socket.socket] = []

    def connect() -> None:
        with suppress(OSError):
            while True:
                clients.append(socket.create_connection(address, timeout=PATIENCE_SECONDS))
                connected.set()
        for client in clients:
            client.close()

    thread = threading.Thread(target=connect)
    thread.start()
    connected.wait(PATIENCE_SECONDS)
    return thread
