"""Merges whose deliveries were lost, found by asking GitHub."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from metrics_sync.heal import discovery
from metrics_sync.heal.discovery import discover, discover_lost, recover
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.observe import counting
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, make_recording
from metrics_sync.sandbox.posting import send_event
from metrics_sync.sandbox.world import Hook
from metrics_sync.snapshot import RateLimit
from tests.factories import PullRequestFactory, TrackedRepositoryFactory, move_to_github

REPOSITORY = "acme/anvil"
LONG_AGO = timezone.now() - timedelta(days=3650)


@pytest.fixture
def repository(sandbox: SandboxServer, db: None) -> TrackedRepository:
    sandbox.world.add(make_recording(REPOSITORY, 7))
    sandbox.world.add(make_recording(REPOSITORY, 8, merged=False))
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    return TrackedRepositoryFactory(full_name=REPOSITORY, **token)


def look(repository: TrackedRepository, *, dry_run: bool = False) -> tuple[int, str]:
    [(_, found, error)] = discover([repository], since=LONG_AGO, dry_run=dry_run)
    return found, error


def test_merge_that_no_webhook_reported_becomes_pending(repository: TrackedRepository) -> None:
    """Nothing else reports the merge of a lost delivery."""
    assert look(repository) == (1, "")

    row = PullRequest.objects.get()
    assert (row.github_pr_number, row.state, row.sync_status) == (7, "merged", "pending")


def test_row_that_is_open_here_and_merged_there_becomes_pending(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """The webhook of the opening arrived, and that of the merge was lost."""
    pull = sandbox.world.recording(REPOSITORY, 7).pull
    PullRequestFactory(team=repository.team, github_repo=REPOSITORY, github_pr_id=pull["id"])

    assert look(repository) == (1, "")
    assert PullRequest.objects.get().sync_status == "pending"


@pytest.mark.parametrize(
    ("bookmark", "source"),
    [
        pytest.param(None, "first_search", id="just connected"),
        pytest.param(LONG_AGO, "discovered", id="searched before"),
    ],
)
def test_first_search_after_connect_counts_no_lost_merge(
    repository: TrackedRepository, bookmark: datetime | None, source: str
) -> None:
    """The alert for lost deliveries would fire for every new repository."""
    repository.discovered_until = bookmark
    counting.take()

    look(repository)

    assert counting.take()["merges", (("source", source),)] == 1


def test_second_search_finds_nothing_new(repository: TrackedRepository) -> None:
    """The clock searches again and again."""
    assert [look(repository)[0] for _ in range(2)] == [1, 0]


def test_row_that_changed_at_github_is_fetched_again(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """After a restore, no webhook reports the comments since the backup again."""
    look(repository)
    look(repository)
    assert PullRequest.objects.get().refetch_at is None

    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull["updated_at"] = f"{timezone.now():%Y-%m-%dT%H:%M:%SZ}"
    look(repository)

    assert PullRequest.objects.get().refetch_at is not None


def test_merges_of_a_repository_that_took_the_name_are_nobodys(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """They would be counted, announced and fetched as the team's own."""
    sandbox.world.rename_repository(REPOSITORY, "acme/anvil-old")
    sandbox.world.add_repository(REPOSITORY, repository_id=99)
    sandbox.world.add(make_recording(REPOSITORY, 9, repository_id=99))

    found, error = look(repository)

    repository.refresh_from_db()
    assert (found, PullRequest.objects.count()) == (0, 0)
    assert ("another repository" in error, repository.doubted_at is not None) == (True, True)


