"""The state machine of the synchronization, arrow by arrow, and the other rules of one row."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from pytest_django import Settings

from metrics_sync.models import FetchRun, IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.models.states import STUCK_AFTER, SyncStatus
from metrics_sync.models.synchronized import Synchronized
from metrics_sync.snapshot import OUTDATED
from tests.factories import (
    FetchRunFactory,
    GitHubIntegrationFactory,
    IntegrationCredentialFactory,
    PullRequestFactory,
    TeamFactory,
    TrackedRepositoryFactory,
)

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - STUCK_AFTER - timedelta(seconds=1)
A_MOMENT_AGO = NOW - STUCK_AFTER + timedelta(seconds=1)

RECEIPT = {"files": {"stated": 2, "stored": 2, "result": "verified"}}

Arrow = Callable[[PullRequest, str], bool]


@pytest.fixture(autouse=True)
def stopped_clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


def make_row(**values: Any) -> PullRequest:
    """Make a merged row in any state, past `save`, which makes each merge pending."""
    row = PullRequestFactory(merged=True)
    PullRequest.objects.filter(pk=row.pk).update(**values)
    return PullRequest.objects.get(pk=row.pk)


def read_status(row: PullRequest) -> str:
    return PullRequest.objects.values_list("sync_status", flat=True).get(pk=row.pk)


ALL = set(SyncStatus)

#: Each arrow: how it is called for a job, where it leads, and from where with its own job.
ARROWS: dict[str, tuple[Arrow, str, set[SyncStatus]]] = {
    "claim": (lambda row, job: row.claim(job_id=job), "queued", ALL),
    "release_claim": (
        lambda row, job: row.release_claim(job_id=job),
        "pending",
        {SyncStatus.QUEUED},
    ),
    "mark_running": (lambda row, job: row.mark_running(job_id=job), "running", ALL),
    "mark_parked": (
        lambda row, job: row.mark_parked(job_id=job, until=NOW),
        "queued",
        ALL - {SyncStatus.RUNNING},
    ),
    "mark_untracked": (
        lambda row, job: row.mark_untracked(),
        "untracked",
        ALL - {SyncStatus.RUNNING},
    ),
    "mark_complete": (
        lambda row, job: row.mark_complete(job_id=job, refetch_at=None),
        "complete",
        {SyncStatus.RUNNING},
    ),
    "mark_partial": (
        lambda row, job: row.mark_partial(job_id=job),
        "partial",
        {SyncStatus.RUNNING},
    ),
    "mark_failed": (lambda row, job: row.mark_failed(job_id=job), "failed", {SyncStatus.RUNNING}),
    "mark_waiting": (lambda row, job: row.mark_waiting(job_id=job), "queued", {SyncStatus.RUNNING}),
    "mark_merged_late": (lambda row, job: row.mark_merged_late(), "pending", set()),
}


@pytest.mark.django_db
@pytest.mark.parametrize("status", SyncStatus)
@pytest.mark.parametrize("name", ARROWS)
def test_arrow_leaves_only_the_states_it_belongs_to(name: str, status: SyncStatus) -> None:
    """A row in a wrong state is fetched twice, or never again."""
    arrow, to, allowed = ARROWS[name]
    row = make_row(sync_status=status, sync_job_id="mine", heartbeat_at=NOW)

    moved = arrow(row, "mine")

    assert moved == (status in allowed)
    assert read_status(row) == row.sync_status == (to if moved else status)


@pytest.mark.django_db
@pytest.mark.parametrize("status", SyncStatus)
@pytest.mark.parametrize("name", sorted(ARROWS.keys() - {"claim", "mark_untracked"}))
def test_job_that_lost_its_row_moves_it_no_more(name: str, status: SyncStatus) -> None:
    """A worker that was taken for dead may finish after the worker that took over."""
    arrow, to, _ = ARROWS[name]
    row = make_row(sync_status=status, sync_job_id="somebody else's", heartbeat_at=NOW)

    moved = arrow(row, "mine")

    begins = name == "mark_running" and status != SyncStatus.RUNNING
    assert (moved, read_status(row)) == (begins, to if begins else status)


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["open", "closed"])
def test_merge_that_no_webhook_reported_makes_the_row_pending(state: str) -> None:
    """Deliveries get lost; `reconcile --discover` finds their merges."""
    row = make_row(state=state, sync_status="complete", receipt=RECEIPT, etags={"files": []})

    moved = row.mark_merged_late(state="merged", merged_at=NOW)

    row.refresh_from_db()
    assert (moved, row.state, row.sync_status, row.merged_at) == (True, "merged", "pending", NOW)
    assert row.receipt["files"]["result"] == OUTDATED


@pytest.mark.django_db
@pytest.mark.parametrize("status", SyncStatus)
def test_of_two_claims_one_wins(status: SyncStatus) -> None:
    """A signal and two reconciles may claim the same row at once."""
    first = make_row(sync_status=status, sync_job_id="old")
    second = PullRequest.objects.get(pk=first.pk)

    won = [first.claim(job_id="one"), second.claim(job_id="two")]

    first.refresh_from_db()
    assert (won, first.sync_job_id, first.queued_at) == ([True, False], "one", NOW)


@pytest.mark.django_db
def test_claim_of_a_row_that_a_worker_began_meanwhile_loses() -> None:
    """Reconcile reads a thousand rows before it claims the last of them."""
    seen = make_row(sync_status="queued", sync_job_id="job")
    PullRequest.objects.get(pk=seen.pk).mark_running(job_id="job")

    assert seen.claim(job_id="other") is False


@pytest.mark.django_db(transaction=True)
def test_of_ten_workers_at_once_one_begins() -> None:
    """Each further worker would spend seven requests on the same pull request."""
    row = make_row(sync_status="queued")
    copies = [PullRequest.objects.get(pk=row.pk) for _ in range(10)]

    def begin(number: int) -> bool:
        try:
            return copies[number].mark_running(job_id=f"job-{number}")
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        won = list(pool.map(begin, range(10)))

    assert won.count(True) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "takes_over"),
    [
        pytest.param({"heartbeat_at": LONG_AGO}, True, id="silent"),
        pytest.param(
            {"heartbeat_at": A_MOMENT_AGO, "fetch_started_at": LONG_AGO}, False, id="alive"
        ),
        pytest.param({"fetch_started_at": LONG_AGO}, True, id="never gave a sign"),
        pytest.param({"fetch_started_at": A_MOMENT_AGO}, False, id="has just begun"),
        pytest.param({}, True, id="nobody knows since when"),
    ],
)
def test_row_of_a_dead_worker_is_taken_over(values: dict[str, Any], takes_over: bool) -> None:
    """A lost machine reports nothing, so two minutes without a heartbeat must be enough."""
    row = make_row(sync_status="running", sync_job_id="dead", **values)

    assert row.mark_running(job_id="new") is takes_over


@pytest.mark.django_db
def test_start_counts_the_attempt_and_clears_the_heartbeat() -> None:
    """The heartbeat of an earlier run would make a dead run look alive."""
    row = make_row(
        sync_status="failed",
        sync_attempts=2,
        heartbeat_at=LONG_AGO,
        receipt=RECEIPT,
    )

    row.mark_running(job_id="job")

    row.refresh_from_db()
    assert (row.sync_attempts, row.fetch_started_at, row.sync_job_id) == (3, NOW, "job")
    assert row.heartbeat_at is None
    assert row.receipt == RECEIPT


@pytest.mark.django_db
@pytest.mark.parametrize(("arrow", "attempts"), [("claim", 0), ("mark_running", 1)])
def test_complete_row_is_fetched_whole_again(arrow: str, attempts: int) -> None:
    """An old proof may not hold any more; the numbers stay until the fetch ends."""
    row = make_row(sync_status="complete", sync_attempts=5, receipt=RECEIPT)

    getattr(row, arrow)(job_id="job")

    row.refresh_from_db()
    assert row.receipt == {"files": {"stated": 2, "stored": 2, "result": "outdated"}}
    assert row.sync_attempts == attempts


@pytest.mark.django_db
def test_released_claim_is_as_if_never_queued() -> None:
    """Redis was down: reconcile must find the row without waiting two minutes."""
    row = make_row(sync_status="pending")
    row.claim(job_id="job")

    row.release_claim(job_id="job")

    row.refresh_from_db()
    assert (row.sync_status, row.queued_at) == ("pending", None)


@pytest.mark.django_db
@pytest.mark.parametrize("arrow", ["complete", "partial", "failed", "waiting"])
def test_end_of_a_run_clears_the_heartbeat_and_keeps_its_results(arrow: str) -> None:
    """Otherwise the next run would look alive before its first heartbeat."""
    row = make_row(sync_status="running", sync_job_id="job", heartbeat_at=A_MOMENT_AGO)

    options = {"refetch_at": None} if arrow == "complete" else {}
    getattr(row, f"mark_{arrow}")(job_id="job", sync_error="reviews: 502", **options)

    row.refresh_from_db()
    assert (row.heartbeat_at, row.sync_error) == (None, "reviews: 502")


@pytest.mark.django_db
@pytest.mark.parametrize("arrow", ["complete", "partial", "failed", "waiting"])
def test_run_that_ends_with_others_leaves_the_row_as_one_alone(arrow: str) -> None:
    """A backfill stores many at once, and the clock must find no difference."""
    values = {"sync_status": "failed", "sync_attempts": 2, "retry_at": LONG_AGO, "failures": 1}
    alone, *together = (make_row(**values) for _ in range(3))
    alone.claim(job_id="job")
    alone.mark_running(job_id="job")
    getattr(alone, f"mark_{arrow}")(job_id="job", refetch_at=NOW, sync_error="reviews: 502")

    begun = PullRequest.begin_together(together, job_id="job")
    ends = {"refetch_at": NOW, "sync_error": "reviews: 502"}
    PullRequest.finish_together([(row, SyncStatus(alone.sync_status), ends) for row in begun])

    names = [field.name for field in Synchronized._meta.fields]
    expected, *found = (
        PullRequest.objects.values(*names).get(pk=row.pk) for row in (alone, *begun)
    )
    assert found == [expected] * 2
    assert {(row.sync_status, row.heartbeat_at) for row in begun} == {(alone.sync_status, None)}


@pytest.mark.django_db
def test_complete_clears_the_retry_and_keeps_the_first_completion() -> None:
    """The first completion measures how long the data took to arrive."""
    row = make_row(
        sync_status="running", sync_job_id="job", completed_at=LONG_AGO, retry_at=NOW, title="Old"
    )

    row.mark_complete(job_id="job", refetch_at=NOW, title="New")

    row.refresh_from_db()
    assert (row.completed_at, row.retry_at, row.title) == (LONG_AGO, None, "New")


@pytest.mark.django_db
def test_parked_row_says_until_when() -> None:
    """The team sees why the row is not fetched."""
    row = make_row(sync_status="queued", sync_job_id="job")

    row.mark_parked(job_id="job", until=NOW)

    row.refresh_from_db()
    assert row.sync_error == "waits for GitHub's rate limit until 2026-03-02 12:00:00 UTC"


@pytest.mark.django_db
@pytest.mark.parametrize("fields", [None, ["state"], ["state", "sync_status"]])
def test_merge_makes_the_row_pending(fields: list[str] | None) -> None:
    """A merge must be fetched, whichever code saves it and whichever fields it saves."""
    row = PullRequestFactory(receipt=RECEIPT, sync_status="complete", completed_at=NOW)
    row.state = "merged"

    row.save(update_fields=fields)

    row.refresh_from_db()
    assert (row.sync_status, row.receipt["files"]["result"]) == ("pending", OUTDATED)
    assert row.completed_at is None


@pytest.mark.django_db
def test_new_row_of_a_merge_is_pending() -> None:
    """The delivery of the merge may be the first about a pull request."""
    row = PullRequestFactory(state="merged")

    assert read_status(row) == "pending"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "load",
    [
        pytest.param(lambda rows: rows.get(), id="whole"),
        pytest.param(lambda rows: rows.only("title").get(), id="without its state"),
        pytest.param(lambda rows: rows.defer("state").get(), id="with its state deferred"),
    ],
)
def test_saving_a_merged_row_again_leaves_its_status(load: Callable[[Any], PullRequest]) -> None:
    """Otherwise each edit of a title would cause a new fetch."""
    make_row(sync_status="complete", receipt=RECEIPT)
    row = load(PullRequest.objects.all())
    row.title = "Edited"

    row.save()

    row = PullRequest.objects.get()
    assert (row.sync_status, row.receipt, row.title) == ("complete", RECEIPT, "Edited")


@pytest.mark.django_db
def test_merge_read_from_the_database_is_not_new() -> None:
    """An object from before the merge may be refreshed and saved."""
    row = PullRequestFactory()
    PullRequest.objects.update(state="merged", sync_status="complete")
    row.refresh_from_db()

    row.save()

    assert (row.is_new_merge(None), read_status(row)) == (False, "complete")


@pytest.mark.django_db
def test_second_save_of_a_merge_is_not_a_new_merge() -> None:
    """The object that saved the merge may be saved again after a worker took the row."""
    row = PullRequestFactory()
    row.state = "merged"
    row.save()
    row.sync_status = "queued"

    row.save()

    assert read_status(row) == "queued"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "is_missing"),
    [
        pytest.param({"sync_status": "idle"}, True, id="idle"),
        pytest.param({"sync_status": "pending"}, True, id="pending"),
        pytest.param({"sync_status": "untracked"}, True, id="tracked now"),
        pytest.param({"sync_status": "failed", "github_pr_number": None}, True, id="nameless"),
        pytest.param({"sync_status": "complete", "github_pr_number": None}, True, id="of old"),
        pytest.param({"sync_status": "queued", "github_pr_number": None}, False, id="on its way"),
        pytest.param({"sync_status": "complete"}, False, id="complete"),
        pytest.param({"sync_status": "failed"}, False, id="failed"),
    ],
)
def test_missing_rows_are_those_that_nobody_has_queued(
    values: dict[str, Any], is_missing: bool
) -> None:
    """Each status has its own way out; a row with two reasons would be queued twice."""
    row = make_row(**values)
    TrackedRepositoryFactory(team=row.team, full_name=row.github_repo)

    assert PullRequest.objects.missing().exists() is is_missing


@pytest.mark.django_db
def test_untracked_row_is_not_missing_before_its_repository_is_tracked() -> None:
    """Reconcile would try to queue it every minute."""
    make_row(sync_status="untracked")

    assert not PullRequest.objects.missing().exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "is_tracked"),
    [
        pytest.param({}, True, id="tracked"),
        pytest.param({"full_name": "ACME/Anvil"}, True, id="in another case"),
        pytest.param({"is_active": False}, False, id="not active"),
        pytest.param({"full_name": "acme/anvil-2"}, False, id="another name"),
    ],
)
def test_repositories_match_by_name_whatever_its_case(
    values: dict[str, Any], is_tracked: bool
) -> None:
    """GitHub accepts a name in any case, and answers with its own."""
    row = PullRequestFactory(github_repo="acme/anvil")
    TrackedRepositoryFactory(**{"team": row.team, "full_name": "acme/anvil", **values})

    assert PullRequest.objects.tracked().exists() is is_tracked
    assert TrackedRepository.objects.matching(row).exists() is is_tracked


@pytest.mark.django_db
def test_repository_of_another_team_does_not_match() -> None:
    """Its token belongs to that team."""
    row = PullRequestFactory()
    TrackedRepositoryFactory(full_name=row.github_repo)

    assert not TrackedRepository.objects.matching(row).exists()
    assert not PullRequest.objects.tracked().exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "is_stuck"),
    [
        ({"sync_status": "queued", "queued_at": LONG_AGO}, True),
        ({"sync_status": "queued", "queued_at": None}, True),
        ({"sync_status": "queued", "queued_at": A_MOMENT_AGO}, False),
        ({"sync_status": "failed", "queued_at": LONG_AGO}, False),
    ],
)
def test_only_rows_queued_long_ago_may_be_stuck(values: dict[str, Any], is_stuck: bool) -> None:
    """A row is claimed a moment before its job is in Redis."""
    make_row(**values)

    assert PullRequest.objects.queued_before(NOW - STUCK_AFTER).exists() is is_stuck


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "is_outdated"),
    [
        ({"sync_status": "complete", "refetch_at": NOW}, True),
        ({"sync_status": "complete", "refetch_at": NOW + timedelta(seconds=1)}, False),
        ({"sync_status": "complete", "refetch_at": None}, False),
        ({"sync_status": "running", "refetch_at": NOW}, False),
    ],
)
def test_complete_rows_are_outdated_from_their_time_on(
    values: dict[str, Any], is_outdated: bool
) -> None:
    """People comment after the merge, too."""
    make_row(**values)

    assert PullRequest.objects.outdated(NOW).exists() is is_outdated


@pytest.mark.django_db
def test_rows_of_a_repository_are_its_own_and_those_of_its_name_without_one() -> None:
    """Otherwise another repository's row would be overwritten, or a row written twice."""
    mine, other = (TrackedRepositoryFactory(full_name=f"acme/{name}") for name in ("anvil", "saw"))
    own = PullRequestFactory(repository=mine, github_repo="acme/before-its-rename")
    PullRequestFactory(repository=other, github_repo="acme/anvil")
    nobodys = PullRequestFactory(repository=None, github_repo="Acme/Anvil")

    found = PullRequest.objects.of_repository(mine, "acme/anvil")
    found_by_name = PullRequest.objects.of_repository(None, "acme/anvil")

    assert (set(found), list(found_by_name)) == ({own, nobodys}, [nobodys])


