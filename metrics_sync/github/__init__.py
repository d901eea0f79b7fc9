"""Speaks to GitHub and translates its errors; the only package that knows ghapi."""

from metrics_sync.github.app_installations import (
    InstallationItem,
    InstallationToken,
    fetch_installation,
    fetch_installation_by_id,
    fetch_installation_repositories,
    fetch_installation_token,
    sign_app_token,
)
from metrics_sync.github.budget import Budget
from metrics_sync.github.bulk import WHOLE, fetch_snapshots, list_merged
from metrics_sync.github.client import CONCURRENT_REQUESTS, GitHub
from metrics_sync.github.examine import RepositoryHealth, TokenHealth, examine_token
from metrics_sync.github.fetch import (
    REPLICATION_LAG,
    fetch_missing,
    fetch_pull_request,
    fetch_snapshot,
)
from metrics_sync.github.graphql import GraphQL, Lacks
from metrics_sync.github.only_in_rest import OnlyInRestError
from metrics_sync.github.permissions import NEEDED, OPTIONAL, list_missing_permissions
from metrics_sync.github.queries import FETCHED, estimate_points
from metrics_sync.github.redelivery import redeliver_failed, redeliver_failed_of_app
from metrics_sync.github.repository_requests import (
    fetch_merges,
    fetch_numbers,
    fetch_repository,
    fetch_repository_by_id,
)
from metrics_sync.github.transport import keep_connections, load_http, prepare_api
from metrics_sync.github.webhook_registration import HookItem, register_hook
