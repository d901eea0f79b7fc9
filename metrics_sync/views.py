"""The HTTP edge: verify, record, answer."""

import logging
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.shortcuts import redirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from metrics_sync import queueing, store, webhooks
from metrics_sync.exceptions import (
    DecryptionError,
    InvalidSignatureError,
    MalformedDeliveryError,
    QueueUnavailableError,
    UnsupportedContentTypeError,
)
from metrics_sync.models import GitHubIntegration

logger = logging.getLogger(__name__)

REFUSALS: dict[type[Exception], int] = {
    MalformedDeliveryError: 400,
    UnreadablePostError: 400,
    InvalidSignatureError: 401,
    GitHubIntegration.DoesNotExist: 404,
    UnsupportedContentTypeError: 415,
}


@csrf_exempt
@require_POST
def receive_shared_delivery(request: HttpRequest) -> HttpResponse:
    """Take a delivery signed with GITHUB_WEBHOOK_SECRET, for every team with the repository."""
    return _receive(request, uuid=None)


@csrf_exempt
@require_POST
def receive_integration_delivery(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Take a delivery signed with one integration's secret, for its own team only."""
    return _receive(request, uuid=uuid)


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
    try:
        integration = GitHubIntegration.objects.get(uuid=uuid) if uuid else None
        secret = integration.webhook_secret if integration else settings.GITHUB_WEBHOOK_SECRET
        signature = request.headers.get("X-Hub-Signature-256")
        webhooks.verify_signature(request.body, secret=secret, signature=signature)
        delivery = webhooks.parse_delivery(request.headers, request.body)
        if delivery.event == "ping":
            return _answer(200, "pong")
        row = store.record_delivery(delivery, integration=integration)
    except tuple(REFUSALS) as error:
        return _answer(REFUSALS[type(error)], str(error))
    except (DecryptionError, OperationalError, InterfaceError) as error:
        logger.exception("A delivery could not be taken")
        reason = "The secret" if isinstance(error, DecryptionError) else "The database"
        return _answer(503, f"{reason} cannot be read now; ask GitHub to redeliver.")
    return _answer(202, row.status)


def _answer(status: int, message: str) -> JsonResponse:
    return JsonResponse({"message": message}, status=status)


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Lead to the dashboard."""
    return redirect("admin:index")


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """Say that this process answers; nothing else is asked."""
    return HttpResponse("ok\n", content_type="text/plain")


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
