"""Encrypts the stored secrets with the first key of TOKEN_ENCRYPTION_KEYS."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.apps import apps
from django.db import transaction
from django.db.models import TextField
from django.db.models.functions import Cast

from metrics_sync.conf import app_settings
from metrics_sync.fields import EncryptedTextField, get_fernet

#: Secrets of one transaction: few, so that its locks are short and an interruption costs little.
BATCH = 100


@dataclass(frozen=True, slots=True)
class Secret:
    """The place of one encrypted value, and whether the first key decrypts it now."""

    model: str
    field: str
    pk: int
    is_readable: bool

    def __str__(self) -> str:
        return f"{self.model} {self.pk} ({self.field})"


def count_secrets() -> int:
    """Count the secrets of the app that are not empty."""
    return sum(_select(*place).count() for place in _list_places())


def rotate_secrets() -> Iterator[Secret]:
    """Encrypt every secret of the app with the first key, yielding each once that is committed.

    Safe while the service runs, to interrupt at any time, and to repeat. Each batch is a
    transaction. A secret that the first key decrypts, or that is stored meanwhile, stays as it is.
    """
    for model, field in _list_places():
        last = 0
        while batch := _rotate_batch(model, field, after=last):
            last = batch[-1].pk
            yield from batch


def _list_places() -> Iterator[tuple[Any, str]]:
    for model in apps.get_app_config("metrics_sync").get_models():
        for field in model._meta.get_fields():  # noqa: SLF001  (Django's public way to a model's fields)
            if isinstance(field, EncryptedTextField):
                yield model, field.name


def _select(model: Any, field: str) -> Any:
    rows = model._default_manager.annotate(raw=Cast(field, TextField()))  # noqa: SLF001  (public)
    return rows.exclude(raw="").order_by("pk")


@transaction.atomic
def _rotate_batch(model: Any, field: str, *, after: int) -> list[Secret]:
    rows = _select(model, field)
    batch = rows.filter(pk__gt=after).values_list("pk", "raw")[:BATCH]
    return [
        Secret(model.__name__, field, pk, _rotate(rows.filter(pk=pk), field, old))
        for pk, old in batch
    ]


def _rotate(row: Any, field: str, old: str) -> bool:
    """Encrypt one value anew unless it was replaced meanwhile; False when no key decrypts it."""
    try:
        Fernet(app_settings.TOKEN_ENCRYPTION_KEYS[0]).decrypt(old.encode())
    except InvalidToken:
        try:
            text = get_fernet().decrypt(old.encode()).decode()
        except InvalidToken:
            return False
        row.filter(raw=old).update(**{field: text})
    return True
