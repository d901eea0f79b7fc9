"""Writes to rows what GitHub says of pull requests and repositories."""

from metrics_sync.store.auditing import record_change
from metrics_sync.store.histories import measure_rows
from metrics_sync.store.repositories import confirm, doubt, is_own, note_gone, track_named
from metrics_sync.store.snapshots import (
    build_receipt,
    count_rows,
    follow_rename,
    list_rows,
    recall,
    recall_lists,
    save_missed_merges,
    save_number,
    save_pull_request,
    save_snapshot,
)
from metrics_sync.store.transactions import run_transaction

__all__ = [
    "build_receipt",
    "confirm",
    "count_rows",
    "doubt",
    "follow_rename",
    "is_own",
    "list_rows",
    "measure_rows",
    "note_gone",
    "recall",
    "recall_lists",
    "record_change",
    "run_transaction",
    "save_missed_merges",
    "save_number",
    "save_pull_request",
    "save_snapshot",
    "track_named",
]
