"""The figures that benchmarks measure, and their table."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.table import Table

COLUMNS = ("what", "measured", "beside it", "ratio", "budget", "met")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, beside a lower bound or another library's value of the same run, if any.

    `at_most` and `at_least` are the budget. If it could not be measured, `measured` is None and
    `note` says why.
    """

    what: str
    measured: float | None
    unit: str
    beside: str = ""
    beside_measured: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        if self.measured is None or not self.beside_measured:
            return None
        return self.measured / self.beside_measured

    @property
    def is_met(self) -> bool | None:
        """Whether the budget is kept; None without a budget or a measurement."""
        if self.measured is None or (self.at_most is None and self.at_least is None):
            return None
        is_low_enough = self.at_most is None or self.measured <= self.at_most
        return is_low_enough and (self.at_least is None or self.measured >= self.at_least)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "met": self.is_met}

    def to_cells(self) -> tuple[str, ...]:
        """Return the texts of the table's COLUMNS."""
        if self.measured is None:
            return (self.what, self.note, "", "", _write_budget(self), "")
        beside = ""
        if self.beside_measured is not None:
            beside = f"{_write(self.beside_measured, self.unit)} {self.beside}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        met = {True: "yes", False: "NO", None: ""}[self.is_met]
        measured = _write(self.measured, self.unit)
        return (self.what, measured, beside, ratio, _write_budget(self), met)


def _write(value: float, unit: str) -> str:
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()


def _write_budget(figure: Figure) -> str:
    if figure.at_most is not None:
        return f"≤ {_write(figure.at_most, figure.unit)}"
    return "" if figure.at_least is None else f"≥ {_write(figure.at_least, figure.unit)}"


def draw(title: str, figures: Iterable[Figure]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in {"what", "beside it"} else "right")
    for figure in figures:
        table.add_row(*figure.to_cells())
    return table


def write_markdown(figures: Iterable[Figure]) -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(figure.to_cells() for figure in figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def find_percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * round(share * 1000) // 1000) - 1)]


__all__ = ["Figure", "draw", "find_percentile", "median", "write_markdown"]
