"""Storing deliveries and fetches: once, completely, in any order, and for the right team."""

import hashlib
import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from metrics_sync import models, store
from metrics_sync.exceptions import GoneError, MalformedDeliveryError
from metrics_sync.ingest import record_delivery
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.jobs.saving import save_fetched
from metrics_sync.models import (
    GitHubIntegration,
    PullRequest,
    Team,
    TeamMember,
    TrackedRepository,
    WebhookDelivery,
)
from metrics_sync.sandbox import Recording, build_pull_request_event, make_recording
from metrics_sync.sandbox.payloads import build_pull_request_review_event
from metrics_sync.sandbox.shapes import event
from metrics_sync.snapshot import (
    OUTDATED,
    VERIFIED,
    Account,
    Receipt,
    Section,
    SectionResult,
    Snapshot,
    read_items,
    read_pull_request,
    read_time,
)
from metrics_sync.snapshot.values import GHOST_ID
from metrics_sync.store.accounts import save_accounts
from tests.factories import PullRequestFactory, TeamFactory, TrackedRepositoryFactory

REPOSITORY = "acme/anvil"
GHOST = {"id": GHOST_ID, "login": "ghost", "type": "User"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def repository() -> TrackedRepository:
    return TrackedRepositoryFactory(full_name=REPOSITORY)


@pytest.fixture
def integration(repository: TrackedRepository) -> GitHubIntegration:
    return repository.integration


#: Where a recording does not use the section's name.
NAMES = {Section.COMMIT_STATUSES: "statuses"}


def find(recording: Recording, section: Section) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = getattr(recording, NAMES.get(section, section))
    return items


def add_events(recording: Recording, count: int) -> Recording:
    """Replace the recording's timeline by events that are stored."""
    asked = {"name": "review_requested", "actor": recording.pull["user"], "requested_reviewer": {}}
    recording.timeline = [
        event(REPOSITORY, event_id=2**40 + n, created_at="2026-03-02T09:00:00Z", **asked)
        for n in range(count)
    ]
    return recording


@pytest.fixture
def recording() -> Recording:
    return add_events(make_recording(REPOSITORY, 7, statuses=2), 2)


def record(
    payload: dict[str, Any],
    *,
    integration: GitHubIntegration | None = None,
    event: str = "pull_request",
    guid: str = "guid",
) -> WebhookDelivery:
    """Record a delivery as the view does after parsing it."""
    name = payload.get("repository", {}).get("full_name", "")
    delivery = Delivery(guid, event, payload["action"], name, payload, json.dumps(payload))
    return record_delivery(delivery, integration=integration)


def make_event(recording: Recording, action: str = "closed", **pull: Any) -> dict[str, Any]:
    """Build the recording's event with some values changed."""
    payload = build_pull_request_event(recording, action)
    payload["pull_request"].update(pull)
    return payload


def make_snapshot(recording: Recording, **changes: SectionResult) -> Snapshot:
    """Build the result of fetching the whole recording, without some sections."""
    sections = {
        section: SectionResult(
            items=read_items(section, find(recording, section)),
            stated=len(find(recording, section)),
            result=VERIFIED,
        )
        for section in Section
    }
    sections |= {Section(name): result for name, result in changes.items()}
    pull_request = read_pull_request(recording.pull, github_repo=recording.repo)
    return Snapshot(pull_request=pull_request, sections=sections, etags={})


def save(row: PullRequest, snapshot: Snapshot) -> None:
    """Save a fetch as the job does."""
    names, snapshot = store.save_snapshot(row, snapshot)
    receipt = Receipt.from_json(row.receipt)
    row.receipt = receipt.merge(snapshot.sections, stored=store.count_rows(row)).to_json()
    row.save(update_fields=names)


def dump() -> dict[str, list[dict[str, Any]]]:
    """Return every row of the tables that deliveries and fetches write."""
    names = ("PullRequest", "TeamMember", *(model.__name__ for model in CHILDREN))
    return {name: list(getattr(models, name).objects.order_by("pk").values()) for name in names}


CHILDREN = (
    *(models.Commit, models.PRFile, models.PRCheckRun, models.PRComment, models.PRReview),
    *(models.PRTimelineEvent, models.PRCommitStatus),
)


@pytest.fixture
def row(repository: TrackedRepository, recording: Recording) -> PullRequest:
    """The recording's pull request, as the webhook of its merge left it."""
    record(make_event(recording))
    return PullRequest.objects.get()


# Deliveries.


def test_merge_is_written_and_its_delivery_kept(
    repository: TrackedRepository, recording: Recording
) -> None:
    """The original payload shows where a doubtful number came from."""
    payload = make_event(recording)

    delivery = record(payload)

    row = PullRequest.objects.get()
    assert (row.team, row.github_repo, row.github_pr_number) == (repository.team, REPOSITORY, 7)
    assert (row.state, row.sync_status, row.author_login) == ("merged", "pending", "mona")
    assert (delivery.status, json.loads(delivery.payload)) == ("processed", payload)
    assert delivery.processed_at is not None


def test_same_delivery_twice_is_written_once(row: PullRequest, recording: Recording) -> None:
    """A redelivered event of last week must not undo this week's changes."""
    PullRequest.objects.update(title="Edited since")

    record(make_event(recording))

    assert (PullRequest.objects.get().title, WebhookDelivery.objects.count()) == ("Edited since", 1)


def test_only_columns_that_a_delivery_changes_are_written(
    row: PullRequest, recording: Recording
) -> None:
    """A pull request has eighty columns, and most deliveries change a few."""
    later = row.pr_updated_at + timedelta(seconds=1)

    with CaptureQueriesContext(connection) as queries:
        record(make_event(recording, title="Anvil", updated_at=later.isoformat()), guid="later")

    [written] = [q["sql"] for q in queries if q["sql"].startswith('UPDATE "metrics_sync_pull')]
    names = re.findall(r'"(\w+)" = ', written.split(" WHERE ")[0])
    assert sorted(names) == ["etags", "pr_updated_at", "receipt", "title"]


def test_author_who_has_become_a_bot_makes_the_pull_request_one(
    row: PullRequest, recording: Recording
) -> None:
    """The row is read, with its author, before the account is written."""
    recording.pull["user"] |= {"login": "mona[bot]", "type": "Bot"}

    save_fetched(row, make_snapshot(recording))

    row.refresh_from_db()
    assert (row.author.login, row.is_by_bot) == ("mona[bot]", True)


def test_same_event_in_another_delivery_changes_nothing(
    row: PullRequest, recording: Recording
) -> None:
    """GitHub sends one event to every hook that subscribes to it."""
    before = dump()

    record(make_event(recording), guid="other")

    assert dump() == before


def test_each_endpoint_takes_the_same_guid(
    integration: GitHubIntegration, recording: Recording
) -> None:
    """The shared hook and the integration's hook get the same GUID, and neither delivery may hide
    the other.
    """
    record(make_event(recording))
    record(make_event(recording), integration=integration)

    endpoints = set(WebhookDelivery.objects.values_list("endpoint", "team"))
    assert endpoints == {("shared", None), (str(integration.uuid), integration.team_id)}


@pytest.mark.usefixtures("repository")
def test_malformed_payload_leaves_its_reason_and_nothing_else(recording: Recording) -> None:
    """The list of deliveries shows what GitHub changed without notice."""
    payload = make_event(recording, id="not a number")

    with pytest.raises(MalformedDeliveryError, match="pull_request"):
        record(payload)

    delivery = WebhookDelivery.objects.get()
    assert (delivery.status, PullRequest.objects.count()) == ("failed", 0)
    assert "not a number" in delivery.error


def test_pull_request_of_no_repository_is_malformed(
    integration: GitHubIntegration, recording: Recording
) -> None:
    """Such a row could never be fetched, found or matched."""
    payload = make_event(recording)
    del payload["repository"]

    with pytest.raises(MalformedDeliveryError, match="full_name is missing"):
        record(payload, integration=integration)

    assert PullRequest.objects.count() == 0


@pytest.mark.usefixtures("repository")
def test_partly_readable_payload_writes_no_rows(recording: Recording) -> None:
    """Otherwise a row would exist whose delivery says that nothing was written."""
    payload = build_pull_request_review_event(recording, recording.reviews[0])
    del payload["review"]["id"]

    with pytest.raises(MalformedDeliveryError):
        record(payload, event="pull_request_review")

    assert (PullRequest.objects.count(), WebhookDelivery.objects.get().status) == (0, "failed")


@pytest.mark.usefixtures("repository")
def test_redelivery_of_a_failed_delivery_is_applied(recording: Recording) -> None:
    """A redelivery, which has the same GUID, is how operators repair a failed delivery."""
    with pytest.raises(MalformedDeliveryError):
        record(make_event(recording, id=None))

    delivery = record(make_event(recording))

    assert (delivery.status, delivery.error) == ("processed", "")
    assert PullRequest.objects.count() == 1


@pytest.mark.parametrize(
    ("event", "full_name"),
    [
        pytest.param("star", REPOSITORY, id="event of no interest"),
        pytest.param("pull_request", "acme/other", id="repository that nobody tracks"),
    ],
)
def test_events_of_untracked_repositories_are_ignored(
    repository: TrackedRepository, event: str, full_name: str
) -> None:
    """An organisation's hook sends events of many repositories that no team tracks."""
    delivery = record(make_event(make_recording(full_name, 7)), event=event)

    assert (delivery.status, PullRequest.objects.count()) == ("ignored", 0)


def test_every_team_that_tracks_the_repository_has_its_own_rows(
    repository: TrackedRepository, recording: Recording
) -> None:
    """A deletion or correction by one team must not change another team's numbers."""
    other = TrackedRepositoryFactory(full_name="ACME/Anvil").team
    TrackedRepositoryFactory(full_name="acme/rocket")

    record(make_event(recording))

    teams = set(PullRequest.objects.values_list("team", "author__team"))
    assert teams == {(repository.team_id,) * 2, (other.pk, other.pk)}


def test_endpoint_of_an_integration_writes_to_its_team_only(
    integration: GitHubIntegration, recording: Recording
) -> None:
    """A person who knows one team's secret must not be able to write another team's rows."""
    TrackedRepositoryFactory(full_name=REPOSITORY)

    record(make_event(recording), integration=integration)

    assert PullRequest.objects.get().team == integration.team


OLDER, NEWER = "2026-03-01T00:00:00Z", "2026-03-09T00:00:00Z"
OPEN = {"state": "open", "merged_at": None, "closed_at": None}
CLOSED = {"state": "closed", "merged_at": None, "closed_at": OLDER}


@pytest.mark.parametrize(
    ("news", "title"),
    [
        pytest.param({"updated_at": OLDER}, "As it was", id="older"),
        pytest.param({"updated_at": NEWER}, "News", id="newer"),
        pytest.param({}, "News", id="of the same second"),
        pytest.param({"updated_at": None}, "News", id="of unknown age"),
        pytest.param({"updated_at": NEWER, **OPEN}, "News", id="newer, open"),
        pytest.param({"updated_at": NEWER, **CLOSED}, "News", id="newer, closed"),
    ],
)
def test_older_event_does_not_overwrite_a_newer_one(
    row: PullRequest, recording: Recording, news: dict[str, Any], title: str
) -> None:
    """Deliveries arrive late and in any order, and GitHub never undoes a merge."""
    PullRequest.objects.update(title="As it was")

    record(make_event(recording, "edited", title="News", **news), guid="other")

    saved = PullRequest.objects.get()
    assert (saved.title, saved.state, saved.merged_at) == (title, "merged", row.merged_at)
    assert saved.closed_at == row.closed_at


@pytest.mark.usefixtures("repository")
def test_merge_is_stored_even_from_an_older_delivery(recording: Recording) -> None:
    """A label added in the second after the merge makes a newer event than the merge."""
    record(make_event(recording, "labeled", **{"updated_at": NEWER, **OPEN}))

    record(make_event(recording, updated_at=OLDER), guid="other")

    row = PullRequest.objects.get()
    assert (row.state, row.sync_status) == ("merged", "pending")


def test_short_pull_request_does_not_erase_the_counters(
    row: PullRequest, recording: Recording
) -> None:
    """The webhooks of reviews have no counters; unknown is not zero."""
    payload = build_pull_request_review_event(recording, recording.reviews[0])

    record(payload, event="pull_request_review", guid="other")

    saved = PullRequest.objects.get()
    assert "additions" not in payload["pull_request"]
    assert saved.additions == row.additions == recording.pull["additions"]


def tell_review(recording: Recording, action: str, **values: Any) -> None:
    review = {**recording.reviews[0], **values}
    payload = build_pull_request_review_event(recording, review, action)
    record(payload, event="pull_request_review", guid=action)


def test_state_before_a_dismissal_is_kept(row: PullRequest, recording: Recording) -> None:
    """Only the first webhook has that state; without it a review round would be lost."""
    tell_review(recording, "submitted")
    tell_review(recording, "dismissed", state="dismissed")
    recording.reviews[0]["state"] = "DISMISSED"

    save(row, make_snapshot(recording))

    review = row.reviews.get(github_review_id=recording.reviews[0]["id"])
    assert (review.state, review.submitted_state) == ("dismissed", "changes_requested")


def test_review_that_was_dismissed_before_we_knew_it_stays_unknown(
    row: PullRequest, recording: Recording
) -> None:
    """A guess would count as a request for changes that nobody made."""
    recording.reviews[0]["state"] = "DISMISSED"

    save(row, make_snapshot(recording))

    states = dict(row.reviews.values_list("state", "submitted_state"))
    assert states == {"dismissed": "", "approved": "approved"}


def test_late_delivery_does_not_undo_a_dismissal(row: PullRequest, recording: Recording) -> None:
    """The late delivery adds only what the review was before its dismissal."""
    tell_review(recording, "dismissed", state="dismissed")
    tell_review(recording, "submitted")

    review = row.reviews.get()
    assert (review.state, review.submitted_state) == ("dismissed", "changes_requested")


def test_list_from_before_a_dismissal_does_not_undo_it(
    row: PullRequest, recording: Recording
) -> None:
    """The list may have been fetched before the dismissal, or from a replica that lags."""
    tell_review(recording, "dismissed", state="dismissed")

    save(row, make_snapshot(recording))

    review = row.reviews.get(github_review_id=recording.reviews[0]["id"])
    assert (review.state, review.submitted_state) == ("dismissed", "changes_requested")


ETAGS = {name: [["https://api.github.com/page", '"etag"']] for name in ("pull_request", "reviews")}
REVIEWS = {"reviews": {"stated": None, "stored": 0, "result": VERIFIED}}


def test_review_from_a_webhook_makes_the_next_fetch_full(
    row: PullRequest, recording: Recording
) -> None:
    """Otherwise GitHub calls the list unchanged, and nobody notices that our rows differ."""
    PullRequest.objects.update(etags=ETAGS, receipt=REVIEWS)

    tell_review(recording, "submitted")

    saved = PullRequest.objects.get()
    assert saved.receipt["reviews"]["result"] == OUTDATED
    assert "reviews" not in saved.etags


@pytest.mark.parametrize(
    ("values", "title", "names"),
    [
        pytest.param({}, "As fetched", set(ETAGS), id="of the same second"),
        pytest.param({"updated_at": NEWER}, "News", {"reviews"}, id="newer"),
    ],
)
def test_webhook_overwrites_only_what_is_older_than_it(
    row: PullRequest, recording: Recording, values: dict[str, Any], title: str, names: set[str]
) -> None:
    """One second can hold several events, and a fetch includes all of them."""
    PullRequest.objects.update(title="As fetched", etags=ETAGS, receipt=REVIEWS)

    record(make_event(recording, "edited", title="News", **values), guid="other")

    saved = PullRequest.objects.get()
    assert (saved.title, set(saved.etags)) == (title, names)


def test_fetch_from_before_a_webhook_does_not_overwrite_it(
    row: PullRequest, recording: Recording
) -> None:
    """The title was edited while the lists of the pull request were fetched."""
    snapshot = make_snapshot(recording)
    record(make_event(recording, "edited", title="News", updated_at=NEWER), guid="other")
    row.refresh_from_db()

    names, _ = store.save_snapshot(row, replace(snapshot, etags=ETAGS))

    assert (row.title, names, "pull_request" in row.etags) == ("News", ["etags"], False)


def test_fetch_keeps_no_etags_of_a_list_that_it_did_not_ask_for(
    row: PullRequest, recording: Recording
) -> None:
    """A webhook can drop these etags while other lists are fetched."""
    snapshot = make_snapshot(recording)
    sections = {s: result for s, result in snapshot.sections.items() if s != Section.REVIEWS}

    store.save_snapshot(row, replace(snapshot, sections=sections, etags=ETAGS))

    assert row.etags == {"pull_request": ETAGS["pull_request"]}


def test_reopened_pull_request_is_not_closed_any_more(
    repository: TrackedRepository, recording: Recording
) -> None:
    """Otherwise pages and metrics would use a time that GitHub has withdrawn."""
    record(make_event(recording, **CLOSED), guid="one")
    closed_at = PullRequest.objects.get().closed_at

    record(make_event(recording, "reopened", updated_at=NEWER, **OPEN), guid="two")

    assert closed_at is not None
    assert PullRequest.objects.get().closed_at is None


def test_lists_that_lost_rows_are_fetched_in_full(row: PullRequest, recording: Recording) -> None:
    """The old receipt would call the list proven, and GitHub would answer that it is unchanged."""
    save(row, make_snapshot(recording))
    row.etags = {**ETAGS, "files": ETAGS["reviews"]}
    row.files.first().delete()

    known = store.load_known(row)

    assert set(row.receipt) - set(known.receipt.sections) == {"files"}
    assert set(known.etags) == set(ETAGS)


def test_review_from_a_webhook_leaves_the_others(row: PullRequest, recording: Recording) -> None:
    """A delivery has one review, and says nothing of those that it does not have."""
    save(row, make_snapshot(recording))

    tell_review(recording, "submitted")

    assert row.reviews.count() == len(recording.reviews) > 1


def test_edited_review_does_not_change_its_state(row: PullRequest, recording: Recording) -> None:
    """GitHub sends this event with new reviews, too, and its state cannot be trusted."""
    tell_review(recording, "submitted")
    tell_review(recording, "edited", state="commented")

    assert row.reviews.get().state == "changes_requested"


# Fetches.


def test_fetch_is_saved_whole(row: PullRequest, recording: Recording) -> None:
    """Every item gets a row, also items whose ids need more than 32 bits."""
    save(row, make_snapshot(recording))

    counts = {section: len(find(recording, section)) for section in Section}
    assert store.count_rows(row) == counts
    review = row.reviews.get(github_review_id=recording.reviews[0]["id"])
    assert review.github_review_id > 2**31
    assert review.reviewer.github_id == recording.reviews[0]["user"]["id"] > 2**31
    assert review.submitted_at == read_time(recording.reviews[0]["submitted_at"])


def test_fetch_saved_twice_changes_nothing(row: PullRequest, recording: Recording) -> None:
    """Queues and people run a job twice when in doubt."""
    save(row, make_snapshot(recording))
    before = dump()

    save(row, make_snapshot(recording))

    assert dump() == before


@pytest.mark.parametrize("section", Section)
def test_rows_that_github_no_longer_lists_are_removed(
    row: PullRequest, recording: Recording, section: Section
) -> None:
    """Deleted comments and force-pushed commits would be counted for ever."""
    save(row, make_snapshot(recording))
    counts = store.count_rows(row)
    del find(recording, section)[0]

    save(row, make_snapshot(recording))

    assert store.count_rows(row) == {**counts, section: counts[section] - 1}


@pytest.mark.parametrize("section", Section)
def test_changed_items_are_overwritten(
    row: PullRequest, recording: Recording, section: Section
) -> None:
    """People edit comments and checks go on; the rows keep their keys."""
    save(row, make_snapshot(recording))
    pks = sorted(row["id"] for rows in dump().values() for row in rows)
    item = find(recording, section)[0]
    news = {"body": "News", "name": "News", "status": "news", "commit": {"message": "News"}}
    news |= {"requested_reviewer": {"login": "news"}, "context": "News"}
    if section is Section.FILES:
        # The status of a file is part of what tells its line from others.
        item["previous_filename"] = news.pop("status")
    item.update({key: value for key, value in news.items() if key in item})

    save(row, make_snapshot(recording))

    assert "news" in json.dumps(dump(), default=str).lower()
    assert sorted(row["id"] for rows in dump().values() for row in rows) == pks


@pytest.mark.parametrize("section", Section)
@pytest.mark.parametrize(
    "result",
    [
        pytest.param(SectionResult(error=GoneError("not there")), id="failed"),
        pytest.param(SectionResult(items=None, result=VERIFIED), id="unchanged"),
    ],
)
def test_failed_section_keeps_its_rows(
    row: PullRequest, recording: Recording, section: Section, result: SectionResult
) -> None:
    """An outage of GitHub must not delete data."""
    save(row, make_snapshot(recording))
    before = dump()

    save(row, make_snapshot(recording, **{section: result}))

    assert dump() == before


def test_part_of_a_list_that_failed_is_added(row: PullRequest, recording: Recording) -> None:
    """Partial data is better than none, and a failed fetch never removes rows."""
    save(row, make_snapshot(recording))
    whole = make_snapshot(recording).sections[Section.FILES]
    extra = replace(whole.items[0], filename="one more.py")
    result = SectionResult(items=(extra,), error=GoneError("cut off"))

    save(row, make_snapshot(recording, files=result))

    assert row.files.count() == len(whole.items) + 1


def test_stacked_pull_requests_each_keep_their_own_rows(
    row: PullRequest, repository: TrackedRepository, recording: Recording
) -> None:
    """Both contain the same commits; a commit that one loses stays in the other."""
    other = PullRequestFactory(team=repository.team, github_repo=REPOSITORY)
    store.save_snapshot(other, make_snapshot(recording))
    del recording.commits[0]

    save(row, make_snapshot(recording))

    assert (row.commits.count(), other.commits.count()) == (2, 3)


def test_pending_review_gets_its_submitted_state(row: PullRequest, recording: Recording) -> None:
    """GitHub lists the token owner's own draft before it is submitted."""
    for state in ("PENDING", "APPROVED"):
        recording.reviews[0]["state"] = state
        save(row, make_snapshot(recording))

    states = row.reviews.values_list("state", "submitted_state")
    assert set(states) == {("approved", "approved")}


def test_comments_of_both_kinds_may_have_one_id(row: PullRequest, recording: Recording) -> None:
    """GitHub numbers issue comments and review comments separately."""
    recording.review_comments[0]["id"] = recording.issue_comments[0]["id"]

    save(row, make_snapshot(recording))

    counts = store.count_rows(row)
    assert (counts[Section.ISSUE_COMMENTS], counts[Section.REVIEW_COMMENTS]) == (2, 3)


@pytest.mark.parametrize(
    ("user", "login", "commit_login"),
    [(None, "ghost", ""), (GHOST, "ghost", "ghost"), ({}, "", "")],
)
def test_deleted_accounts_are_nobody(
    row: PullRequest,
    recording: Recording,
    user: dict[str, Any] | None,
    login: str,
    commit_login: str,
) -> None:
    """One row for all deleted accounts would be the busiest reviewer; the null of a commit is no
    deleted account.
    """
    for item in (*recording.reviews, *recording.review_comments, *recording.issue_comments):
        item["user"] = user
    for commit in recording.commits:
        commit["author"] = user
    recording.pull["user"] = user

    save(row, make_snapshot(recording))

    row.refresh_from_db()
    assert (row.author, row.author_login) == (None, login)
    assert set(row.reviews.values_list("reviewer", "reviewer_login")) == {(None, login)}
    assert set(row.comments.values_list("author", "author_login")) == {(None, login)}
    assert set(row.commits.values_list("author", "author_login")) == {(None, commit_login)}


def test_person_is_one_row_under_the_latest_login(row: PullRequest, recording: Recording) -> None:
    """People change their logins and others take them; the id stays."""
    save(row, make_snapshot(recording))
    count = TeamMember.objects.count()
    for item in (recording.pull, *recording.commits):
        item["user" if item is recording.pull else "author"]["login"] = "mona-lisa"

    save(row, make_snapshot(recording))

    assert TeamMember.objects.count() == count
    assert TeamMember.objects.get(pk=row.author_id).login == "mona-lisa"


ODD = "a\x00b\ud800c\u2028🚀"
STORED = "ab?c\u2028🚀"


def spoil(value: Any) -> Any:
    """Put characters that PostgreSQL refuses into every text that people write."""
    written = {"title", "body", "message", "login", "name", "path", "filename", "ref", "slug"}
    if isinstance(value, dict):
        return {key: ODD if key in written and item else spoil(item) for key, item in value.items()}
    return [spoil(item) for item in value] if isinstance(value, list) else value


@pytest.mark.usefixtures("repository")
def test_characters_that_postgresql_refuses_are_left_out(recording: Recording) -> None:
    """One pasted NUL in a comment must not stop the whole pull request from being stored."""
    event = make_event(recording)
    record({**spoil(event), "repository": event["repository"]})
    row = PullRequest.objects.get()
    for section in Section:
        setattr(recording, NAMES.get(section, section), spoil(find(recording, section)))
    recording.pull = spoil(recording.pull)

    save(row, make_snapshot(recording))

    row.refresh_from_db()

    assert (row.title, row.head_ref, row.author_login) == (STORED,) * 3
    assert set(row.comments.values_list("body", "author__login")) == {(STORED, STORED)}
    assert row.files.get().filename == row.check_runs.first().app_slug == STORED
    assert row.commits.first().message == STORED


def count_queries(row: PullRequest, *, size: int) -> int:
    """Count the queries that save a pull request with that many items in each section."""
    names = {NAMES.get(section, section) for section in Section} - {"timeline"}
    recording = make_recording(REPOSITORY, 7, **dict.fromkeys(names, size))
    add_events(recording, size)
    row = PullRequest.objects.get(pk=row.pk)
    with CaptureQueriesContext(connection) as queries:
        save(row, make_snapshot(recording))
    return len(queries)


def test_number_of_queries_does_not_grow_with_the_number_of_items(row: PullRequest) -> None:
    """A pull request with 3,000 files must not need 3,000 queries."""
    count_queries(row, size=40)  # writes the accounts, which are only read from then on
    large = count_queries(row, size=40)
    count_queries(row, size=2)  # removes what is listed no more

    assert count_queries(row, size=2) == large


def test_only_new_or_changed_accounts_are_written() -> None:
    """A written row stays locked until the transaction ends, and workers would wait for each
    other's bots.
    """
    team, account = TeamFactory(), Account(1, "mona", is_bot=False)
    save_accounts(team, [account])

    with CaptureQueriesContext(connection) as known:
        save_accounts(team, [account])
    renamed = save_accounts(
        team, [replace(account, login="lisa"), Account(2, "hubot", is_bot=True)]
    )

    assert [query["sql"][:6] for query in known] == ["SELECT"]
    assert {row.github_id: row.login for row in renamed.values()} == {1: "lisa", 2: "hubot"}
    assert team.people.count() == 2


def test_accounts_are_written_in_the_order_of_their_ids() -> None:
    """Two transactions that write the same people in different orders deadlock."""
    team = TeamFactory()

    save_accounts(team, [Account(github_id, "mona", is_bot=False) for github_id in (5, 3, 4)])

    written = team.people.order_by("pk").values_list("github_id", flat=True)
    assert list(written) == [3, 4, 5]


# Merges that no webhook told.


def read_item(recording: Recording) -> Any:
    return read_pull_request(recording.pull, github_repo=recording.repo)


@pytest.fixture
def team() -> Team:
    return TeamFactory()


@pytest.mark.parametrize("state", [None, "open", "closed"])
def test_missed_merge_becomes_pending(team: Team, recording: Recording, state: str | None) -> None:
    """Its delivery was lost; reconcile queues the pending row."""
    item = read_item(recording)
    if state:
        PullRequestFactory(team=team, github_pr_id=item.github_pr_id, state=state)

    missed = store.save_missed_merges(team, [item])

    row = PullRequest.objects.get()
    assert (missed, row.state, row.sync_status) == (1, "merged", "pending")
    assert (row.merged_at, row.github_pr_number) == (item.merged_at, 7)
    assert row.author.login == "mona"


def test_known_merge_is_not_missed(row: PullRequest, recording: Recording) -> None:
    """Discovery searches with an overlap, and meets the same merges again."""
    PullRequest.objects.update(sync_status="complete")
    before = dump()

    missed = store.save_missed_merges(row.team, [read_item(recording)])

    assert (missed, dump()) == (0, before)


def test_same_merge_in_another_team_is_missed(row: PullRequest, recording: Recording) -> None:
    """Each team has its own rows."""
    assert store.save_missed_merges(TeamFactory(), [read_item(recording)]) == 1


def test_other_spelling_of_a_repository_is_the_same_one(repository: TrackedRepository) -> None:
    """GitHub's names ignore case, and people change the case."""
    recording = make_recording(REPOSITORY, 7)
    record(make_event(recording, "opened", merged_at=None, state="open"), guid="one")
    payload = make_event(recording)
    payload["repository"]["full_name"] = "Acme/Anvil"

    record(payload, guid="two")

    assert [row.state for row in PullRequest.objects.all()] == ["merged"]


def test_number_given_again_goes_to_the_newer_pull_request(repository: TrackedRepository) -> None:
    """The repository was deleted and created again, so two pull requests have the number 1."""
    record(make_event(make_recording(REPOSITORY, 7)), guid="one")

    row = record(make_event(make_recording(REPOSITORY, 7), id=2**40), guid="two")

    numbers = dict(PullRequest.objects.values_list("github_pr_id", "github_pr_number"))
    assert (row.status, len(numbers), numbers[2**40]) == ("processed", 2, 7)


def test_renaming_onto_a_former_repository_frees_its_numbers(
    repository: TrackedRepository,
) -> None:
    """Another repository once had the new name, and pull requests with the same numbers."""
    former = PullRequestFactory(team=repository.team, github_repo="acme/hammer", github_pr_number=7)
    row = PullRequestFactory(team=repository.team, github_repo=REPOSITORY, github_pr_number=7)

    repository.rename("acme/hammer")

    row.refresh_from_db()
    former.refresh_from_db()
    assert (row.github_repo, row.github_pr_number) == ("acme/hammer", 7)
    assert former.github_pr_number is None


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite takes values of any length")
def test_texts_may_be_as_long_as_github_has_them(row: PullRequest, recording: Recording) -> None:
    """A path may have 4,096 bytes, too many for an index row, and names have no limit."""
    path = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(60))
    recording.files[0]["filename"] = path
    recording.check_runs[0] |= {"app": {"slug": path}, "conclusion": path, "status": path}
    recording.reviews[0]["user"]["login"] = path
    recording.pull["head"]["ref"] = path

    save(row, make_snapshot(recording))

    row.refresh_from_db()
    assert row.files.filter(filename=path).exists()
    assert row.check_runs.filter(app_slug=path, conclusion=path, status=path).exists()
    assert (row.head_ref, row.reviews.filter(reviewer_login=path).count()) == (path, 1)


