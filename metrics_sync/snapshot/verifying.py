"""Proves one list of a pull request: what GitHub states of it, what is stored, and the result."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from metrics_sync.exceptions import DisagreementError
from metrics_sync.snapshot.items import Item, Json, Section
from metrics_sync.snapshot.results import (
    CAPPED,
    COUNTER,
    DISAGREEING,
    OUTDATED,
    TOTAL,
    VERIFIED,
    Fault,
    SectionResult,
    Validators,
)
from metrics_sync.snapshot.values import read_text

#: How many items GitHub lists at most, however many pages are asked for.
#: https://docs.github.com/en/rest/pulls/pulls
CAPS = {Section.COMMITS: 250, Section.FILES: 3000}

#: The lists that state their own total.
TOTALED = {Section.CHECK_RUNS, Section.COMMIT_STATUSES}


def verify(
    section: Section,
    items: tuple[Item, ...] | None,
    *,
    lengths: Collection[int],
    stated: int | None,
    etags: Validators = (),
) -> SectionResult:
    """Compare a list that was read to its end with the number that GitHub states.

    `lengths` holds each length that the list has by one of the ways to count it.
    """
    length = max(lengths)
    if stated is None:
        return SectionResult(items, result=VERIFIED, etags=etags)
    if stated in lengths:
        witness = TOTAL if section in TOTALED else COUNTER
        return SectionResult(items, stated, VERIFIED, etags=etags, witness=witness)
    if section in CAPS and CAPS[section] <= length < stated:
        return SectionResult(items, stated, CAPPED, etags=etags)
    error = DisagreementError(f"GitHub states {stated} and lists {length}")
    return SectionResult(items, stated, error=error)


@dataclass(frozen=True, slots=True)
class SectionReceipt:
    """What is known of one list. `result` is a word such as `verified`, else what went wrong."""

    stated: int | None
    stored: int
    result: str
    reason: str = ""
    witness: str = ""
    scope: str = ""
    fault: Fault | None = None

    @classmethod
    def from_json(cls, entry: Json) -> Self:
        """Read an entry; those of older versions have only three values."""
        texts = {name: entry.get(name) or "" for name in ("reason", "witness", "scope")}
        fault = None
        if looks := entry.get("looks"):
            since = datetime.fromisoformat(looks["since"])
            fault = Fault(looks["fault"], looks["count"], since)
        return cls(entry["stated"], entry["stored"], entry["result"], fault=fault, **texts)

    @classmethod
    def of(cls, result: SectionResult, *, stored: int) -> Self:
        """Record what a fetch returned for a list, of which `stored` items are stored now."""
        return cls(
            stated=result.stated,
            stored=stored,
            result=read_text(str(result.error)) if result.error else result.result,
            reason=read_text(result.reason),
            witness=result.witness,
            scope=result.scope,
            fault=result.fault,
        )

    def to_json(self) -> dict[str, Any]:
        entry = {"stated": self.stated, "stored": self.stored, "result": self.result}
        texts = {"reason": self.reason, "witness": self.witness, "scope": self.scope}
        optional: dict[str, Any] = {**texts}
        if self.fault is not None:
            fault, since = self.fault, self.fault.since.isoformat()
            optional["looks"] = {"fault": fault.text, "count": fault.count, "since": since}
        return entry | {name: value for name, value in optional.items() if value}

    @property
    def is_proven(self) -> bool:
        """Whether the list need not be fetched again as long as GitHub states the same number."""
        return self.result in (VERIFIED, CAPPED, DISAGREEING)

    @property
    def is_whole(self) -> bool:
        """Whether the list is proven, or was when it was fetched last."""
        return self.is_proven or self.result == OUTDATED

    def outdate(self) -> Self:
        """Return it marked to be fetched again, if the list was whole."""
        return replace(self, result=OUTDATED) if self.is_whole else self

    def verify_unchanged(
        self, section: Section, stated: int | None, *, etags: Validators
    ) -> SectionResult:
        """Compare a list whose pages have not changed with what GitHub states now."""
        # When GitHub stated less than is stored, the fetch that stored it found out why.
        lengths = {self.stored, min(self.stored, self.stated or self.stored)}
        stated = self.stated if section in TOTALED else stated
        result = verify(section, None, lengths=lengths, stated=stated, etags=etags)
        return replace(result, witness=self.witness, reason=self.reason, scope=self.scope)
