"""Reads what every payload is made of: texts, times, counts and accounts.

The readers accept what real payloads hold, not only what the schema promises: accounts that are
null or an empty object, missing keys, null texts.
"""

import re
from datetime import UTC, datetime
from typing import Any

from metrics_sync.snapshot.items import Account, Json

#: What the readers raise for JSON that is not as GitHub writes it.
UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)

#: The first year that a time of a pull request can be in.
FIRST_YEAR = 1970

#: The account that GitHub shows in place of every deleted account, where it does not say null.
GHOST_ID = 10137
GHOST = "ghost"

#: The address that GitHub gives the commits of a bot: the account's id, and its login.
#: https://docs.github.com/en/account-and-profile/reference/email-addresses-reference
BOT_ADDRESS = re.compile(r"(?P<id>\d+)\+(?P<login>[^@]+\[bot\])@users\.noreply\.", re.IGNORECASE)

#: How JSON writes characters that PostgreSQL cannot store: NUL and unpaired surrogates.
ODD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|\xed[\xa0-\xbf]")


def clean_json(value: Any, *, source: bytes) -> Any:
    """Apply `read_text` to every text in a value that was read from JSON."""
    return _clean(value) if ODD.search(source) else value


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return read_text(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {read_text(key): _clean(item) for key, item in value.items()}
    return value


def read_text(value: str | None) -> str:
    """Return the text as PostgreSQL can store it: no NUL, no unpaired surrogate; null is empty."""
    text = (value or "").replace("\x00", "")
    return text if text.isascii() else text.encode(errors="replace").decode()


def read_time(value: Any) -> datetime | None:
    """Return a time in UTC; old payloads have other offsets, or none.

    None for anything that is no time, and for years that programs write when they know no time
    (1, or any before 1970).
    """
    try:
        moment = datetime.fromisoformat(value)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.year >= FIRST_YEAR else None


def require_time(value: Any) -> datetime:
    """Return a time that an item cannot be without. Raises ValueError."""
    moment = read_time(value)
    if moment is None:
        raise ValueError(f"no time: {value!r}")
    return moment


def read_count(value: Any) -> int | None:
    """Return a count, if an integer column can store it; None for anything else."""
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def read_account(value: Json | None) -> Account | None:
    """Return the account; None when it is deleted, null, or the empty object of unknown e-mails.

    An account is a bot by its `type` or by a login that ends in `[bot]`: the same app can appear
    with either.
    """
    if not value or not value.get("id") or value["id"] == GHOST_ID:
        return None
    login = read_login(value)
    return Account(
        github_id=value["id"],
        login=login,
        is_bot=value.get("type") == "Bot" or login.endswith("[bot]"),
    )


def read_login(value: Json | None) -> str:
    """Return the login; a deleted account is the ghost, which GitHub may also write as null."""
    return GHOST if value is None else read_text(value.get("login"))


def read_bot(git_author: Json) -> Json | None:
    """Read the account of a bot from the address that GitHub gives it, or from the author's name.

    A name that ends in `[bot]` gives no id.
    """
    if bot := BOT_ADDRESS.match(git_author.get("email") or ""):
        return {"id": int(bot["id"]), "login": bot["login"], "type": "Bot"}
    name = git_author.get("name") or ""
    return {"login": name} if name.endswith("[bot]") else None
