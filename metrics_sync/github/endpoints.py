"""Names what was asked for, without saying of which repository; pure."""

import re
from urllib.parse import urlsplit

#: The words of GitHub's paths that we may meet; everything else in a path is somebody's name.
WORDS = frozenset(
    """access_tokens app attempts check-runs comments commits compare deliveries files graphql hook
    hooks installation installations issues pulls rate_limit repositories reviews status statuses
    timeline user""".split()  # noqa: SIM905  (a list of words)
)
_REPOSITORY = re.compile(r".*?/(?:repos/[^/]+/[^/]+|repositories/\d+)")


def name_endpoint(url: str) -> str:
    """Return e.g. `repository/pulls/*/commits`; there are few such names, whatever is asked.

    Works for any API root, and for the addresses by id that GitHub's `Link` has.
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
