"""Translates the accounts of GraphQL, which it calls actors, into those of REST."""

from metrics_sync.github.graphql import Refused
from metrics_sync.snapshot import BOT_ADDRESS, Json


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
    """Whether a commit is a bot's whose account neither GraphQL nor its address gives.

    GraphQL has only users there, and a null is one in REST, too. A bot is known by GitHub's own
    address for it, which the reader of commits looks at.
    """
    author = commit["author"] or {}
    email = author.get("email") or ""
    if author.get("user") is not None or BOT_ADDRESS.match(email):
        return False
    return "[bot]@" in email or "copilot" in email.lower()
