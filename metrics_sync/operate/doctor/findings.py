"""What a check says."""

import re
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact; with `advice` it is one that somebody should do something about."""

    group: str
    text: str
    advice: str = ""

    @property
    def subject(self) -> str:
        """What the finding is about, in words that stay the same while the problem lasts.

        Those before the colon, such as a repository's name. What follows them, and the numbers of
        a text without a colon, may change from one round to the next.
        """
        subject, colon, _ = self.text.partition(": ")
        return subject if colon else re.sub(r"\d+", "#", subject)

    @property
    def is_ok(self) -> bool:
        return not self.advice


def describe(duration: timedelta) -> str:
    """Return a duration as people say it, e.g. `3 min`."""
    seconds = duration.total_seconds()
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"