@pytest.mark.django_db
def test_pull_requests_are_narrowed_to_repositories_in_any_case() -> None:
    """Operators type names as they remember them."""
    wanted = PullRequestFactory(github_repo="acme/anvil")
    PullRequestFactory(github_repo="acme/rocket")

    assert PullRequest.objects.in_repositories(["ACME/Anvil", "acme/none"]).get() == wanted


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["github_pr_id", "github_pr_number"])
def test_team_has_a_pull_request_once(name: str) -> None:
    """Two rows of one pull request would count it twice."""
    row = PullRequestFactory()

    with pytest.raises(IntegrityError), transaction.atomic():
        PullRequestFactory(team=row.team, **{name: getattr(row, name)})
    PullRequestFactory(**{name: getattr(row, name)})


@pytest.mark.django_db
def test_rows_without_a_number_do_not_collide() -> None:
    """Rows from before the column existed wait for reconcile to find their numbers."""
    team = TeamFactory()

    rows = PullRequestFactory.create_batch(2, team=team, github_pr_number=None)

    assert [str(row) for row in rows] == ["acme/anvil#?"] * 2


@pytest.mark.parametrize(
    "name",
    ["acme", "acme/", "/anvil", "acme/anvil/pulls", "https://github.com/acme/anvil", "a/b\n"],
)
def test_repository_must_be_named_with_its_owner(name: str) -> None:
    """Half a name or a pasted address would match nothing, without any error."""
    repository = TrackedRepository(full_name=name)

    with pytest.raises(ValidationError, match="OWNER/NAME"):
        repository.clean_fields(exclude=["team", "integration"])


