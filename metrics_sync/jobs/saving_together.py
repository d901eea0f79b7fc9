"""Saves the snapshots of several pull requests in one transaction."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple
from uuid import uuid4

from metrics_sync import store
from metrics_sync.jobs.saving import announce_progress, build_outcome, conclude, prove, save_fetched
from metrics_sync.models import FetchRun, PullRequest
from metrics_sync.models.transitions import Outcome
from metrics_sync.snapshot import Snapshot

logger = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """A snapshot that was fetched in bulk for a row, and the number of REST requests it took."""

    row: PullRequest
    snapshot: Snapshot
    requests_made: int = 0


def save_fetched_together(fetched: Sequence[Fetched]) -> list[bool]:
    """Store snapshots of one team, each as `save_fetched` does; returns whether each was stored.

    Takes one transaction, and about as many queries as a single pull request. If that fails, each
    snapshot is stored by itself, so that one faulty snapshot does not stop the others.
    """
    outcomes = {one.row.pk: build_outcome(*one) for one in fetched}
    rows = [one.row for one in fetched]
    try:
        saved = store.run_transaction(partial(_begin_and_write, rows, outcomes))
    except Exception as error:
        # The faulty one fails again, and its error is recorded on its row.
        logger.warning("%s pull requests are stored one by one (%r)", len(rows), error)
        return [save_fetched(row, snapshot, requests_made=n) for row, snapshot, n in fetched]
    for row in rows:
        if row.pk in saved:
            row.copy_from(saved[row.pk])
    return [row.pk in saved for row in rows]


def _begin_and_write(
    rows: Iterable[PullRequest], outcomes: Mapping[int, Outcome]
) -> dict[int, PullRequest]:
    """Write the outcomes of the rows that no job has claimed meanwhile; returns them by id."""
    job_id = str(uuid4())
    begun = PullRequest.begin_together(rows, job_id=job_id)
    if not begun:
        return {}
    FetchRun.supersede(begun)
    before = [
        (row.state == PullRequest.State.MERGED, row.completed_at is not None) for row in begun
    ]
    snapshots = [snapshot for row in begun if (snapshot := outcomes[row.pk].snapshot)]
    names = store.save_snapshots(list(zip(begun, snapshots, strict=True)))
    stored = store.count_rows_of(begun)
    proven = [
        prove(row, outcomes[row.pk], set_names, stored=stored[row.pk])
        for row, set_names in zip(begun, names, strict=True)
    ]
    runs = [FetchRun(team=row.team, pull_request=row, job_id=job_id) for row in begun]
    transitions = [
        conclude(row, run, outcome, changes | metrics, job=None)
        for row, run, (changes, outcome), metrics in zip(
            begun, runs, proven, store.measure_together(begun), strict=True
        )
    ]
    PullRequest.finish_together(
        [(row, end.to, end.changes) for row, end in zip(begun, transitions, strict=True)]
    )
    FetchRun.objects.bulk_create(runs)
    for row, end, (was_merged, was_complete) in zip(begun, transitions, before, strict=True):
        announce_progress(row, end.result, was_merged=was_merged, was_complete=was_complete)
    return {row.pk: row for row in begun}
