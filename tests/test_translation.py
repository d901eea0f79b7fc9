"""Pull requests from GraphQL, which must become the same rows as from REST."""

import asyncio
import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db.models import ForeignKey

from metrics_sync.exceptions import DisagreementError, PermissionMissingError
from metrics_sync.github import GitHub, GraphQL
from metrics_sync.github.connections import check_counts
from metrics_sync.github.graphql import Refused
from metrics_sync.github.node_ids import unpack_node_id
from metrics_sync.github.only_in_rest import OF_EVERY_LIST, REASONS, OnlyInRestError
from metrics_sync.github.queries import build_fetch
from metrics_sync.github.translation import read_snapshot
from metrics_sync.heal.backfilling import Backfill
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.sandbox import DEFAULT_TOKEN, Recording, SandboxServer, make_sample
from metrics_sync.sandbox.builder import PullRequestBuilder
from metrics_sync.sandbox.shapes import make_global_id, user
from metrics_sync.snapshot import KEYS, Json, Section
from metrics_sync.snapshot.values import GHOST_ID
from metrics_sync.store.lists import MODELS
from tests.factories import TrackedRepositoryFactory

BOT_ADDRESS = "renovate[bot]@users.noreply.github.com"

#: What differs between any two fetches of the same.
BOOKKEEPING = {
    *("id", "team", "pull_request", "etags", "completed_at", "fetch_started_at", "queued_at"),
    *("refetch_at", "retry_at", "sync_attempts", "sync_job_id", "repository"),
}


def make_busy() -> Recording:
    """Add everything that GraphQL names differently from REST, and states for certain."""
    story = PullRequestBuilder("acme/anvil", 7, author="renovate[bot]", title="Harden the anvil")
    story.pull["head"]["repo"] = {**story.pull["head"]["repo"], "full_name": "fork/anvil"}
    old = [story.commit(-50, name="mona"), story.commit(-40, name="mona", authored=-90)]
    old[0]["author"] = old[0]["committer"] = None
    story.event(1, "convert_to_draft")
    story.event(2, "ready_for_review")
    story.event(3, "review_requested", requested_reviewer=user("grace"))
    story.event(3, "review_requested", requested_team={"id": 7, "slug": "smiths"})
    story.event(3, "review_requested", requested_reviewer=user("reviewer[bot]"))
    story.event(4, "labeled", label={"name": "heavy"})
    asked = story.review(60, login="grace", state="CHANGES_REQUESTED", body="Please rebase.")
    question = story.review_comment(60, asked, path="anvil.c", line=8, outdated=True)
    story.review_comment(70, asked, path="anvil.c", reply_to=question, body="Done 👍\r\n")
    about_all = story.review_comment(75, asked, path="anvil.c", line=1)
    about_all |= {"subject_type": "file", "user": None}
    for commit in story.rebase(180, old):
        commit["author"] = commit["committer"] = user("mona")
    by_bot = story.commit(185, name="renovate[bot]")
    by_bot["author"] = user("renovate[bot]")
    by_bot["commit"]["author"]["email"] = f"{by_bot['author']['id']}+{BOT_ADDRESS}"
    dismissed = story.review(200, login="ada", state="DISMISSED", body="Too heavy.")
    told = {"state": "changes_requested", "review_id": dismissed["id"]}
    story.event(210, "review_dismissed", login="grace", dismissed_review=told)
    story.comment(220, login="codecov[bot]", body="Coverage: 97 %")
    gone = story.comment(230, login="somebody", body="Never mind.")
    gone["user"] = user("ghost") | {"id": GHOST_ID}
    story.file("anvil.c", additions=75, deletions=21)
    story.file("tongs.c", additions=0, deletions=9, status="removed")
    for app, suite in (("github-actions", 1), ("circleci", 2)):
        story.check_run(190, name="test", suite=suite, app_slug=app)
    story.check_run(190, name="nightly", status="in_progress")
    story.status(190, context="ci/jenkins", state="failure")
    return story.finish(merged=250)


