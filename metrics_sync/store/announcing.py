"""Tells the rest of the project what happened to pull requests, by Django's signals.

Both are sent with `pull_request` and `team`, after the commit, in the process where it happened.
A receiver that raises breaks nothing: Django logs it (`django.dispatch`), and the work goes on. A
process that is killed between the commit and the signal does not send it.
"""

from functools import partial

from django.db import transaction
from django.dispatch import Signal

from metrics_sync.models import PullRequest

#: Sent once for each pull request, when it is first known here that it merged: by a webhook, by
#: the search for lost merges, or by a fetch. `merged_at` may be long ago.
pull_request_merged = Signal()

#: Sent once for each merged pull request, when all of it is verified for the first time, its
#: metrics included; by the worker, as a rule seconds after the merge. Later looks send nothing.
pull_request_completed = Signal()

#: Sent after the commit when GitHub is to be asked about a tracked repository; ours alone.
repository_doubted = Signal()


def announce(signal: Signal, pull_request: PullRequest) -> None:
    """Send a signal once the transaction is committed, if anybody listens."""
    if signal.has_listeners(PullRequest):
        facts = {"pull_request": pull_request, "team": pull_request.team}
        transaction.on_commit(partial(signal.send_robust, sender=PullRequest, **facts))
