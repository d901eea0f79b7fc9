"""The model field whose value is encrypted in the database."""

from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from metrics_sync.conf import app_settings
from metrics_sync.exceptions import DecryptionError


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:
        raise ImproperlyConfigured(
            "TOKEN_ENCRYPTION_KEYS must be Fernet keys separated by commas. Make one with: "
            'python -c "from cryptography.fernet import Fernet; '
            'print(Fernet.generate_key().decode())"'
        ) from error


def get_fernet() -> MultiFernet:
    """Return the cipher of TOKEN_ENCRYPTION_KEYS: the first key encrypts, all decrypt.

    Raises ImproperlyConfigured when a key is not a Fernet key.
    """
    return _fernet(tuple(app_settings.TOKEN_ENCRYPTION_KEYS))


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]  # not generic at run time
    """Text that only this installation can read, encrypted with `get_fernet()`.

    The empty string is stored as it is. Reading a value that none of the keys decrypts raises
    DecryptionError: a wrong key must not look like a wrong token. Lookups by value cannot work,
    since the same text is encrypted differently each time.
    """

    def get_prep_value(self, value: Any) -> Any:
        text = super().get_prep_value(value)
        return get_fernet().encrypt(text.encode()).decode() if text else text

    def from_db_value(
        self, value: str | None, expression: Any, connection: BaseDatabaseWrapper
    ) -> str | None:
        if not value:
            return value
        try:
            return get_fernet().decrypt(value.encode()).decode()
        except InvalidToken as error:
            raise DecryptionError(
                f"{self.model.__name__}.{self.name} cannot be decrypted with any key of "
                "TOKEN_ENCRYPTION_KEYS. Add the key that encrypted it, or store the secret again."
            ) from error
