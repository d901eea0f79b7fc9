"""Receives webhook deliveries: verify, record, answer."""

import logging
import re
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.db.models import UUIDField
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from metrics_sync.conf import app_settings
from metrics_sync.exceptions import (
    DecryptionError,
    InvalidSignatureError,
    MalformedDeliveryError,
    UnsupportedContentTypeError,
)
from metrics_sync.ingest import record_delivery, throttling, webhooks
from metrics_sync.models import GitHubIntegration
from metrics_sync.models.prepared import Prepared, Slot
from metrics_sync.observe import counting
from metrics_sync.observe.tracing import trace

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

#: The integration that a webhook's address names. It is read for each delivery, so that a secret
#: which is replaced is refused at once.
_integration = Prepared(lambda: GitHubIntegration.objects.filter(uuid=Slot("uuid", UUIDField())))


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
            integration = _integration.get(uuid=uuid)
        secret = integration.webhook_secret if integration else app_settings.GITHUB_WEBHOOK_SECRET
        signature = request.headers.get("X-Hub-Signature-256")
        webhooks.check_signature_form(signature)
        webhooks.verify_signature(request.body, secret=secret, signature=signature)
        delivery = webhooks.parse_delivery(request.headers, request.body)
        if delivery.event == "ping":
            return _answer(200, "pong")
        row = record_delivery(delivery, integration=integration)
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
