"""What “Fetch again” does with pull requests, and what it tells of it."""

from collections import Counter
from collections.abc import Iterable

from django.contrib import messages
from django.http import HttpRequest

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.queueing import enqueue_fetch

QUEUED = "Queued to be fetched again"
UNDER_WAY = "Left alone, already queued or running"


def fetch_again(
    request: HttpRequest, pull_requests: Iterable[PullRequest], *, queue_name: str
) -> None:
    """Queue the pull requests that may be fetched now, and tell the user what became of each.

    Safe to repeat. Stops at the first sign of Redis being down, and says so.
    """
    outcomes: Counter[str] = Counter()
    try:
        for pull_request in pull_requests:
            outcomes[_queue(pull_request, queue_name=queue_name)] += 1
    except QueueUnavailableError as error:
        messages.error(request, str(error))
    for outcome, count in outcomes.items():
        level = messages.SUCCESS if outcome == QUEUED else messages.WARNING
        messages.add_message(request, level, f"{outcome}: {count}.")


def _queue(pull_request: PullRequest, *, queue_name: str) -> str:
    if refusal := _find_refusal(pull_request):
        return refusal
    pull_request.forget_pages()
    return QUEUED if enqueue_fetch(pull_request, queue_name=queue_name) else UNDER_WAY


def _find_refusal(pull_request: PullRequest) -> str:
    """Return why a pull request is left as it is; empty when it may be queued."""
    status = PullRequest.SyncStatus
    if pull_request.state != PullRequest.State.MERGED:
        return "Not merged, so there is nothing to fetch yet"
    # One that is stuck there is taken over by reconcile, which asks Redis for its job.
    if pull_request.sync_status in (status.QUEUED, status.RUNNING):
        return UNDER_WAY
    if pull_request.github_pr_number is None:
        return "Without a number, which reconcile finds"
    if not TrackedRepository.objects.matching(pull_request).exists():
        return "The team does not track the repository"
    return ""
