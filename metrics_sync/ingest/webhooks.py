"""Verifies and parses GitHub's webhook deliveries; pure, no Django."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from metrics_sync.exceptions import (
    InvalidSignatureError,
    MalformedDeliveryError,
    UnsupportedContentTypeError,
)
from metrics_sync.names import RepositoryName
from metrics_sync.snapshot import clean_json

#: The keys that identify each event's body. GitHub signs the body but not the headers, so a body
#: signed for one event must not be accepted as another event.
#: https://docs.github.com/en/webhooks/webhook-events-and-payloads
SUBJECTS: Mapping[str, frozenset[str]] = {
    "pull_request": frozenset({"pull_request", "number"}),
    "pull_request_review": frozenset({"pull_request", "review"}),
    "pull_request_review_comment": frozenset({"pull_request", "comment"}),
    "issue_comment": frozenset({"issue", "comment"}),
    "check_run": frozenset({"check_run"}),
    "status": frozenset({"sha", "context", "state"}),
    "repository": frozenset({"repository"}),
    "installation": frozenset({"installation"}),
    "installation_repositories": frozenset(
        {"installation", "repositories_added", "repositories_removed"}
    ),
}
#: Keys that identify some event; a body must not have those of another event.
TELLING = frozenset[str]().union(*SUBJECTS.values()) - {"repository", "installation", "number"}
#: All keys that these bodies may have. They have no identifying key of their own, so otherwise any
#: event with the same action would pass for one of them (`star` and `label` have `deleted`, too).
WHOLE: Mapping[str, frozenset[str]] = {
    "repository": frozenset(
        {"action", "repository", "changes", "sender", "organization", "enterprise", "installation"}
    ),
    "installation": frozenset(
        {"action", "installation", "repositories", "requester", "sender"}
        | {"organization", "enterprise"}
    ),
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event as GitHub sent it, with the parts that decide where it belongs."""

    guid: str
    event: str
    action: str
    github_repo: str
    payload: Mapping[str, Any]
    #: The payload as it was received.
    text: str

    @property
    def github_repo_id(self) -> int:
        """GitHub's id of the repository. Raises ValueError if the payload has none."""
        repository = self.payload.get("repository")
        value = repository.get("id") if isinstance(repository, Mapping) else None
        if type(value) is not int or not 0 < value < 2**63 or not self.github_repo:
            raise ValueError("repository.id or repository.full_name is missing")
        return value

    @property
    def body_hash(self) -> str:
        """SHA-256 of the body, which identifies a body that is sent again with another id."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def check_shape(self) -> None:
        """Refuse a body that was written for another event. Raises ValueError."""
        wanted = SUBJECTS.get(self.event)
        if wanted is None:
            return
        keys = self.payload.keys()
        allowed = WHOLE.get(self.event)
        if not wanted <= keys or keys & (TELLING - wanted) or (allowed and not keys <= allowed):
            raise ValueError(f"the body is not that of the event {self.event}")


def check_signature_form(signature: str | None) -> None:
    """Refuse a header that cannot be a signature, before a body of up to 25 MiB is read.

    Raises InvalidSignatureError.
    """
    if not signature or not re.fullmatch(r"sha256=[0-9a-f]{64}", signature, re.ASCII):
        raise InvalidSignatureError(
            "X-Hub-Signature-256 is missing or malformed. Set a secret for the webhook."
        )


def verify_signature(body: bytes, *, secret: str, signature: str | None) -> None:
    """Check `X-Hub-Signature-256` in constant time, before the body is parsed.

    Raises InvalidSignatureError if the signature is missing or was made with another secret, or
    if there is no secret to check against.
    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """
    expected = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    given = (signature or "").encode(errors="replace")
    if not secret or not hmac.compare_digest(expected.encode(), given):
        raise InvalidSignatureError(
            "The signature in X-Hub-Signature-256 is missing or was made with another secret."
        )


def parse_delivery(headers: Mapping[str, str], body: bytes) -> Delivery:
    """Read a delivery whose signature was verified.

    Raises UnsupportedContentTypeError, or MalformedDeliveryError with the part that is malformed.
    """
    text = _read_text(headers.get("Content-Type", ""), body)
    payload = _parse_payload(text)
    guid, event = headers.get("X-GitHub-Delivery", ""), headers.get("X-GitHub-Event", "")
    if not guid or not event:
        raise MalformedDeliveryError("X-GitHub-Delivery and X-GitHub-Event are needed.")
    action = payload.get("action") or ""
    repository = payload.get("repository") or {}
    name = (repository.get("full_name") if isinstance(repository, dict) else None) or ""
    for value, longest in ((guid, 100), (event, 100), (action, 100), (name, 255)):
        if not isinstance(value, str) or len(value) > longest or not value.isprintable():
            raise MalformedDeliveryError(
                "The headers, `action` and `repository.full_name` must be short plain text."
            )
    if name:
        try:
            RepositoryName(name)
        except ValueError as error:
            raise MalformedDeliveryError(str(error)) from error
    payload = clean_json(payload, source=text.encode())
    return Delivery(
        guid=guid, event=event, action=action, github_repo=name, payload=payload, text=text
    )


def _read_text(content_type: str, body: bytes) -> str:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in ("application/json", "application/x-www-form-urlencoded"):
        raise UnsupportedContentTypeError(
            "Set the webhook's content type to application/json; "
            "application/x-www-form-urlencoded works too."
        )
    try:
        text = body.decode()
        if media_type == "application/json":
            return text
        # The content type is not signed: JSON with `&payload=` in a comment is not a form.
        name, _, value = text.partition("=")
        if name == "payload" and "&" not in value:
            return unquote_plus(value, errors="strict")
    except ValueError as error:
        raise MalformedDeliveryError("The body is not UTF-8.") from error
    raise MalformedDeliveryError("The body is not a form with the single field `payload`.")


def _parse_payload(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedDeliveryError(f"The body is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise MalformedDeliveryError("The body is not a JSON object.")
    return payload


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
