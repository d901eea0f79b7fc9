"""The HTTP edge: verify, record, answer."""

import logging
import re
import secrets
import sys
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from django.views.defaults import server_error
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from metrics_sync import counting, monitoring, queueing, store, throttling, webhooks
from metrics_sync.exceptions import (
    DecryptionError,
    InvalidSignatureError,
    MalformedDeliveryError,
    QueueUnavailableError,
    UnsupportedContentTypeError,
)
from metrics_sync.models import GitHubIntegration
from metrics_sync.tracing import trace

logger = logging.getLogger(__name__)

REFUSALS: dict[type[Exception], int] = {
    MalformedDeliveryError: 400,
    UnreadablePostError: 400,
    InvalidSignatureError: 401,
    GitHubIntegration.DoesNotExist: 404,
    UnsupportedContentTypeError: 415,
}
#: What somebody meets who does not know the address or the secret.
GUESSES = {InvalidSignatureError, GitHubIntegration.DoesNotExist}


@csrf_exempt
@require_POST
def receive_shared_delivery(request: HttpRequest) -> HttpResponse:
    """Take a delivery signed with GITHUB_WEBHOOK_SECRET, for every team with the repository."""
    return _answer_delivery(request, uuid=None)


@csrf_exempt
@require_POST
def receive_integration_delivery(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Take a delivery signed with one integration's secret, for its own team only."""
    return _answer_delivery(request, uuid=uuid)


def _answer_delivery(request: HttpRequest, *, uuid: UUID | None) -> HttpResponse:
    endpoint = "integration" if uuid else "shared"
    with trace(delivery_id=_read_guid(request)):
        answer = _receive(request, uuid=uuid)
    counting.count("webhook_answers", endpoint=endpoint, status=str(answer.status_code))
    return answer


def _read_guid(request: HttpRequest) -> str:
    """Return the delivery's id as far as it may be one: nobody has verified it yet."""
    guid = request.headers.get("X-GitHub-Delivery", "")
    return guid if re.fullmatch(r"[\w-]{1,100}", guid, re.ASCII) else ""


def _receive(request: HttpRequest, *, uuid: UUID | None) -> HttpResponse:
    """Answer a delivery: 202, or a status that tells GitHub's log what is wrong with it.

    Nothing is written before the signature is verified. Never calls GitHub; Redis being down
    changes nothing about the answer.
    """
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return _answer(400, "Content-Length is not a number.")
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is not None and length > limit:
        return _answer(413, f"A delivery has at most {limit / 2**20:.3g} MiB.")
    integration = None
    try:
        if uuid:
            integration = GitHubIntegration.objects.get(uuid=uuid)
        secret = integration.webhook_secret if integration else settings.GITHUB_WEBHOOK_SECRET
        signature = request.headers.get("X-Hub-Signature-256")
        webhooks.check_signature_form(signature)
        webhooks.verify_signature(request.body, secret=secret, signature=signature)
        delivery = webhooks.parse_delivery(request.headers, request.body)
        if delivery.event == "ping":
            return _answer(200, "pong")
        row = store.record_delivery(delivery, integration=integration)
    except tuple(REFUSALS) as error:
        if type(error) in GUESSES and _is_guessing(request, integration):
            return _answer(429, "Too many deliveries that are not signed rightly.")
        return _answer(REFUSALS[type(error)], str(error))
    except (DecryptionError, OperationalError, InterfaceError) as error:
        logger.exception("A delivery could not be taken")
        reason = "The secret" if isinstance(error, DecryptionError) else "The database"
        return _answer(503, f"{reason} cannot be read now; ask GitHub to redeliver.")
    logger.info("Took %s of %s: %s", row, delivery.github_repo or "no repository", row.status)
    return _answer(202, row.status)


def _is_guessing(request: HttpRequest, integration: GitHubIntegration | None) -> bool:
    endpoint = str(integration.pk) if integration else "shared-or-unknown"
    return throttling.note_failure(request.META.get("REMOTE_ADDR", ""), endpoint)


def _answer(status: int, message: str) -> JsonResponse:
    headers = {"Retry-After": str(throttling.WINDOW_SECONDS)} if status == 429 else {}
    return JsonResponse({"message": message}, status=status, headers=headers)


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Lead to the dashboard."""
    return redirect("admin:index")


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that this process answers; nothing else is asked."""
    return HttpResponse("ok\n", content_type="text/plain")


def show_fault(request: HttpRequest) -> HttpResponse:
    """Answer what no view caught: 503 when it is the database's, so that people try again."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return _answer(503, "The database does not answer; try again.")
    return server_error(request)


@require_GET
def readyz(request: HttpRequest) -> JsonResponse:
    """Say whether the database and Redis answer: 200 when both do, else 503."""
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
        queueing.ping()
    except QueueUnavailableError:
        return False
    return True


@never_cache
@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Give Prometheus its text, to who has METRICS_TOKEN, and to superusers who signed in."""
    if not (_has_metrics_token(request) or request.user.is_superuser):
        answer = _answer(401, "Send METRICS_TOKEN as a bearer token, or sign in as a superuser.")
        answer["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return answer
    return HttpResponse(monitoring.render(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _has_metrics_token(request: HttpRequest) -> bool:
    token: str = settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "").encode(errors="replace")
    return bool(token) and secrets.compare_digest(given, f"Bearer {token}".encode())
