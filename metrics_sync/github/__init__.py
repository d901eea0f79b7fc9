"""Speaks to GitHub and translates its errors; the only package that knows ghapi."""

from metrics_sync.github.bulk import Listed, fetch_snapshots, list_merged
from metrics_sync.github.client import GitHub, load_http, prepare_api
from metrics_sync.github.deliveries import redeliver_failed
from metrics_sync.github.fetch import (
    Known,
    fetch_merges,
    fetch_numbers,
    fetch_pull_request,
    fetch_repository,
    fetch_snapshot,
)
from metrics_sync.github.graphql import GraphQL, Points
from metrics_sync.github.queries import FETCHED, LISTED, estimate_points

__all__ = [
    "FETCHED",
    "LISTED",
    "GitHub",
    "GraphQL",
    "Known",
    "Listed",
    "Points",
    "estimate_points",
    "fetch_merges",
    "fetch_numbers",
    "fetch_pull_request",
    "fetch_repository",
    "fetch_snapshot",
    "fetch_snapshots",
    "list_merged",
    "load_http",
    "prepare_api",
    "redeliver_failed",
]
