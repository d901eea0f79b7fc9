"""Speaks to GitHub and translates its errors; the only package that knows ghapi."""

from metrics_sync.github.client import GitHub, prepare_api
from metrics_sync.github.deliveries import redeliver_failed
from metrics_sync.github.examine import (
    HookHealth,
    RepositoryHealth,
    TokenHealth,
    examine_token,
)
from metrics_sync.github.fetch import (
    Known,
    fetch_merges,
    fetch_numbers,
    fetch_pull_request,
    fetch_repository,
    fetch_snapshot,
)

__all__ = [
    "GitHub",
    "HookHealth",
    "Known",
    "RepositoryHealth",
    "TokenHealth",
    "examine_token",
    "fetch_merges",
    "fetch_numbers",
    "fetch_pull_request",
    "fetch_repository",
    "fetch_snapshot",
    "prepare_api",
    "redeliver_failed",
]
