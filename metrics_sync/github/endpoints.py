"""Names the endpoint of a request without naming the repository; pure."""

import re
from urllib.parse import urlsplit

#: The fixed words in GitHub's paths that we use; everything else in a path is a name or a number.
WORDS = frozenset(
    """access_tokens app attempts check-runs comments commits compare deliveries files graphql hook
    hooks installation installations issues pulls rate_limit repositories reviews status statuses
    timeline user""".split()  # noqa: SIM905  (a list of words)
)
_REPOSITORY = re.compile(r".*?/(?:repos/[^/]+/[^/]+|repositories/\d+)")


def name_endpoint(url: str) -> str:
    """Return a name such as `repository/pulls/*/commits`, of which there are only a few.

    Works for any API root, and for the addresses by repository id in GitHub's `Link`.
    """
    path, is_repository = _REPOSITORY.subn("/repository", urlsplit(url).path, count=1)
    parts = [part for part in path.split("/") if part]
    if is_repository:
        known = ["repository", *(_hide(part) for part in parts[1:])]
    else:
        known = [part for part in parts if part in WORDS or part.isdecimal()]
        known = [_hide(part) for part in known]
    return "/".join(known[:6]) or "other"


def _hide(part: str) -> str:
    return part if part in WORDS else "*"
