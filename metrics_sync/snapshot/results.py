"""What a fetch returned: the items of each list, and the proof that none is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.snapshot.items import Item, PullRequestItem, Section

#: The addresses of pages, each with the ETag that it came with.
Validators = Sequence[Sequence[str]]

#: A list is whole: it has as many items as GitHub states, or as many as GitHub ever lists.
VERIFIED = "verified"
CAPPED = "capped"
#: A list was read whole, while GitHub has stated another number for a day.
DISAGREEING = "disagreeing"
#: GitHub has no such list, or not for this token. Only an optional list ends like this.
UNAVAILABLE = "unavailable"
#: A list was whole once, and must be fetched again.
OUTDATED = "outdated"

#: The scope of check runs that came with those that later ones have replaced.
ALL_RUNS = "all"

#: What vouches for a length: a counter of the pull request, or the total that a list states.
COUNTER = "counter"
TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that several fetches met in the same form: how many of them, and when the first."""

    text: str
    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class SectionResult:
    """What a fetch returned for one list: `result` says how it is proven, else `error` why not.

    `items` is None for a list that has not changed since it was stored. `etags` are the
    addresses of its pages, each with the ETag that it came with. `witness` says what vouched for
    its length, `names` what the list says of other lists, and `fault` which fault it has, if it
    may last. `scope` is `all` for check runs that came with those that later ones have replaced.
    """

    items: tuple[Item, ...] | None = ()
    stated: int | None = None
    result: str = ""
    error: MetricsSyncError | None = None
    etags: Validators = ()
    reason: str = ""
    witness: str = ""
    names: Any = None
    fault: Fault | None = None
    scope: str = ""


#: The key of the pull request's own pages among the ETags of its lists. Without it, a webhook has
#: written the stored values since the last fetch.
ITSELF = "pull_request"
#: Two more keys there: the token that the ETags belong to, and the reviews that lists agreed on.
TOKEN = "token"  # noqa: S105  # nosec B105  (a name)
AGREED = "agreed"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one fetch of a pull request returned.

    `moved_to` is the repository's new name when GitHub redirected us from the old one.
    """

    pull_request: PullRequestItem
    sections: Mapping[Section, SectionResult]
    etags: Mapping[str, Validators]
    moved_to: str = ""

    @property
    def errors(self) -> dict[Section, MetricsSyncError]:
        return {
            section: result.error
            for section, result in self.sections.items()
            if result.error is not None
        }
