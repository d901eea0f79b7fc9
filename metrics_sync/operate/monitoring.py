"""The metrics that Prometheus reads, as database and Redis have them at the moment of the scrape.

Nothing is kept in the process that answers, since there are several. Gauges take a bounded number
of index look-ups. Counters are the sums of all processes in Redis (observe/counting.py says why);
they start again at zero when Redis is emptied, as counters may.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import accumulate

from django.db import DatabaseError, InterfaceError
from django.db.models import Count, Exists, OuterRef
from django.utils import timezone
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.models.states import SyncStatus
from metrics_sync.observe.counting import SECONDS, Series
from metrics_sync.work.counts import read_counts, read_silent_ends, save_counts
from metrics_sync.work.inspecting import count_clocks, find_oldest_unscheduled, inspect_queue
from metrics_sync.work.queueing import BULK, MERGES
from metrics_sync.work.rounds import read_rounds

logger = logging.getLogger(__name__)

PREFIX = "metrics_sync"
UNFINISHED = [
    status for status in SyncStatus if status not in (SyncStatus.IDLE, SyncStatus.COMPLETE)
]
#: Counting stops here: what it costs must not grow with what has gone wrong.
MOST_COUNTED = 50_000
#: The window of the gauge that has all statuses.
RECENT = timedelta(days=1)

_WAITING = "Seconds that the oldest pull request has waited for a worker, without a set time."
_ROUNDS = "Seconds since the last round of this kind was completed by the clock."

#: A metric's value for each combination of its labels' values.
Values = Iterable[tuple[Sequence[str], float]]

#: Every counter: its help text, and the names of its labels.
COUNTERS = {
    "jobs_ended_silently": ("Jobs whose process ended without reporting an error.", ["queue"]),
    "merges": ("Merges that became known, by what reported them.", ["source"]),
    "github_requests": ("Requests to GitHub, by endpoint and outcome.", ["endpoint", "outcome"]),
    "webhook_answers": ("Answers to webhook deliveries.", ["endpoint", "status"]),
    "reconcile_findings": ("Pull requests that reconcile queued again.", ["reason"]),
}
#: Every histogram of seconds.
HISTOGRAMS = {
    "seconds_to_complete": ("From the merge until its data were first complete.", ["queue"]),
}


def render() -> bytes:
    """Return all metrics as Prometheus reads them.

    If the database or Redis does not answer, `metrics_sync_up` says so, and the metrics of the
    other one are there.
    """
    registry = CollectorRegistry()
    registry.register(_StoredMetrics())
    return generate_latest(registry)


class _StoredMetrics(Collector):
    def describe(self) -> Iterable[Metric]:
        """Describe nothing: the registry would ask database and Redis a second time."""
        return []

    def collect(self) -> Iterator[Metric]:
        parts: dict[str, Callable[[], list[Metric]]] = {"database": _database, "redis": _redis}
        up = GaugeMetricFamily(f"{PREFIX}_up", "Whether the part answers.", labels=["part"])
        for part, read in parts.items():
            try:
                yield from read()
            except (DatabaseError, InterfaceError, QueueUnavailableError) as error:
                logger.warning("No metrics of the %s: %s", part, error)
                up.add_metric([part], 0)
            else:
                up.add_metric([part], 1)
        yield up
        with suppress(DatabaseError, InterfaceError, QueueUnavailableError):
            # Both have to answer.
            yield _oldest_waiting()


def _database() -> list[Metric]:
    return [*_pull_requests(), *_credentials()]


def _redis() -> list[Metric]:
    # Those of this process that have been waiting for a save.
    save_counts()
    return [*_queues(), *_work(), *_counters(read_counts())]


def _gauge(name: str, text: str, values: Values, *labels: str) -> Metric:
    metric = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for label_values, value in values:
        metric.add_metric(label_values, value)
    return metric


def _pull_requests() -> Iterator[Metric]:
    now, rows = timezone.now(), PullRequest.objects.all()
    of = {status: rows.filter(sync_status=status) for status in UNFINISHED}
    counts = [([str(s)], of[s].order_by()[:MOST_COUNTED].count()) for s in UNFINISHED]
    text = f"Merged pull requests that are not complete; {MOST_COUNTED} stands for that or more."
    yield _gauge("unfinished_pull_requests", text, counts, "status")

    merged_at = {
        status: of[status].order_by("merged_at").values_list("merged_at", flat=True).first()
        for status in UNFINISHED
    }
    ages = [([str(status)], _age(merged_at[status], now)) for status in UNFINISHED]
    text = "Seconds since the oldest merge that is not complete; 0 when there is none."
    yield _gauge("oldest_unfinished_seconds", text, ages, "status")

    disagreeing = rows.disagreeing().order_by()[:MOST_COUNTED].count()
    text = "Pull requests with a list that does not have the length that GitHub states."
    yield _gauge("disagreeing_pull_requests", text, [([], disagreeing)])

    recent = rows.filter(merged_at__gt=now - RECENT).order_by().values_list("sync_status")
    found = dict(recent.annotate(count=Count("pk")))
    counts = [([str(s)], found.get(s, 0)) for s in SyncStatus if s is not SyncStatus.IDLE]
    yield _gauge("recent_pull_requests", "Merges of the last 24 hours.", counts, "status")


def _age(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


def _credentials() -> list[Metric]:
    now = timezone.now()
    # A credential without a tracked repository is disconnected, and nobody has to renew it.
    used = Exists(TrackedRepository.objects.active().filter(integration__credential=OuterRef("pk")))
    credentials = IntegrationCredential.objects.filter(used).select_related("team")
    rows = list(credentials.defer("access_token"))
    named = [([str(row.pk), row.team.slug], row) for row in rows]
    known = [(name, row) for name, row in named if row.rate_limit is not None]
    limits = [(name, row.rate_limit or 0) for name, row in known]
    left = [(name, _find_remaining(row, now)) for name, row in known]
    revoked = [(name, row.revoked_at is not None) for name, row in named]
    labels = ("credential", "team")
    return [
        _gauge("rate_limit_remaining", "Requests left of the token's hour.", left, *labels),
        _gauge("rate_limit", "Requests of the token's hour.", limits, *labels),
        _gauge("credential_revoked", "Whether GitHub refuses the token.", revoked, *labels),
    ]


def _find_remaining(credential: IntegrationCredential, now: datetime) -> int:
    """Return what is left of the token's hour, which is all of it once the hour is over."""
    limit, resets_at = credential.rate_limit or 0, credential.rate_limit_resets_at
    is_over = resets_at is not None and resets_at <= now
    return limit if is_over else credential.rate_limit_remaining or 0


