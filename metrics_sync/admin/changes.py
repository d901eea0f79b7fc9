"""Says how a figure changed from the period before: as a sign, a number and a word."""

from collections.abc import Callable
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


def show_change(
    now: Any, before: Any, words: Words, show: Callable[[Any], str], *, is_brief: bool = False
) -> SafeString:
    """Return how a value differs from the one before, e.g. “▲ 12 % longer than 4.5 h”.

    Less than half a percent is no change. A brief text leaves to a tooltip what it was before.
    """
    if now is None or before is None:
        text = "" if is_brief else "nothing to compare with"
        return format_html('<span class="change">{}</span>', text)
    then, number = f"{show(before)} before", _measure(now, before, words)
    if number is None:
        return format_html('<span class="change" title="{}">= as before</span>', then)
    is_higher = now > before
    is_better = None if words.is_good is None else is_higher == words.is_good
    word = words.higher if is_higher else words.lower
    return format_html(
        '<span class="change{}" title="{}"><span aria-hidden="true">{}</span> {}{}</span>',
        {True: " better", False: " worse", None: ""}[is_better],
        then,
        MORE if is_higher else LESS,
        f"{number} {word}".strip(),
        "" if is_brief else f" than {show(before)}",
    )


def _measure(now: Any, before: Any, words: Words) -> str | None:
    """Return by how much a value changed; empty where no share says it, None where it did not."""
    if words.is_share:
        number = f"{100 * abs(now - before):.1f} points"
        return None if number == "0.0 points" else number
    if not before:
        return "" if now else None
    number = f"{abs(now - before) / before:.0%}"
    return None if number == "0%" else number.replace("%", " %")


def measure_change(now: float | None, before: float | None) -> float | None:
    """Return the share by which a value grew, to sort by; None where there is none."""
    return None if now is None or not before else (now - before) / before
