"""Translates the accounts of GraphQL into those of REST."""

import re

from metrics_sync.github.graphql import Refused
from metrics_sync.snapshot import Json

#: The address that GitHub gives the commits of an account: the account's id, and its login.
#: https://docs.github.com/en/account-and-profile/reference/email-addresses-reference
NOREPLY = re.compile(r"(?P<id>\d+)\+(?P<login>[^@]+\[bot\])@users\.noreply\.", re.IGNORECASE)


def is_unnamed(account: Json | Refused | None) -> bool:
    """Whether GraphQL gives an account without its id; None is a deleted account."""
    if account is None:
        return False
    return isinstance(account, Refused) or account.get("databaseId") is None


def is_copilot(account: Json | Refused | None) -> bool:
    """Whether it is Copilot, which has several logins in REST."""
    if account is None or isinstance(account, Refused):
        return False
    is_bot: bool = account["__typename"] == "Bot"
    return is_bot and account["login"].lower().startswith("copilot")


def translate_account(account: Json | None) -> Json | None:
    """Translate an account; REST adds `[bot]` to the login of a bot."""
    if account is None:
        return None
    kind, login = account["__typename"], account["login"]
    if kind == "Bot":
        login = f"{login.removesuffix('[bot]')}[bot]"
    return {"id": account["databaseId"], "login": login, "type": kind}


def has_unknown_author(commit: Json) -> bool:
    """Whether a commit is a bot's whose account neither GraphQL nor its address gives."""
    author = commit["author"] or {}
    email = author.get("email") or ""
    if author.get("user") is not None or NOREPLY.match(email):
        return False
    return "[bot]@" in email or "copilot" in email.lower()


def translate_author(commit: Json) -> Json | None:
    """Translate the account of a commit's author; in REST, too, null says that nobody has it.

    GraphQL has only users there. A bot is none, and is known by GitHub's own address for it.
    """
    author = commit["author"] or {}
    if author.get("user") is not None:
        return translate_account(author["user"])
    if bot := NOREPLY.match(author.get("email") or ""):
        return {"id": int(bot["id"]), "login": bot["login"], "type": "Bot"}
    return None
