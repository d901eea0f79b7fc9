"""The action “Fetch again” and its messages."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from django.contrib import messages
from django.http import HttpRequest

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.work.abandoned import find_abandoned
from metrics_sync.work.queueing import BULK, enqueue_fetch

QUEUED = "Queued to be fetched again"
#: How many jobs one call looks up in Redis.
AT_ONCE = 1_000
UNDER_WAY = "Not queued, already queued or running"


def fetch_again(request: HttpRequest, pull_requests: Iterable[PullRequest]) -> None:
    """Queue the pull requests that may be fetched now, and report the others with a reason.

    On the bulk queue, so that no merge waits for it. Safe to repeat. Stops at the first sign of
    Redis being down, and says so.
    """
    outcomes: Counter[str] = Counter()
    rows = iter(pull_requests)
    try:
        while batch := list(islice(rows, AT_ONCE)):
            abandoned = {row.pk for row in find_abandoned([*filter(_is_under_way, batch)])}
            for row in batch:
                outcomes[_queue(row, is_abandoned=row.pk in abandoned)] += 1
    except QueueUnavailableError as error:
        messages.error(request, str(error))
    for outcome, count in outcomes.items():
        level = messages.SUCCESS if outcome == QUEUED else messages.WARNING
        messages.add_message(request, level, f"{outcome}: {count}.")


def _is_under_way(row: PullRequest) -> bool:
    status = PullRequest.SyncStatus
    return row.sync_status in (status.QUEUED, status.RUNNING)


def _queue(pull_request: PullRequest, *, is_abandoned: bool) -> str:
    if _is_under_way(pull_request) and not is_abandoned:
        return UNDER_WAY
    if refusal := _find_refusal(pull_request):
        return refusal
    pull_request.forget_pages()
    return QUEUED if enqueue_fetch(pull_request, queue_name=BULK) else UNDER_WAY


def _find_refusal(pull_request: PullRequest) -> str:
    """Return why a pull request cannot be queued; empty when it can."""
    if pull_request.state != PullRequest.State.MERGED:
        return "Not queued, not merged yet"
    if pull_request.github_pr_number is None:
        return "Not queued, without a number; reconcile finds it"
    if not TrackedRepository.objects.matching(pull_request).exists():
        return "Not queued, the team does not track the repository"
    return ""
