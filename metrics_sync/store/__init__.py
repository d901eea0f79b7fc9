"""Writes to rows what GitHub says of pull requests and repositories."""

from metrics_sync.store.auditing import record_change
from metrics_sync.store.histories import measure_rows, measure_together
from metrics_sync.store.lists import count_rows, count_rows_of, list_rows
from metrics_sync.store.pull_requests import (
    follow_rename,
    save_missed_merges,
    save_number,
    save_pull_request,
)
from metrics_sync.store.repositories import confirm, doubt, is_own, note_gone, track_named
from metrics_sync.store.snapshots import load_known, save_snapshot, save_snapshots
from metrics_sync.store.statistics import refresh_statistics
from metrics_sync.store.transactions import run_transaction
