"""How long merges wait if one token's REST requests do not suffice for them, for a whole hour."""

from tests.benchmarks.figures import Figure
from tests.benchmarks.purses import LIMIT, MERGES, merge
from tests.benchmarks.stage import Stage


def measure(stage: Stage) -> list[Figure]:
    return merge(stage, MERGES, limit=LIMIT)
