"""Asks the sandbox everything that the service ever asks GitHub, and notes what was read."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx2

from metrics_sync.exceptions import GitHubError
from metrics_sync.github import (
    GitHub,
    examine_token,
    fetch_installation,
    fetch_installation_by_id,
    fetch_installation_repositories,
    fetch_installation_token,
    fetch_merges,
    fetch_numbers,
    fetch_repository,
    fetch_repository_by_id,
    fetch_snapshot,
    list_missing_permissions,
    redeliver_failed,
    redeliver_failed_of_app,
    register_hook,
    sign_app_token,
)
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, Token, make_recording
from metrics_sync.sandbox.payloads import build_ping_event
from metrics_sync.sandbox.posting import send_event
from metrics_sync.snapshot import Known
from tests.contract.watching import watch

REPOSITORY = "acme/anvil"
APP_ID = "29310"
INSTALLATION_ID = 5
HOOK_PATH = "/webhooks/github/"
HOOK: Any = {
    "url": f"https://sync.example{HOOK_PATH}7/",
    "path": f"{HOOK_PATH}7/",
    "secret": "s",
    "events": ["pull_request"],
}
LONG_AFTER = "2027-01-01T00:00:00Z"

#: The fields that were read of each answer, by method and path as they were asked for.
Reads = dict[tuple[str, str], set[str]]


class Answer(NamedTuple):
    """One answer of the sandbox, whole."""

    method: str
    path: str
    status: int
    body: Any


class Watched:
    """What was answered, and what the service read of it."""

    def __init__(self) -> None:
        self.reads: Reads = defaultdict(set)
        self.answers: list[Answer] = []


def ask_everything(sandbox: SandboxServer, keys: tuple[str, str]) -> Watched:
    """Run every question of `metrics_sync.github` once, as an App and with a token.

    `keys` are the private and the public key of a GitHub App. Past pages and caps are included.
    Raises what the questions raise.
    """
    world = sandbox.world
    world.add_token(Token(DEFAULT_TOKEN, scopes="public_repo, write:repo_hook"))
    world.add_app(APP_ID, keys[1])
    installation = world.add_installation(INSTALLATION_ID, "acme")
    world.add(make_recording(REPOSITORY, 1, commits=260, files=120, statuses=2))
    second = world.add(make_recording(REPOSITORY, 2, issue_comments=130, statuses=1))
    # A run that began after the merge has all runs asked for.
    second.check_runs[0]["started_at"] = second.check_runs[0]["completed_at"] = LONG_AFTER
    repository_id = world.repository(REPOSITORY).id
    for full_name in (REPOSITORY, None):
        hook = world.add_hook("http://127.0.0.1:1" + HOOK_PATH, secret="s", full_name=full_name)
        send_event(world, hook, event="ping", payload=build_ping_event(hook), lost=True)
    with watch_answers() as watched:
        for question in _list_questions(repository_id):
            _run(sandbox, DEFAULT_TOKEN, question)
        app_token = sign_app_token(app_id=APP_ID, private_key=keys[0])
        for question in _list_questions_of_app():
            _run(sandbox, app_token, question)
        token = _run(
            sandbox,
            app_token,
            lambda github: fetch_installation_token(
                github, installation_id=INSTALLATION_ID, account_id=installation.account_id
            ),
        )
        _run(sandbox, token.token, fetch_installation_repositories)
    return watched


@contextmanager
def watch_answers() -> Iterator[Watched]:
    """Keep the JSON of every answer while the block runs, and note what is read of it.

    What is read of refusals counts for nothing: ghapi looks them over for its error texts.
    """
    watched = Watched()
    plain = httpx2.Response.json

    def read_json(response: httpx2.Response, **options: Any) -> Any:
        request, body = response.request, plain(response, **options)
        answer = Answer(request.method, request.url.path, response.status_code, body)
        watched.answers.append(answer)
        reads = watched.reads[request.method, request.url.path]
        return body if response.is_error else watch(body, "", reads)

    httpx2.Response.json = read_json  # type: ignore[method-assign]
    try:
        yield watched
    finally:
        httpx2.Response.json = plain  # type: ignore[method-assign]


def fetch(sandbox: SandboxServer, full_name: str, number: int) -> None:
    """Fetch a pull request with all of its lists; what is wrong with it is somebody else's."""
    with suppress(GitHubError):
        _run(sandbox, DEFAULT_TOKEN, lambda github: _fetch(github, full_name, number))


def _list_questions(repository_id: int) -> list[Callable[[GitHub], Awaitable[Any]]]:
    since = datetime(2020, 1, 1, tzinfo=UTC)
    endings = {REPOSITORY: (HOOK_PATH,)}
    return [
        lambda github: fetch_repository(github, REPOSITORY),
        lambda github: fetch_repository_by_id(github, repository_id),
        lambda github: github.is_accepted(),
        # Asked in its place where there are no limits.
        lambda github: github.call(github.api.users.get_authenticated),
        lambda github: _fetch(github, REPOSITORY, 1),
        lambda github: _fetch(github, REPOSITORY, 2),
        lambda github: fetch_numbers(github, full_name=REPOSITORY, github_pr_ids=[1]),
        lambda github: _exhaust(fetch_merges(github, REPOSITORY, since=since)),
        lambda github: list_missing_permissions(github, REPOSITORY),
        lambda github: examine_token(github, endings=endings),
        *[lambda github: register_hook(github, REPOSITORY, **HOOK)] * 2,
        lambda github: redeliver_failed(
            github, full_name=REPOSITORY, endings=(HOOK_PATH,), since=since
        ),
    ]


def _list_questions_of_app() -> list[Callable[[GitHub], Awaitable[Any]]]:
    since = datetime.now(UTC) - timedelta(days=3)
    return [
        lambda app: fetch_installation(app, REPOSITORY),
        lambda app: fetch_installation(app, "acme"),
        lambda app: fetch_installation_by_id(app, INSTALLATION_ID),
        lambda app: app.call(app.api.apps.get_user_installation, "acme"),
        lambda app: redeliver_failed_of_app(app, since=since),
    ]


async def _fetch(github: GitHub, full_name: str, number: int) -> Any:
    now = datetime.now(UTC)
    return await fetch_snapshot(github, full_name, number, merged_at=None, known=Known(), now=now)


async def _exhaust(pages: Any) -> list[Any]:
    return [page async for page in pages]


def _run(sandbox: SandboxServer, token: str, question: Callable[[GitHub], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with GitHub(api_url=sandbox.url, token=token) as github:
            return await question(github)

    return asyncio.run(run())
