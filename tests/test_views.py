"""The HTTP edge: every answer that it gives, and that strangers can neither write nor break it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from io import BytesIO
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpResponse
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings
from redis import Redis
from rq import Queue

from metrics_sync.ingest.throttling import MOST_FAILURES
from metrics_sync.ingest.webhooks import SUBJECTS
from metrics_sync.models import GitHubIntegration, PullRequest, TrackedRepository, WebhookDelivery
from metrics_sync.sandbox import build_pull_request_event, make_recording, sign
from metrics_sync.sandbox.shapes import make_id
from metrics_sync.work.queueing import MERGES
from tests.factories import TrackedRepositoryFactory

REPOSITORY = "acme/anvil"
SHARED = "/webhooks/github/"
UNKNOWN = "/webhooks/github/72d3162e-cc78-11e3-81ab-4c9367dc0958/"
SECRET = "shared-webhook-secret"
EVENT = build_pull_request_event(make_recording(REPOSITORY, 7), "closed")

pytestmark = pytest.mark.django_db


@pytest.fixture
def repository() -> TrackedRepository:
    return TrackedRepositoryFactory(full_name=REPOSITORY)


@pytest.fixture
def integration(repository: TrackedRepository) -> GitHubIntegration:
    return repository.integration


def post(
    payload: Any = EVENT,
    *,
    path: str = SHARED,
    secret: str | None = SECRET,
    body: bytes | None = None,
    content_type: str = "application/json",
    **headers: Any,
) -> HttpResponse:
    """Post a delivery as GitHub does; headers are named as in WSGI, e.g. `HTTP_X_GITHUB_EVENT`."""
    body = json.dumps(payload).encode() if body is None else body
    if secret is not None:
        headers.setdefault("HTTP_X_HUB_SIGNATURE_256", sign(body, secret))
    headers = {"HTTP_X_GITHUB_EVENT": "pull_request", "HTTP_X_GITHUB_DELIVERY": "guid", **headers}
    headers.setdefault("wsgi.input", BytesIO(body))
    return Client().generic("POST", path, body, content_type=content_type, **headers)


def count_rows() -> tuple[int, int]:
    return WebhookDelivery.objects.count(), PullRequest.objects.count()


@contextmanager
def break_database(error: Exception) -> Iterator[None]:
    """Let every statement fail as it does when the database is down."""

    def refuse(*args: Any) -> None:
        raise error

    with connection.execute_wrapper(refuse):
        yield


def test_merge_is_accepted_written_and_queued(
    repository: TrackedRepository,
    redis: Redis,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """Every fetch begins with these steps."""
    with django_capture_on_commit_callbacks(execute=True):
        response = post()

    assert (response.status_code, response.json()) == (202, {"message": "processed"})
    assert PullRequest.objects.get().sync_status == "queued"
    assert Queue(MERGES, connection=redis).count == 1


@pytest.mark.usefixtures("repository", "redis_down")
def test_merge_is_accepted_while_redis_is_down(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """GitHub never redelivers by itself, so a delivery must not fail because of our queue."""
    with django_capture_on_commit_callbacks(execute=True):
        response = post()

    assert response.status_code == 202
    assert PullRequest.objects.get().sync_status == "pending"


@pytest.mark.usefixtures("repository")
def test_duplicate_is_accepted() -> None:
    """Anything else would show as a failed delivery at GitHub."""
    assert [post().status_code, post().status_code] == [202, 202]
    assert count_rows() == (1, 1)


@pytest.mark.parametrize("event", ["star", "check_suite", "an event of next year"])
def test_event_that_is_not_handled_is_accepted(event: str) -> None:
    """A hook may be set to send all events."""
    response = post(HTTP_X_GITHUB_EVENT=event)

    assert (response.status_code, response.json()["message"]) == (202, "ignored")


@pytest.mark.parametrize("payload", [{"zen": "Design for failure.", "hook_id": 1}, {}])
def test_ping_is_answered_and_not_kept(payload: dict[str, Any]) -> None:
    """The ping shows an operator that address and secret are right."""
    response = post(payload, HTTP_X_GITHUB_EVENT="ping")

    assert (response.status_code, count_rows()) == (200, (0, 0))


@pytest.mark.usefixtures("repository")
def test_form_is_taken_like_json() -> None:
    """GitHub preselects the form content type for a new webhook."""
    body = urlencode({"payload": json.dumps(EVENT)}).encode()

    response = post(body=body, content_type="application/x-www-form-urlencoded")

    assert (response.status_code, count_rows()) == (202, (1, 1))


def test_integration_takes_its_own_secret_only(integration: GitHubIntegration) -> None:
    """One team's secret must not open another team's rows."""
    path = integration.get_webhook_path()
    other = TrackedRepositoryFactory(full_name=REPOSITORY).integration

    assert post(path=path, secret=other.webhook_secret).status_code == 401
    assert post(path=path, secret=SECRET).status_code == 401
    assert count_rows() == (0, 0)
    assert post(path=path, secret=integration.webhook_secret).status_code == 202
    assert PullRequest.objects.get().team == integration.team


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"secret": None}, id="missing"),
        pytest.param({"secret": "another"}, id="another secret"),
        pytest.param({"HTTP_X_HUB_SIGNATURE_256": "sha256=é\x80"}, id="not ASCII"),
        pytest.param({"secret": None, "body": b"\xff"}, id="body that is not read"),
        pytest.param({"secret": None, "content_type": "text/plain"}, id="type that is not read"),
        pytest.param({"secret": None, "HTTP_X_GITHUB_EVENT": "ping"}, id="ping"),
    ],
)
def test_wrong_signature_is_refused_and_nothing_written(headers: dict[str, Any]) -> None:
    """The signature is checked first, so that a stranger's body is not even parsed."""
    response = post(**headers)

    assert (response.status_code, count_rows()) == (401, (0, 0))


