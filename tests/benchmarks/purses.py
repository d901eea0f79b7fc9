"""How long merges wait if one token's REST requests do not suffice for them."""

import time
from pathlib import Path

from django.db.models import QuerySet
from django.utils import timezone

from metrics_sync.models import GitHubIntegration, IntegrationCredential, PullRequest
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    SandboxServer,
    Token,
    World,
    build_pull_request_event,
    make_recording,
)
from tests.benchmarks.figures import Figure, find_percentile
from tests.benchmarks.stage import Stage
from tests.conftest import wait_until
from tests.factories import TrackedRepositoryFactory
from tests.procfile import Procfile

REPOSITORY = "bench/purses"
#: The merges that one token carries in an hour, and its requests.
MERGES, LIMIT = 3_000, 5_000
#: A little faster, so that the hour's limit is not reset before the last one.
A_MINUTE = 51
#: What share of an hour is measured, at the same rate.
SHARE = 15
#: One in so many has a renamed file, whose earlier name only REST has.
RENAMED_IN = 3
LONGEST_WAIT = 60


def measure(stage: Stage) -> list[Figure]:
    """Merge for a fifteenth of an hour, with a fifteenth of the requests."""
    return merge(stage, MERGES // SHARE, limit=LIMIT // SHARE)


def merge(stage: Stage, merges: int, *, limit: int) -> list[Figure]:
    """Merge pull requests at a steady rate, and read from the rows when each was complete."""
    server = SandboxServer(World(tokens=[Token(DEFAULT_TOKEN, limit_per_window=limit)])).start()
    folder = Path(stage.folder, "purses")
    folder.mkdir()
    repository = TrackedRepositoryFactory(
        full_name=REPOSITORY,
        github_repo_id=server.world.add_repository(REPOSITORY).id,
        integration__credential__access_token=DEFAULT_TOKEN,
    )
    try:
        with Procfile({**stage.environment, "GITHUB_API_URL": server.url}, folder) as service:
            service.start("web", "merges", "worker", "clock")
            _merge_evenly(service, server, repository.integration, merges)
            complete = PullRequest.objects.filter(repository=repository, sync_status="complete")
            wait_until(lambda: complete.count() == merges)
        return _list_figures(complete, server, repository.integration.credential, limit)
    finally:
        server.stop()
        repository.team.delete()


def _merge_evenly(
    service: Procfile, server: SandboxServer, hook: GitHubIntegration, merges: int
) -> None:
    started = time.monotonic()
    for number in range(1, merges + 1):
        time.sleep(max(0, started + number * 60 / A_MINUTE - time.monotonic()))
        recording = make_recording(REPOSITORY, number, seed=number)
        now = f"{timezone.now():%Y-%m-%dT%H:%M:%SZ}"
        recording.pull |= {"merged_at": now, "closed_at": now, "updated_at": now}
        if number % RENAMED_IN == 0:
            recording.files[0] |= {"status": "renamed", "previous_filename": "old.py"}
        server.world.add(recording)
        service.post(
            hook.get_webhook_path(),
            event="pull_request",
            payload=build_pull_request_event(recording, "closed"),
            secret=hook.webhook_secret,
        )


def _list_figures(
    rows: QuerySet[PullRequest],
    server: SandboxServer,
    credential: IntegrationCredential,
    limit: int,
) -> list[Figure]:
    credential.refresh_from_db()
    # GitHub's times are whole seconds, so a wait may have been a second shorter.
    waits = [
        (completed_at - merged_at).total_seconds()
        for completed_at, merged_at in rows.values_list("completed_at", "merged_at")
    ]
    left = credential.rate_limit_resets_at - timezone.now()
    name = f"{len(waits):,} merges with {limit:,} requests, {A_MINUTE} a minute"
    refused = sum(request.status in (403, 429) for request in server.requests)
    queries = sum(request.path == "/graphql" for request in server.requests)
    return [
        Figure(f"{name}: longest wait", max(waits), "s", at_most=LONGEST_WAIT),
        Figure("median wait", find_percentile(waits, 0.5), "s"),
        Figure("99th percentile", find_percentile(waits, 0.99), "s"),
        Figure("REST requests", len(server.requests) - queries, "", at_most=limit),
        Figure("queries of GraphQL", queries, ""),
        Figure("refused by GitHub", refused, "", at_most=0),
        Figure("minutes left until the reset", left.total_seconds() / 60, "min", at_least=0),
    ]
