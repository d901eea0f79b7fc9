"""The views for load balancers and Prometheus."""

import secrets

from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from metrics_sync.conf import app_settings
from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.operate import monitoring
from metrics_sync.work.queues import ping


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200: this process runs. Nothing else is checked."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_GET
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 if the database and Redis answer, else 503."""
    answers = {"database": _is_database_up(), "redis": _is_redis_up()}
    return JsonResponse(answers, status=200 if all(answers.values()) else 503)


def _is_database_up() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError):
        return False
    return True


def _is_redis_up() -> bool:
    try:
        ping()
    except QueueUnavailableError:
        return False
    return True


@never_cache
@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Return Prometheus's text to whoever has METRICS_TOKEN, and to signed-in superusers."""
    if not (_has_metrics_token(request) or _is_superuser(request)):
        message = "Send METRICS_TOKEN as a bearer token, or sign in as a superuser."
        answer = JsonResponse({"message": message}, status=401)
        answer["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return answer
    return HttpResponse(monitoring.render(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _is_superuser(request: HttpRequest) -> bool:
    # A host project may have no sign-in, or users of its own without superusers.
    return bool(getattr(getattr(request, "user", None), "is_superuser", False))


def _has_metrics_token(request: HttpRequest) -> bool:
    token: str = app_settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "").encode(errors="replace")
    return bool(token) and secrets.compare_digest(given, f"Bearer {token}".encode())