def test_repeated_wrong_signatures_are_throttled() -> None:
    """Guessing fills logs and occupies threads."""
    for _ in range(MOST_FAILURES):
        assert post(secret="another").status_code == 401

    answer = post(secret="another")

    assert (answer.status_code, answer["Retry-After"]) == (429, "60")
    assert count_rows() == (0, 0)


def test_right_signature_is_accepted_whatever_else_fails() -> None:
    """All deliveries come from GitHub's few addresses, also those of attackers."""
    for _ in range(MOST_FAILURES + 1):
        post(secret="another")

    assert post().status_code == 202


def test_body_without_a_signature_is_not_waited_for() -> None:
    """Anybody could occupy a thread by sending 25 MiB slowly."""
    answer = post(secret=None, **{"wsgi.input": _NeverRead()})

    assert answer.status_code == 401


class _NeverRead(BytesIO):
    def read(self, *args: Any) -> bytes:
        raise AssertionError("somebody waits for the body")


def test_shared_endpoint_without_a_secret_takes_nothing(settings: Settings) -> None:
    """Everybody knows the empty secret."""
    settings.METRICS_SYNC_GITHUB_WEBHOOK_SECRET = ""

    assert post(secret="").status_code == 401


@pytest.mark.parametrize("path", [UNKNOWN, f"{SHARED}not-a-uuid/"])
def test_unknown_integration_is_not_found(path: str) -> None:
    """GitHub's list then shows that the integration was deleted."""
    assert post(path=path).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", [SHARED, UNKNOWN])
