"""Says how a figure changed from the period before: as a sign, a number and a word."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

MORE, LESS = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"


@dataclass(frozen=True, slots=True)
class Words:
    """What a higher and a lower value are called, and whether the higher one is better.

    None is neither: nobody is told that more merges are better. Shares differ by points, as a
    share of a share is read wrong.
    """

    higher: str = "more"
    lower: str = "fewer"
    is_good: bool | None = None
    is_share: bool = False


LONGER = Words("longer", "shorter", is_good=False)
MORE_MERGES = Words()
MORE_ROUNDS = Words(is_good=False)
LARGER = Words("larger", "smaller")
SHARE_UNREVIEWED = Words(is_good=False, is_share=True)
SHARE_IN_TIME = Words(is_good=True, is_share=True)


def show_change(now: Any, before: Any, words: Words, show: Callable[[Any], str]) -> SafeString:
    """Return how a value differs from the one before, e.g. “▲ 12 % longer than 4.5 h”."""
    if now is None or before is None:
        return format_html('<span class="change">{}</span>', "nothing to compare with")
    if now == before:
        return format_html('<span class="change">{}</span>', "= as before")
    is_higher = now > before
    is_better = None if words.is_good is None else is_higher == words.is_good
    return format_html(
        '<span class="change{}"><span aria-hidden="true">{}</span> {} than {}</span>',
        {True: " better", False: " worse", None: ""}[is_better],
        MORE if is_higher else LESS,
        " ".join([*_measure(now, before, words), words.higher if is_higher else words.lower]),
        show(before),
    )


def _measure(now: Any, before: Any, words: Words) -> Iterator[str]:
    if words.is_share:
        yield f"{100 * abs(now - before):.1f} points"
    elif before:
        yield f"{abs(now - before) / before:.0%}".replace("%", " %")


def measure_change(now: float | None, before: float | None) -> float | None:
    """Return the share by which a value grew, to sort by; None where there is none."""
    return None if now is None or not before else (now - before) / before
