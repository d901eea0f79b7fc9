"""Moves stored secrets from old keys to the first key of TOKEN_ENCRYPTION_KEYS."""

from dataclasses import dataclass

from cryptography.fernet import InvalidToken
from django.apps import apps
from django.db.models import TextField
from django.db.models.functions import Cast

from metrics_sync.fields import EncryptedTextField, get_fernet


@dataclass(frozen=True, slots=True)
class Secret:
    """Where one encrypted value stands."""

    model: str
    field: str
    pk: int

    def __str__(self) -> str:
        return f"{self.model} {self.pk} ({self.field})"


def list_secrets() -> list[Secret]:
    """Return every secret of the app that is not empty, undecrypted."""
    return [
        Secret(model.__name__, field.name, pk)
        for model in apps.get_app_config("metrics_sync").get_models()
        for field in model._meta.get_fields()  # noqa: SLF001  (Django's public way to a model's fields)
        if isinstance(field, EncryptedTextField)
        for pk in model._default_manager.exclude(**{field.name: ""})  # noqa: SLF001
        .order_by("pk")
        .values_list("pk", flat=True)
    ]


def rotate(secret: Secret) -> bool:
    """Encrypt one secret anew; False when no key decrypts it. Safe to repeat.

    One UPDATE that only replaces the value that was read: a token that is stored meanwhile stays.
    """
    model = apps.get_model("metrics_sync", secret.model)
    rows = model._default_manager.filter(pk=secret.pk).annotate(raw=Cast(secret.field, TextField()))  # noqa: SLF001
    for old in rows.values_list("raw", flat=True):
        try:
            text = get_fernet().decrypt(old.encode()).decode()
        except InvalidToken:
            return False
        rows.filter(raw=old).update(**{secret.field: text})
    return True
