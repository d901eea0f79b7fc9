"""Reads the options and arguments that several commands share."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from metrics_sync.management.base import UsageError
from metrics_sync.models import Team
from metrics_sync.names import Address, read_address

#: An account at GitHub, or its page.
OWNER = re.compile(r"(?:https?://[^/\s]+/(?:orgs/)?)?(?P<owner>[A-Za-z0-9_-]+)/?")


def parse_since(text: str) -> datetime:
    """Read `30d` or a date in the past; the moment is in UTC."""
    if match := re.fullmatch(r"(\d{1,5})d", text.strip()):
        return timezone.now() - timedelta(days=int(match[1]))
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ArgumentTypeError("write 30d, or a date such as 2026-01-31") from error
    moment = moment.replace(tzinfo=moment.tzinfo or UTC)
    if moment > timezone.now():
        raise ArgumentTypeError(f"{text.strip()} is in the future")
    return moment


def find_team(slug: str) -> Team:
    """Return the team of that slug, whatever its case. Raises UsageError that names all teams."""
    team = Team.objects.filter(slug__iexact=slug.strip()).first()
    if team is None:
        slugs = ", ".join(Team.objects.order_by("slug").values_list("slug", flat=True))
        known = f"The teams are {slugs}." if slugs else "`manage.py connect` creates the first one."
        raise UsageError(f"There is no team {slug.strip()!r}. {known}")
    return team


def parse_repository(text: str) -> Address:
    """Read a repository as people paste it: OWNER/NAME, OWNER/NAME#7 or an address at GitHub."""
    try:
        return read_address(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error).rstrip(".")) from error


def add_repository(parser: ArgumentParser, **options: Any) -> None:
    """Add the argument OWNER/NAME, which becomes an Address."""
    options.setdefault("help", "or its address at GitHub")
    parser.add_argument("repository", type=parse_repository, metavar="OWNER/NAME", **options)


def add_team(parser: ArgumentParser, *, help: str = "only this team") -> None:  # noqa: A002
    """Add the option --team."""
    parser.add_argument("--team", type=str.strip, default="", metavar="SLUG", help=help)


def add_since(parser: ArgumentParser, **options: Any) -> None:
    """Add the option --since."""
    options.setdefault("help", "only what merged since then")
    parser.add_argument("--since", type=parse_since, metavar="30d|DATE", **options)


def parse_target(text: str) -> Address | str:
    """Read a repository, or an owner (`acme`, `https://github.com/acme`), as a string."""
    if match := OWNER.fullmatch(text.strip()):
        return match["owner"]
    return parse_repository(text)
