"""Sends Django signals to the rest of the project when a pull request merged or is complete.

Both carry `pull_request` and `team`, and are sent after the commit by the process that committed.
When a receiver raises, Django logs it (`django.dispatch`), and the work goes on. A process that is
killed between the commit and the signal does not send it.
"""

from functools import partial

from django.db import transaction
from django.dispatch import Signal

from metrics_sync.models import PullRequest

#: Sent once for each pull request, when its merge is first recorded: by a webhook, by the search
#: for lost merges, or by a fetch. `merged_at` may be long ago.
pull_request_merged = Signal()

#: Sent once for each merged pull request, when it is complete for the first time, with its metrics;
#: as a rule seconds after the merge, by the worker. Later fetches send nothing.
pull_request_completed = Signal()

#: Sent after the commit when GitHub is to be asked about a tracked repository; internal.
repository_doubted = Signal()


def announce(signal: Signal, pull_request: PullRequest) -> None:
    """Send a signal once the transaction is committed, if there are receivers."""
    if signal.has_listeners(PullRequest):
        facts = {"pull_request": pull_request, "team": pull_request.team}
        transaction.on_commit(partial(signal.send_robust, sender=PullRequest, **facts))
