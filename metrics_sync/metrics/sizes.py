"""How large a change is; pure."""

from itertools import takewhile

#: The least number of changed lines of each band, as Kubernetes labels its pull requests.
#: https://docs.prow.k8s.io/docs/components/plugins/ (size)
BANDS = {"XS": 0, "S": 10, "M": 30, "L": 100, "XL": 500, "XXL": 1000}


def count_lines(additions: int | None, deletions: int | None) -> int | None:
    return None if additions is None or deletions is None else additions + deletions


def find_band(lines: int | None) -> str:
    """Return the band of a number of changed lines; empty: unknown."""
    if lines is None:
        return ""
    return list(takewhile(lambda band: BANDS[band] <= lines, BANDS))[-1]