#: How many requests REST adds to each sample, for the lists that GraphQL does not do for.
SAMPLES: dict[str, int] = {
    "changes requested, fixed, approved": 0,
    "two reviewers before one fix, then a second round": 0,
    "reviewed by bots before a person": 3,
    "approved by a deleted account": 0,
    "an author who answers their own reviews, and one pending": 0,
    "a dismissed request for changes": 0,
    "a draft that became ready, with legacy statuses": 0,
    "a rebase that left reviews on vanished commits": 0,
    "commits of nobody, renamed and oddly named files": 1,
    "checks with one name, and unfinished ones": 0,
    "without review, comment or check": 0,
    "many pages of everything": 2,
    "over GitHub's caps": 36,
    "over 20,000 changed lines": 0,
}


@pytest.fixture
def take_both(
    sandbox: SandboxServer, redis: Any, db: None
) -> Iterator[Callable[[Recording], list[PullRequest]]]:
    """Fetch one pull request by REST for one team, and in bulk for another."""

    def take(recording: Recording) -> list[PullRequest]:
        sandbox.world.add(recording)
        token = {"integration__credential__access_token": DEFAULT_TOKEN}
        by_rest, in_bulk = (
            TrackedRepositoryFactory(full_name=recording.repo, **token) for _ in range(2)
        )
        run(in_bulk)
        row = in_bulk.team.pull_requests.get()
        twin = PullRequest(
            team=by_rest.team,
            repository=by_rest,
            github_repo=recording.repo,
            github_pr_id=row.github_pr_id,
            github_pr_number=row.github_pr_number,
        )
        PullRequest.objects.bulk_create([twin])
        fetch_pr_complete_data(twin.pk)
        return [PullRequest.objects.get(pk=twin.pk), row]

    return take


def run(repository: TrackedRepository) -> None:
    backfill = Backfill(repository)
    assert list(backfill.find_missing(since=datetime(2020, 1, 1, tzinfo=UTC)))
    assert list(backfill.fetch())


def dump(row: Any) -> dict[str, Any]:
    """Return the values of a row, with GitHub's ids in place of our own."""
    values = {}
    for column in row._meta.concrete_fields:
        if column.name not in BOOKKEEPING:
            value = getattr(row, column.name)
            is_link = isinstance(column, ForeignKey) and value is not None
            values[column.name] = value.github_id if is_link else value
    return values


def dump_all(row: PullRequest) -> dict[str, Any]:
    """Return everything that was stored of a pull request, receipt and metrics included."""
    rows = {
        section: [
            dump(item) for item in model.objects.filter(pull_request=row).order_by(*KEYS[section])
        ]
        for section, model in MODELS.items()
    }
    people = row.team.people.order_by("github_id")
    itself = dump(row)
    # Another witness speaks: GraphQL's totals in place of REST's counters and timeline.
    itself["receipt"] = {
        name: {key: value for key, value in entry.items() if key != "witness"}
        for name, entry in row.receipt.items()
    }
    return {
        "pull_request": itself,
        **rows,
        "people": list(people.values_list("github_id", "login", "is_bot")),
    }


@pytest.mark.parametrize(("name", "requests"), SAMPLES.items())
def test_rows_and_receipt_are_those_of_rest(
    take_both: Callable[[Recording], list[PullRequest]], name: str, requests: int
) -> None:
    """A number must not depend on the API that it came from."""
    by_rest, in_bulk = take_both(make_sample(name))

    assert dump_all(in_bulk) == dump_all(by_rest)
    assert in_bulk.sync_status == "complete"
    assert in_bulk.fetch_runs.get().requests_made == requests


def test_busy_pull_request_needs_no_rest(
    take_both: Callable[[Recording], list[PullRequest]], sandbox: SandboxServer
) -> None:
    """Forks, bots, teams, drafts, dismissals, force pushes, checks and statuses."""
    by_rest, in_bulk = take_both(make_busy())

    assert dump_all(in_bulk) == dump_all(by_rest)
    assert in_bulk.fetch_runs.get().requests_made == 0