@pytest.mark.django_db
def test_first_refusal_of_a_token_is_kept() -> None:
    """The time tells the operator when something changed."""
    credential = IntegrationCredentialFactory()
    credential.mark_revoked()

    with time_machine.travel(NOW + timedelta(days=1), tick=False):
        IntegrationCredential.objects.get().mark_revoked()

    credential.refresh_from_db()
    assert credential.revoked_at == NOW


@pytest.mark.django_db
def test_new_token_clears_what_was_known_of_the_old_one() -> None:
    """A refusal of the old token would keep the new one from being used."""
    credential = IntegrationCredentialFactory(
        revoked_at=NOW, wait_until=NOW, rate_limit_remaining=0, rate_limit_resets_at=NOW
    )

    credential.store_token("ghp_new")

    credential.refresh_from_db()
    assert (credential.access_token, credential.revoked_at) == ("ghp_new", None)
    assert (credential.wait_until, credential.find_pause()) == (None, None)
    assert (credential.rate_limit_remaining, credential.rate_limit_resets_at) == (None, None)


@pytest.mark.django_db
def test_integration_has_its_own_address_and_secret() -> None:
    """A delivery for one team cannot be signed for another."""
    first, second = (
        GitHubIntegrationFactory._meta.model(
            team=credential.team, credential=credential, organization_slug="acme"
        )
        for credential in IntegrationCredentialFactory.create_batch(2)
    )

    assert first.get_webhook_path() == f"/webhooks/github/{first.uuid}/"
    assert first.get_webhook_path() != second.get_webhook_path()
    assert len(first.webhook_secret) >= 40
    assert first.webhook_secret != second.webhook_secret


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("api_url", "root"),
    [
        ("", "https://api.github.com"),
        ("https://ghe.acme.com/api/v3/", "https://ghe.acme.com/api/v3"),
    ],
)
def test_api_root_is_the_integrations_own_or_the_common_one(
    settings: Settings, api_url: str, root: str
) -> None:
    """One service can serve teams on github.com and on GitHub Enterprise."""
    settings.METRICS_SYNC_GITHUB_API_URL = "https://api.github.com"

    assert GitHubIntegrationFactory(api_url=api_url).get_api_root() == root


@pytest.mark.django_db
def test_run_that_never_ended_is_closed_by_the_next() -> None:
    """The run would look active for ever; runs of other rows stay."""
    row = PullRequestFactory()
    killed = FetchRunFactory(pull_request=row)
    ended = FetchRunFactory(pull_request=row, status="partial")
    other = FetchRunFactory()

    FetchRun.start(row, job_id="job")

    runs = dict(FetchRun.objects.values_list("pk", "status"))
    assert [runs[run.pk] for run in (killed, ended, other)] == ["failed", "partial", "running"]
    killed.refresh_from_db()
    assert (killed.finished_at, killed.errors) == (NOW, ["fetch: the process ended without a word"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "kept"), [("complete", "complete"), ("pending", "failed"), ("partial", "failed")]
)
def test_row_that_github_does_not_list_stays_complete_if_it_was(status: str, kept: str) -> None:
    """Verified data are kept when the repository disappears."""
    row = make_row(sync_status=status)

    row.mark_unlisted()

    row.refresh_from_db()
    assert (row.sync_status, row.retry_at) == (kept, NOW + timedelta(days=1))
