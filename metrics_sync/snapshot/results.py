"""What a fetch brought: for each list its items, and how they are proven to be all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.snapshot.items import Item, Json, PullRequestItem, Section


@dataclass(frozen=True, slots=True)
class SectionResult:
    """What one section brought: `result` says how it is proven, else `error` why it is not.

    `items` is None for a list that has not changed since it was stored. `etags` are the
    addresses of its pages, each with the ETag that it came with. `witness` says what has vouched
    for its length, `names` what it says of other lists, and `looks` which fault how many fetches
    have met. `scope` is `all` for check runs that came with those that later ones have replaced.
    """

    items: tuple[Item, ...] | None = ()
    stated: int | None = None
    result: str = ""
    error: MetricsSyncError | None = None
    etags: Sequence[Sequence[str]] = ()
    reason: str = ""
    witness: str = ""
    names: Any = None
    looks: Json | None = None
    scope: str = ""


#: The results of a section that is proven: as many items as GitHub states, or as it ever lists.
VERIFIED = "verified"
CAPPED = "capped"
#: The result of one that is whole while GitHub has stated another number for a day.
DISAGREEING = "disagreeing"
#: The result of an optional one that GitHub does not have, or not for this token; no proof.
UNAVAILABLE = "unavailable"
#: The result of one that was proven, and is to be looked at again.
OUTDATED = "outdated"

#: The scope of check runs that came with those that later ones have replaced.
ALL_RUNS = "all"

#: Witnesses: a counter of the pull request, and the total that a list states of itself.
COUNTER = "counter"
TOTAL = "total"


def is_held(entry: Json | None) -> bool:
    """Whether an entry of a receipt says that its section need not be asked for."""
    return entry is not None and entry["result"] in (VERIFIED, CAPPED, DISAGREEING)


def is_known(entry: Json | None) -> bool:
    """Whether an entry of a receipt says that we have the items of its section, now or lately."""
    return entry is not None and entry["result"] in (VERIFIED, CAPPED, DISAGREEING, OUTDATED)


#: Where the addresses and ETags of the pull request itself are kept among those of its sections.
#: Without them, what is stored of it is no longer as a fetch read it.
ITSELF = "pull_request"
#: Beside these: whose token they came with, and which reviews two lists have agreed on.
TOKEN = "token"  # noqa: S105  # nosec B105  (a name)
AGREED = "agreed"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one fetch of a pull request brought.

    `moved_to` is the repository's new name when GitHub redirected us from the old one.
    """

    pull_request: PullRequestItem
    sections: Mapping[Section, SectionResult]
    etags: Mapping[str, Sequence[Sequence[str]]]
    moved_to: str = ""

    @property
    def errors(self) -> dict[Section, MetricsSyncError]:
        return {
            section: result.error
            for section, result in self.sections.items()
            if result.error is not None
        }