def test_only_post_is_allowed(method: str, path: str) -> None:
    """A person who opens the address in a browser sees that it exists."""
    response = Client().generic(method, path)

    assert (response.status_code, response["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("length", "status"),
    [
        pytest.param(25 * 1024 * 1024 + 1, 413, id="one byte too many"),
        pytest.param(25 * 1024 * 1024, 401, id="as much as GitHub sends"),
        pytest.param("many", 400, id="not a number"),
        pytest.param("9" * 5000, 400, id="not a number that can be read"),
        pytest.param("-1", 401, id="less than nothing"),
        pytest.param("", 401, id="unknown"),
    ],
)
def test_body_may_be_as_long_as_github_sends(length: int | str, status: int) -> None:
    """A longer body is refused before it is read into memory."""
    response = post(body=b"", secret=None, CONTENT_LENGTH=str(length))

    assert response.status_code == status


class BrokenStream(BytesIO):
    def read(self, *args: Any) -> bytes:
        raise OSError("connection reset")


def test_body_that_breaks_off_is_malformed() -> None:
    """GitHub gives up after ten seconds; our service has no fault."""
    assert post(**{"wsgi.input": BrokenStream()}).status_code == 400


@pytest.mark.parametrize(
    ("options", "status"),
    [
        pytest.param({"body": b"{"}, 400, id="not JSON"),
        pytest.param({"payload": []}, 400, id="not an object"),
        pytest.param({"payload": {"action": "closed"}}, 400, id="not what the event says"),
        pytest.param({"HTTP_X_GITHUB_EVENT": ""}, 400, id="no event"),
        pytest.param({"HTTP_X_GITHUB_DELIVERY": "a" * 101}, 400, id="long delivery"),
        pytest.param({"HTTP_X_GITHUB_DELIVERY": "a\x00"}, 400, id="NUL in a header"),
        pytest.param({"content_type": "text/plain"}, 415, id="text"),
        pytest.param({"content_type": "multipart/form-data; boundary=x"}, 415, id="multipart"),
        pytest.param({"content_type": ""}, 415, id="no content type"),
    ],
)
def test_signed_but_unreadable_is_refused_with_a_reason(
    options: dict[str, Any], status: int
) -> None:
    """The operator reads the reason in GitHub's list of deliveries."""
    response = post(**options)

    assert response.status_code == status
    assert len(response.json()["message"]) > 20
    assert PullRequest.objects.count() == 0


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
@pytest.mark.parametrize("own", [False, True], ids=["shared", "integration"])
def test_database_that_is_down_answers_503_and_is_logged(
    integration: GitHubIntegration, caplog: pytest.LogCaptureFixture, error: Exception, own: bool
) -> None:
    """With 503 the delivery counts as failed at GitHub, and can be sent again."""
    path = integration.get_webhook_path() if own else SHARED

    with break_database(error):
        response = post(path=path, secret=integration.webhook_secret if own else SECRET)

    assert (response.status_code, count_rows()) == (503, (0, 0))
    assert "redeliver" in response.json()["message"]
    assert str(error) in caplog.text


def test_lost_key_is_no_wrong_signature(
    integration: GitHubIntegration, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A 401 would make the operator look for the fault at GitHub."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = ["A" * 43 + "="]

    response = post(path=integration.get_webhook_path())

    assert response.status_code == 503
    assert "TOKEN_ENCRYPTION_KEYS" in caplog.text


NOON = "2026-03-02T12:00:00Z"
#: What the events' payloads are made of, so that each value can be spoiled in turn.
SAMPLE: dict[str, Any] = {
    "action": "submitted",
    "number": 7,
    "repository": {"id": make_id(REPOSITORY, start=100_000), "full_name": REPOSITORY},
    "pull_request": {
        "id": 5,
        "number": 7,
        "state": "open",
        "title": "Heavier",
        "draft": False,
        "additions": 1,
        "user": {"id": 1, "login": "mona", "type": "User"},
        "head": {"ref": "heavier", "sha": "a"},
        "base": {"ref": "main"},
        "created_at": NOON,
        "updated_at": NOON,
        "merged_at": None,
    },
    "review": {
        "id": 6,
        "state": "approved",
        "body": None,
        "commit_id": "a",
        "user": {"id": 2, "login": "ann"},
        "submitted_at": NOON,
    },
    "issue": {"number": 7},
    "comment": {"id": 10},
    "check_run": {"head_sha": "a"},
    "installation": {"id": 8, "account": {"id": 9, "login": "acme"}},
    "repositories_added": [{"id": 2, "full_name": "acme/hammer"}],
    "repositories_removed": [{"id": 1}],
}
EVENTS = [
    *("pull_request", "pull_request_review", "pull_request_review_comment", "issue_comment"),
    *("check_run", "repository", "installation", "installation_repositories", "ping", "star"),
]


def list_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value inside."""
    if path:
        yield path
    items = enumerate(value) if isinstance(value, list) else getattr(value, "items", tuple)()
    for key, item in items:
        yield from list_paths(item, (*path, key))


def spoil(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return the sample with another value at the end of a path."""
    sample: Any = deepcopy(SAMPLE)
    place = sample
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return sample


def choose(event: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Return what GitHub sends with one event."""
    keys = {"action", "repository", *SUBJECTS.get(event, payload)}
    if event == "installation":
        keys -= {"repository"}
    return {key: value for key, value in payload.items() if key in keys}


odd_values = st.sampled_from(
    [
        *(None, True, [], {}, "", 0, -1, 1.5, 1e400, 2**31, 2**63, 10**40, "7", "\x00", "\ud800"),
        *("a" * 300, "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", [1], {"id": 1}),
        *("closed", "edited", "renamed", "deleted", "dismissed", "removed", "suspend"),
    ]
) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)
headers_strategy = st.text(st.characters(max_codepoint=255), max_size=120)
endure = hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.usefixtures("repository")
@endure
@given(event=st.sampled_from(EVENTS), path=st.sampled_from([*list_paths(SAMPLE)]), value=odd_values)
def test_no_signed_payload_causes_a_500(event: str, path: tuple[Any, ...], value: Any) -> None:
    """GitHub changes payloads without notice, and a 500 does not say what is wrong."""
    payload = choose(event, spoil(path, value))

    response = post(payload, HTTP_X_GITHUB_EVENT=event, HTTP_X_GITHUB_DELIVERY=str(uuid4()))

    assert response.status_code in {200, 202, 400}


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("event", EVENTS)
def test_sample_is_readable_as_every_event(event: str) -> None:
    """The test above would prove little with an unreadable sample."""
    response = post(choose(event, SAMPLE), HTTP_X_GITHUB_EVENT=event)

    assert response.status_code == (200 if event == "ping" else 202)


@endure
@given(
    body=st.binary(max_size=200),
    names=st.fixed_dictionaries(
        {
            "HTTP_X_GITHUB_EVENT": st.sampled_from(EVENTS) | headers_strategy,
            "HTTP_X_GITHUB_DELIVERY": headers_strategy,
            "content_type": st.just("application/json") | headers_strategy,
        },
        optional={"HTTP_X_HUB_SIGNATURE_256": headers_strategy, "CONTENT_LENGTH": headers_strategy},
    ),
    secret=st.none() | st.just(SECRET),
)
def test_no_bytes_and_no_headers_cause_a_500(
    body: bytes, names: dict[str, str], secret: str | None
) -> None:
    """Scanners post anything to any address."""
    response = post(body=body, secret=secret, **names)

    assert response.status_code in {200, 202, 400, 401, 413, 415, 429}
    assert secret or count_rows() == (0, 0)


def test_healthz_checks_nothing_else() -> None:
    """Restarting a process does not repair a database."""
    with break_database(OperationalError("gone")):
        response = Client().get("/healthz")

    assert (response.status_code, response.content) == (200, b"ok\n")


@pytest.mark.usefixtures("redis")
def test_ready_when_database_and_redis_answer() -> None:
    """The load balancer sends deliveries only to a ready process."""
    response = Client().get("/readyz")

    assert (response.status_code, response.json()) == (200, {"database": True, "redis": True})


@pytest.mark.usefixtures("redis_down")
def test_not_ready_without_redis() -> None:
    """The answer names the missing part."""
    response = Client().get("/readyz")

    assert (response.status_code, response.json()) == (503, {"database": True, "redis": False})


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
def test_not_ready_without_database(error: Exception) -> None:
    """A closed connection counts like a refused one."""
    with break_database(error):
        response = Client().get("/readyz")

    assert (response.status_code, response.json()) == (503, {"database": False, "redis": True})


@pytest.mark.django_db
@pytest.mark.parametrize("queue", [{}, {"URL": "http://127.0.0.1"}], ids=["none", "not Redis"])
def test_queue_without_an_address_is_not_ready(settings: Settings, queue: dict[str, str]) -> None:
    """A load balancer would take a 500 for a passing fault."""
    settings.RQ_QUEUES = dict.fromkeys(settings.RQ_QUEUES, queue)

    response = Client().get("/readyz")

    assert (response.status_code, response.json()) == (503, {"database": True, "redis": False})


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
def test_pages_are_only_read(path: str) -> None:
    """These pages change nothing."""
    assert Client().post(path).status_code == 405


def test_front_page_leads_to_the_summary() -> None:
    """People type the address without a path."""
    assert Client().get("/")["Location"] == "/admin/"