def test_merges_of_a_renamed_repository_are_found_once(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """The event of an organization's rename never came."""
    look(repository)
    sandbox.world.rename_repository(REPOSITORY, "anew/anvil")

    found, _ = look(repository)

    repository.refresh_from_db()
    row = PullRequest.objects.get()
    assert (found, repository.full_name, row.github_repo) == (0, "anew/anvil", "anew/anvil")


def test_dry_run_counts_and_writes_nothing(repository: TrackedRepository) -> None:
    """An operator only wants to know how many merges are missing."""
    assert look(repository, dry_run=True) == (1, "")

    repository.refresh_from_db()
    assert (PullRequest.objects.count(), repository.discovered_until) == (0, None)


def test_bookmark_moves_only_after_a_whole_search(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """A search that broke off must begin at the same place again."""
    fault = sandbox.faults.add(Fault(FaultKind.STATUS, path="/pulls$", status=502))
    _, error = look(repository)
    repository.refresh_from_db()
    bookmark_after_error = repository.discovered_until
    fault.times = 0

    look(repository)

    repository.refresh_from_db()
    assert ("502" in error, bookmark_after_error) == (True, None)
    assert repository.discovered_until is not None


def test_later_searches_overlap_by_an_hour(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """GitHub's list may show a change late."""
    merged_at = timezone.now() - timedelta(minutes=70)
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull["updated_at"] = f"{merged_at:%Y-%m-%dT%H:%M:%SZ}"
    found = []
    for minutes in (5, 15):
        repository.discovered_until = timezone.now() - timedelta(minutes=minutes)
        found += [count for _, count, _ in discover([repository], since=None, dry_run=False)]

    assert found == [0, 1]


@pytest.mark.usefixtures("redis")
def test_clock_searches_every_repository(repository: TrackedRepository) -> None:
    """No operator has to remember it."""
    PullRequest.objects.all().delete()
    TrackedRepositoryFactory(full_name="acme/gone")
    TrackedRepository.objects.update(discovered_until=LONG_AGO)

    result = discover_lost()

    assert result["discovered"] == 1
    assert result["errors"][0].startswith("acme/gone: ")


@pytest.mark.usefixtures("redis")
def test_jobs_of_the_clock_that_piled_up_search_once(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """After three days without a worker 72 jobs wait, and each would list every repository."""
    for _ in range(3):
        discover_lost()
    at_once = len(sandbox.requests)
    TrackedRepository.objects.update(discovered_until=timezone.now() - timedelta(minutes=59))
    discover_lost()

    assert (at_once, len(sandbox.requests)) == (1, 2)


@pytest.fixture
def hook(sandbox: SandboxServer, repository: TrackedRepository) -> Hook:
    path = repository.integration.get_webhook_path()
    return sandbox.world.add_hook(
        f"http://127.0.0.1:1{path}", secret="x", full_name=repository.full_name
    )


def send(sandbox: SandboxServer, hook: Hook, *guids: str, hours_ago: int = 1) -> None:
    """Let deliveries fail at our webhook's address, where no server listens."""
    delivered_at = timezone.now() - timedelta(hours=hours_ago)
    for guid in guids:
        send_event(
            sandbox.world,
            hook,
            event="ping",
            payload={},
            guid=guid,
            lost=True,
            delivered_at=f"{delivered_at:%Y-%m-%dT%H:%M:%SZ}",
        )


def count_tries(sandbox: SandboxServer) -> int:
    return len([request for request in sandbox.requests if request.path.endswith("/attempts")])


def test_failed_deliveries_are_sent_again(
    sandbox: SandboxServer, repository: TrackedRepository, hook: Hook
) -> None:
    """GitHub never tries again by itself."""
    send(sandbox, hook, "too-old", hours_ago=7 * 24 + 1)
    send(sandbox, hook, "one", "two")

    [(_, count, error)] = recover([repository])

    assert (count, error, count_tries(sandbox)) == (2, "", 2)


def test_delivery_that_a_later_try_brought_is_not_sent_again(
    sandbox: SandboxServer, repository: TrackedRepository, hook: Hook
) -> None:
    """A redelivery has the same GUID."""
    send(sandbox, hook, "one")
    hook.deliveries.append(replace(hook.deliveries[0], id=10**12, status_code=202))

    [(_, count, _)] = recover([repository])

    assert (count, count_tries(sandbox)) == (0, 0)


def test_webhooks_of_others_are_left_alone(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """A repository has webhooks of other services, too."""
    other = sandbox.world.add_hook(
        "http://127.0.0.1:1/chat", secret="x", full_name=repository.full_name
    )
    send(sandbox, other, "one")

    assert [count for _, count, _ in recover([repository])] == [0]


def test_renamed_repository_is_an_error_and_not_a_success(
    sandbox: SandboxServer, repository: TrackedRepository, hook: Hook
) -> None:
    """GitHub answers the request with a redirect, which does not redeliver anything."""
    send(sandbox, hook, "one")
    sandbox.world.rename_repository(REPOSITORY, "acme/hammer")

    [(_, count, error)] = recover([repository])

    assert (count, "301" in error) == (0, True)


def test_token_that_may_not_read_webhooks_is_no_error(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """The operator may have left the permission out on purpose; discovery finds the merges."""
    sandbox.faults.add(Fault(FaultKind.PERMISSION, path="/hooks"))

    assert [(count, error) for _, count, error in recover([repository])] == [(0, "")]


@pytest.mark.usefixtures("redis")
def test_round_of_the_clock_ends_and_the_next_goes_on(
    sandbox: SandboxServer, repository: TrackedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RQ ends the job after an hour, and the last of a thousand repositories needs its turn."""
    sandbox.world.add(make_recording("acme/hammer", 1))
    TrackedRepositoryFactory(
        full_name="acme/hammer", team=repository.team, integration=repository.integration
    )
    monkeypatch.setattr(discovery, "ROUND_LASTS", timedelta(0))

    discover_lost()
    after_one = TrackedRepository.objects.exclude(discovered_until=None).count()
    discover_lost()

    after_two = TrackedRepository.objects.exclude(discovered_until=None).count()
    assert (after_one, after_two) == (1, 2)


@pytest.mark.usefixtures("redis")
def test_refused_token_is_an_error_once(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """One token of five hundred repositories is one problem."""
    sandbox.world.add(make_recording("acme/hammer", 1))
    TrackedRepositoryFactory(
        full_name="acme/hammer", team=repository.team, integration=repository.integration
    )
    sandbox.world.revoke_token(DEFAULT_TOKEN)

    result = discover_lost()

    assert len(result["errors"]) == 1
    assert "does not accept the token" in result["errors"][0]
    assert [request.path for request in sandbox.requests][1:] == ["/rate_limit"]


def test_merge_of_a_repository_made_anew_takes_the_number(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """The older row of that number would keep out the new merge for ever."""
    look(repository)
    older = PullRequest.objects.get()
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull["id"] += 1

    assert look(repository) == (1, "")

    older.refresh_from_db()
    assert (older.github_pr_number, PullRequest.objects.count()) == (None, 2)


def test_failed_deliveries_to_the_shared_endpoint_are_sent_again(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """Some installations have one webhook for all teams."""
    shared = sandbox.world.add_hook(
        "http://127.0.0.1:1/webhooks/github/", secret="x", full_name=repository.full_name
    )
    send(sandbox, shared, "one")

    assert [count for _, count, _ in recover([repository])] == [1]


def test_staging_copy_is_asked_for_nothing(
    sandbox: SandboxServer, settings: Settings, repository: TrackedRepository
) -> None:
    """It has the shared path, too, and what fails there is its own affair."""
    settings.METRICS_SYNC_BASE_URL = "https://Sync.example"
    for host in ("sync", "staging"):
        hook = sandbox.world.add_hook(
            f"https://{host}.example/webhooks/github/", secret="x", full_name=repository.full_name
        )
        send(sandbox, hook, host)

    assert [count for _, count, _ in recover([repository])] == [1]


def test_shared_endpoint_takes_nothing_of_another_github(
    sandbox: SandboxServer, settings: Settings, repository: TrackedRepository
) -> None:
    """Such deliveries would be ignored, and asked for again each hour."""
    settings.DEBUG = True
    move_to_github(repository.integration, f"{sandbox.url}/api/v3")
    shared = sandbox.world.add_hook(
        "http://127.0.0.1:1/webhooks/github/", secret="x", full_name=repository.full_name
    )
    send(sandbox, shared, "one")

    assert [count for _, count, _ in recover([repository])] == [0]


@pytest.mark.parametrize("is_default", [True, False], ids=["default root", "root of its own"])
def test_enterprise_servers_keep_deliveries_longer(
    sandbox: SandboxServer,
    settings: Settings,
    repository: TrackedRepository,
    hook: Hook,
    is_default: bool,
) -> None:
    """They have seven days of them, also where GITHUB_API_URL names such a server."""
    settings.DEBUG = True
    root = f"{sandbox.url}/api/v3"
    settings.METRICS_SYNC_GITHUB_API_URL = root if is_default else "https://api.github.com"
    move_to_github(repository.integration, "" if is_default else root)
    send(sandbox, hook, "six days old", hours_ago=6 * 24)

    assert [count for _, count, _ in recover([repository])] == [1]


def test_discovery_leaves_the_reserve(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """A search for lost merges must not use up the next merge's requests."""
    credential = repository.integration.credential
    credential.note_rate_limit(RateLimit(5000, 1005, timezone.now() + timedelta(hours=1)))

    _, error = look(repository)

    assert ("reserve" in error, sandbox.requests) == (True, [])


def test_refused_token_recovers_nothing_and_is_reported_once(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """One refused token is one line, not one line for each repository."""
    sandbox.world.revoke_token(DEFAULT_TOKEN)

    assert [(count, error) for _, count, error in recover([repository])] == [(0, "")]


def test_failed_deliveries_of_the_app_are_sent_again_once(
    app: SandboxServer, repository: TrackedRepository
) -> None:
    """The App has one webhook for all of its repositories."""
    credential = repository.integration.credential
    credential.link_installation(5, account_id=app.world.add_installation(5, "acme").account_id)
    other = TrackedRepositoryFactory(
        full_name="acme/hammer", team=repository.team, integration=repository.integration
    )
    hook = app.world.add_hook("http://127.0.0.1:1/webhooks/github/", secret="x", full_name=None)
    send(app, hook, "one", "two")

    found = [count for _, count, _ in recover([repository, other])]

    assert (found, count_tries(app)) == ([2, 0], 2)