def _queues() -> list[Metric]:
    now = timezone.now()
    states = [inspect_queue(name) for name in (MERGES, BULK)]
    depths = [([state.name], state.depth) for state in states]
    ages = [([state.name], _age(state.oldest_at, now)) for state in states]
    workers = [([state.name], state.workers) for state in states]
    clocks: Values = [([], count_clocks())]
    return [
        _gauge("queue_depth", "Jobs that wait for a worker.", depths, "queue"),
        _gauge("queue_oldest_seconds", "How long the oldest of them has waited.", ages, "queue"),
        _gauge("workers", "Workers with a recent heartbeat.", workers, "queue"),
        _gauge("clocks", "Clocks (rqcron) with a recent heartbeat.", clocks),
    ]


def _oldest_waiting() -> Metric:
    age = _age(find_oldest_unscheduled(), timezone.now())
    return _gauge("oldest_waiting_seconds", _WAITING, [([], age)])


def _work() -> list[Metric]:
    now = timezone.now()
    ended = read_silent_ends().count_last_day
    rounds = read_rounds()
    # A clock whose rounds never end has none.
    due = rounds.get("requeue_due")
    ages = {name: _age(done.ended_at, now) for name, done in rounds.items()}
    ages["requeue_due"] = _age(due.ended_at, now) if due else math.inf
    found = [
        ([name, what], float(count))
        for name, done in rounds.items()
        for what, count in done.found.items()
    ]
    text = "Jobs of the last 24 hours whose process ended without reporting an error."
    return [
        _gauge("silent_ends", text, [([], ended)]),
        _gauge("round_age_seconds", _ROUNDS, [([n], age) for n, age in ages.items()], "round"),
        _gauge("round_found", "What the clock's last round found.", found, "round", "what"),
    ]


def _counters(counts: Mapping[Series, float]) -> Iterator[Metric]:
    for name, (text, labels) in COUNTERS.items():
        counter = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
        for values, amount in _select(counts, name, labels):
            counter.add_metric(values, amount)
        yield counter
    for name, (text, labels) in HISTOGRAMS.items():
        histogram = HistogramMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
        sums = dict(_select(counts, f"{name}_sum", labels))
        for values, buckets in _cumulate(_select(counts, name, [*labels, "le"])).items():
            histogram.add_metric(values, buckets, sums.get(values, 0))
        yield histogram


def _select(
    counts: Mapping[Series, float], name: str, labels: list[str]
) -> Iterator[tuple[tuple[str, ...], float]]:
    for (counted, pairs), amount in counts.items():
        if counted == name:
            yield tuple(dict(pairs).get(label, "") for label in labels), amount


def _cumulate(
    counted: Iterable[tuple[tuple[str, ...], float]],
) -> dict[tuple[str, ...], list[tuple[str, float]]]:
    """Make each bucket's count include the buckets below it, as Prometheus expects."""
    apart: defaultdict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for (*values, bound), amount in counted:
        apart[tuple(values)][bound] = amount
    bounds = [*map(str, SECONDS), "+Inf"]
    return {
        values: list(zip(bounds, accumulate(found.get(bound, 0) for bound in bounds), strict=True))
        for values, found in apart.items()
    }