def test_value_that_the_database_refuses_costs_its_list_alone(
    row: PullRequest, recording: Recording
) -> None:
    """An impossible number in one file once lost the reviews, commits and checks as well."""
    save(row, make_snapshot(recording))
    before = row.files.count()
    recording.files[0]["additions"] = 2**70
    del recording.files[1], recording.commits[0]

    save(row, make_snapshot(recording))

    assert (row.files.count(), row.commits.count()) == (before, len(recording.commits))
    assert row.receipt["files"]["result"].startswith("the database refuses it: ")
    assert row.receipt["commits"]["result"] == VERIFIED


@pytest.mark.usefixtures("repository")
def test_reason_of_a_delivery_is_fit_for_the_database() -> None:
    """A NUL in an installation's login once caused an answer of 500 for every redelivery."""
    account = {"id": 5, "login": ODD}
    payload = {"action": "created", "installation": {"id": 7, "account": account}}

    delivery = record(payload, event="installation")

    delivery.refresh_from_db()
    assert (delivery.status, STORED in delivery.error) == ("ignored", True)


def test_file_whose_type_changes_is_kept_twice(row: PullRequest, recording: Recording) -> None:
    """GitHub lists the file twice under one name, as removed and as added."""
    [first, *_] = recording.files
    items = read_items(Section.FILES, [first | {"status": "removed"}])
    items += read_items(Section.FILES, [first | {"status": "added"}])

    save(row, make_snapshot(recording, files=SectionResult(items, 2, VERIFIED)))

    assert sorted(row.files.values_list("status", flat=True)) == ["added", "removed"]