@pytest.fixture
def node(sandbox: SandboxServer) -> Json:
    """A pull request as GraphQL returns it."""
    sandbox.world.add(make_busy())

    async def fetch() -> Json:
        async with GitHub(api_url=sandbox.url, token=DEFAULT_TOKEN) as github:
            graphql = GraphQL(github)
            query = build_fetch(1)
            asked = await graphql.ask(query, cost=1, owner="acme", name="anvil", n0=7)
            return asked["p0"]  # type: ignore[no-any-return]

    return asyncio.run(fetch())


def change(node: Any, path: str, value: Any) -> None:
    """Set the value at a path such as `commits.nodes.0`."""
    *parents, last = path.split(".")
    for key in parents:
        node = node[int(key) if key.isdigit() else key]
    node[int(last) if last.isdigit() else last] = value


CHECKS = "check_runs.nodes.0.commit"
GOES_ON = {"hasNextPage": True, "endCursor": "x"}
ENDS = {"hasNextPage": False, "endCursor": None}
BOT = {"__typename": "Bot", "databaseId": 7, "login": "copilot-swe-agent"}


@pytest.mark.parametrize(
    ("path", "value", "left"),
    [
        pytest.param("issue_comments", None, {"issue_comments"}, id="not given"),
        pytest.param("issue_comments.nodes.0", None, {"issue_comments"}, id="an item not given"),
        pytest.param(
            "issue_comments",
            {"totalCount": 1001, "pageInfo": GOES_ON, "nodes": [{}]},
            {"issue_comments"},
            id="too long",
        ),
        pytest.param("issue_comments.nodes.0.author", BOT, {"issue_comments"}, id="several logins"),
        pytest.param("issue_comments.nodes.0.createdAt", "?", {"issue_comments"}, id="unreadable"),
        pytest.param(
            "review_comments.nodes.0.comments.totalCount",
            101,
            {"review_comments"},
            id="long thread",
        ),
        pytest.param(
            "review_comments.nodes.0.comments.nodes.0.state",
            "PENDING",
            {"review_comments"},
            id="not submitted",
        ),
        pytest.param(
            "files.nodes.1",
            {"path": "anvil.c", "changeType": "MODIFIED", "additions": 0, "deletions": 9},
            {"files"},
            id="an item twice",
        ),
        pytest.param("reviews.nodes.0.commit", None, {"reviews"}, id="commit is gone"),
        pytest.param("files.nodes.0.changeType", "COPIED", {"files"}, id="earlier name"),
        pytest.param("files.nodes.0.additions", 0, {"files"}, id="lines not counted"),
        pytest.param("timeline.nodes.0.id", "RRE_1", {"timeline"}, id="no id"),
        pytest.param(
            "timeline.nodes.0.id",
            make_global_id("RRE", 1, 2, 3),
            {"timeline"},
            id="id of another repository",
        ),
        pytest.param("id", "PR_1", {"timeline", "commit_statuses"}, id="other ids"),
        pytest.param(f"{CHECKS}.oid", "0", {"check_runs"}, id="not the head"),
        pytest.param(f"{CHECKS}.checkSuites", None, {"check_runs"}, id="no suites"),
        pytest.param(
            "commits.nodes.0.commit.author",
            {"email": "x[bot]@users.noreply.github.com", "user": None},
            {"commits"},
            id="commit of some bot",
        ),
        pytest.param(
            "commits.nodes.0.commit.author",
            {"email": "1+Copilot@users.noreply.github.com", "user": None},
            {"commits"},
            id="commit of Copilot",
        ),
        *(
            pytest.param(name, Refused(PermissionMissingError("no")), {name}, id=f"{name} refused")
            for name in Section
        ),
    ],
)
def test_what_is_not_certain_is_left_to_rest(
    node: Json, path: str, value: Any, left: set[str]
) -> None:
    """Two more requests are better than a wrong row."""
    change(node, path, value)

    snapshot = read_snapshot(node, github_repo="acme/anvil")

    assert set(snapshot.errors) == left


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("issue_comments.nodes", [], id="empty list"),
        pytest.param("commits", {"totalCount": 0, "pageInfo": ENDS, "nodes": []}, id="no commits"),
        pytest.param("issue_comments.totalCount", 101, id="longer than it says"),
        pytest.param("check_runs.nodes", [], id="no head"),
        pytest.param(
            "files", {"totalCount": 0, "pageInfo": ENDS, "nodes": []}, id="fewer files than stated"
        ),
        pytest.param(
            "review_comments.nodes.0.comments", {"totalCount": 0, "nodes": []}, id="empty thread"
        ),
        pytest.param(f"{CHECKS}.checkSuites.nodes", [], id="empty suites"),
        pytest.param(f"{CHECKS}.checkSuites.nodes.0.checkRuns.nodes", [], id="empty suite"),
    ],
)
def test_answer_whose_counts_do_not_agree_is_not_believed(
    node: Json, path: str, value: Any
) -> None:
    """If one list is cut, the counts of the others may be wrong as well."""
    change(node, path, value)

    with pytest.raises(DisagreementError):
        check_counts(node)


