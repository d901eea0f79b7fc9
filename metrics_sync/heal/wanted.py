"""The pull requests that a backfill is to fetch, which may be a hundred thousand."""

import pickle  # nosec B403  (only what this process pickled itself)
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from metrics_sync.snapshot import PullRequestItem

#: How many are packed together. What they share, such as logins and branches, is kept once.
BLOCK = 100


class Wanted(NamedTuple):
    """A pull request to fetch; `item` is its entry in GitHub's list, if it was found there."""

    github_pr_id: int
    number: int
    item: PullRequestItem | None = None


class WantedList:
    """Pull requests to fetch, in the order of their arrival.

    They are kept pickled: an entry of GitHub's list takes 1.4 KB as an object, and 0.2 KB so.
    """

    def __init__(self, wanted: Iterable[Wanted] = ()) -> None:
        self._blocks: list[bytes] = []
        self._loose: list[Wanted] = []
        self.extend(wanted)

    def extend(self, more: Iterable[Wanted]) -> None:
        for wanted in more:
            self._loose.append(wanted)
            if len(self._loose) == BLOCK:
                self._blocks.append(pickle.dumps(self._loose))
                self._loose = []

    def __len__(self) -> int:
        return len(self._blocks) * BLOCK + len(self._loose)

    def __iter__(self) -> Iterator[Wanted]:
        for block in self._blocks:
            yield from pickle.loads(block)  # noqa: S301  # nosec B301
        yield from self._loose

    def batched(self, size: int) -> Iterator[list[Wanted]]:
        """Yield lists of `size` pull requests; the last list may be shorter."""
        wanted = iter(self)
        while batch := list(islice(wanted, size)):
            yield batch
