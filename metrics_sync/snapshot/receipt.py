"""The receipt of a pull request: what is known of each of its lists, and what to fetch again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self

from metrics_sync.exceptions import DisagreementError, RetrySoonError
from metrics_sync.snapshot.items import COUNTERS, SUPPLEMENTARY, Json, PullRequestItem, Section
from metrics_sync.snapshot.results import (
    DISAGREEING,
    UNAVAILABLE,
    Fault,
    SectionResult,
    Snapshot,
    Validators,
)
from metrics_sync.snapshot.verifying import SectionReceipt

#: A fault counts as lasting when so many fetches met it, over so long a time.
LASTING_COUNT = 3
LASTING_TIME = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of each list of a pull request; lists that no fetch asked for are absent."""

    sections: Mapping[Section, SectionReceipt] = field(default_factory=dict)

    @classmethod
    def from_json(cls, stored: Json) -> Self:
        """Read a receipt as rows and runs store it."""
        return cls({s: SectionReceipt.from_json(stored[s]) for s in Section if s in stored})

    def to_json(self) -> dict[str, Any]:
        return {section.value: entry.to_json() for section, entry in self.sections.items()}

    @property
    def proven(self) -> set[Section]:
        return {section for section, entry in self.sections.items() if entry.is_proven}

    @property
    def whole(self) -> set[Section]:
        """The lists of which every item is stored, as of the last fetch that brought them."""
        return {section for section, entry in self.sections.items() if entry.is_whole}

    @property
    def stated(self) -> dict[Section, int]:
        """What the pull request's counters said."""
        counted = {s: entry.stated for s, entry in self.sections.items() if s in COUNTERS}
        return {section: number for section, number in counted.items() if number is not None}

    def count_stored(self, section: Section) -> int:
        return self.sections[section].stored if section in self.sections else 0

    def list_with(self, result: str) -> list[str]:
        """List the sections that have this result, in alphabetical order."""
        return sorted(s.value for s, entry in self.sections.items() if entry.result == result)

    def list_missing(self, stated: Mapping[Section, int]) -> list[Section]:
        """List the sections to fetch: not proven yet, or with another count at GitHub now."""
        then = {s: entry.stated for s, entry in self.sections.items() if entry.is_proven}
        return [s for s in Section if s not in then or stated.get(s, then[s]) != then[s]]

    def merge(
        self, results: Mapping[Section, SectionResult], *, stored: Mapping[Section, int]
    ) -> Self:
        """Return the receipt after a fetch; sections that it did not ask for keep their entry."""
        fetched = {s: SectionReceipt.of(r, stored=stored[s]) for s, r in results.items()}
        return replace(self, sections={**self.sections, **fetched})

    def outdate(self, names: Collection[str] = tuple(Section)) -> Self:
        """Have the lists of these names fetched again; every list if no names are given."""
        entries = self.sections.items()
        return replace(self, sections={s: e.outdate() if s in names else e for s, e in entries})

    def drop_changed(self, stored: Mapping[Section, int]) -> Self:
        """Drop the lists that had another number of items stored when they were fetched."""
        kept = {s: e for s, e in self.sections.items() if not e.is_whole or e.stored == stored[s]}
        return replace(self, sections=kept)

    def keep_proven(self, snapshot: Snapshot) -> Snapshot:
        """Drop from a snapshot the lists that failed and that an earlier fetch has proven.

        By the pull request's counters, nothing was added to those since.
        """
        stated = snapshot.pull_request.stated
        unchanged = {
            s for s in self.proven if s not in COUNTERS or stated.get(s) == self.sections[s].stated
        }
        kept = {s: r for s, r in snapshot.sections.items() if not r.error or s not in unchanged}
        return replace(snapshot, sections=kept)

    def accept_lasting_faults(
        self, results: Mapping[Section, SectionResult], *, now: datetime
    ) -> dict[Section, SectionResult]:
        """Give a result to lists that had the same fault in three fetches over a day.

        A list that disagrees with what GitHub states becomes `disagreeing`; its reason is what both
        sides say. A supplementary list that keeps failing becomes `unavailable`.
        """
        return {s: self._accept_lasting_fault(s, r, now) for s, r in results.items()}

    def _accept_lasting_fault(
        self, section: Section, result: SectionResult, now: datetime
    ) -> SectionResult:
        is_disagreeing = isinstance(result.error, DisagreementError)
        is_failing = section in SUPPLEMENTARY and isinstance(result.error, RetrySoonError)
        if not is_disagreeing and not is_failing:
            return result
        text = str(result.error) if is_disagreeing else "fails"
        earlier = self.sections[section].fault if section in self.sections else None
        fault = Fault(text, 1, now)
        if earlier is not None and earlier.text == text:
            fault = replace(earlier, count=earlier.count + 1)
        if fault.count < LASTING_COUNT or now - fault.since < LASTING_TIME:
            return replace(result, fault=fault)
        if is_disagreeing:
            return replace(
                result,
                result=DISAGREEING,
                error=None,
                reason=text,
                etags=(),
                fault=fault,
                witness="",
            )
        reason = f"failed {fault.count} times since {fault.since.isoformat()}: {result.error}"
        return SectionResult(items=None, result=UNAVAILABLE, reason=reason, fault=fault)


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier fetches stored: the receipt, and the ETags of pages.

    `pull_request` is as those fetches read it; without it everything is fetched in full. An answer
    about another pull request than `github_pr_id`, or another repository than `github_repo_id`,
    is refused; None accepts any.
    """

    receipt: Receipt = field(default_factory=Receipt)
    etags: Mapping[str, Validators] = field(default_factory=dict)
    pull_request: PullRequestItem | None = None
    github_pr_id: int | None = None
    github_repo_id: int | None = None