@pytest.mark.parametrize(
    ("path", "value"),
    [("author", BOT), ("mergedAt", "?"), ("number", Refused(PermissionMissingError("no")))],
)
def test_pull_request_that_is_not_certain_is_left_to_rest_whole(
    node: Json, path: str, value: Any
) -> None:
    """All reviews are measured against its author."""
    change(node, path, value)

    with pytest.raises(OnlyInRestError):
        read_snapshot(node, github_repo="acme/anvil")


def test_docs_have_every_reason_to_ask_rest() -> None:
    """The page explains the requests of a backfill."""
    lines = (settings.BASE_DIR / "docs" / "backfill.md").read_text().splitlines()
    documented = {line.split(" | ")[0]: line for line in lines if line.startswith("| ")}
    any_list = " ".join(line for line in lines if line.startswith("| any |"))

    assert all(reason in any_list for reason in OF_EVERY_LIST)
    assert all(
        reason in documented[f"| `{section}`"]
        for section, reasons in REASONS.items()
        for reason in reasons
    )


@pytest.mark.parametrize(
    ("node_id", "scope", "own_id"),
    [
        pytest.param("CR_kwDOAAAAB88AAAAR7onIPg", (0, 7), 77_016_451_134, id="beyond 32 bits"),
        pytest.param("MDExOlB1bGxSZXF1ZXN0MTIzNDU=", (), 12345, id="of the older form"),
        pytest.param("MDk6UHVsbFJlcXVlc3QxMjM0NQ==", None, None, id="of no form"),
        pytest.param("U_kgDOADP9xw", None, None, id="of a user"),
        pytest.param("X_kwDOAAA", None, None, id="cut off"),
        pytest.param("X_gaFhAQ", None, None, id="a map"),
        pytest.param("X_", None, None, id="empty"),
        pytest.param("X_*", None, None, id="no base64"),
    ],
)
def test_numbers_are_read_out_of_node_ids(
    node_id: str, scope: tuple[int, ...] | None, own_id: int | None
) -> None:
    """GraphQL gives the ids of statuses and events nowhere else."""
    assert unpack_node_id(node_id) == (scope, own_id)


def test_ids_of_the_older_form_are_read(node: Json) -> None:
    """Older Enterprise servers have them, and write no others."""
    text = json.dumps(node)
    for kind, prefix in (("PullRequest", "PR"), ("StatusContext", "SC"), ("Event", "[A-Z]+E")):
        text = re.sub(rf'"{prefix}_[^"]+"', partial(write_older_id, kind), text)

    snapshot = read_snapshot(json.loads(text), github_repo="acme/anvil")

    assert snapshot.errors == {}
    assert snapshot.sections == read_snapshot(node, github_repo="acme/anvil").sections


def write_older_id(kind: str, newer: re.Match[str]) -> str:
    _, own_id = unpack_node_id(newer[0].strip('"'))
    packed = f"0{len(kind)}:{kind}{own_id}".encode()
    return f'"{base64.b64encode(packed).decode()}"'
