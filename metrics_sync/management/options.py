"""Reads options that several commands have."""

import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta

from django.utils import timezone


def parse_since(text: str) -> datetime:
    """Read `30d` or a date; the moment is in UTC."""
    if match := re.fullmatch(r"(\d{1,5})d", text):
        return timezone.now() - timedelta(days=int(match[1]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError("write 30d, or a date such as 2026-01-31") from error
    return moment.replace(tzinfo=moment.tzinfo or UTC)
