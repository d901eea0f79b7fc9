"""The name of a repository, which becomes part of addresses that a token is sent to; pure."""

import re
from typing import NamedTuple, Self

#: `OWNER/NAME` as GitHub gives it: owners have no dots, and names may begin with one (`.github`)
#: but never are `.` or `..`. Python and PostgreSQL read this pattern alike: it is also the
#: database's constraint.
PATTERN = r"\A[A-Za-z0-9_-]+/(?!\.{1,2}\Z)[A-Za-z0-9_.-]+\Z"
LONGEST = 255
HOW_TO_WRITE = "Write the repository as OWNER/NAME, or paste its address at GitHub."


class RepositoryName(str):
    """`OWNER/NAME`. Raises ValueError for anything else, which must not become an address."""

    __slots__ = ()

    def __new__(cls, text: object) -> Self:
        if not isinstance(text, str) or len(text) > LONGEST or not re.match(PATTERN, text):
            raise ValueError("The name of a repository is not OWNER/NAME.")
        return super().__new__(cls, text)


class Address(NamedTuple):
    """What somebody pasted: a repository, perhaps one of its pull requests, perhaps a host."""

    full_name: RepositoryName
    number: int | None
    #: As `github.com`; empty for a bare OWNER/NAME.
    host: str


#: `https://user:secret@host:port/`, `git@host:`, or `host/`.
_HOST = re.compile(
    r"(?:(?:https?|ssh|git)://(?:[^@/\s]*@)?(?P<url>[^/:\s]+)(?::\d+)?/"
    r"|[^@/:\s]+@(?P<scp>[^/:\s]+):"
    r"|(?P<bare>[^/\s]*\.[^/\s]*)/(?=[^/\s]+/))"
    # Addresses of the API.
    r"(?:(?:api/v3/)?repos/(?=[^/\s]+/))?",
    re.IGNORECASE,
)


def read_address(text: str) -> Address:
    """Read a repository, or a pull request, as people paste it.

    Takes OWNER/NAME, OWNER/NAME#7, addresses of pages, of the API and of Git, and blanks around
    them. Raises ValueError, whose text does not repeat what was pasted: it may hold a secret.
    """
    text = text.strip()
    place = _HOST.match(text)
    path, _, fragment = text[place.end() if place else 0 :].partition("#")
    match path.partition("?")[0].strip("/").split("/"):
        case [owner, name, "pull" | "pulls" | "issues", number, *_]:
            pass
        case [owner, name]:
            number = fragment
        case [owner, name, *_] if place:
            number = ""
        case _:
            raise ValueError(HOW_TO_WRITE)
    if not place and number and not number.isdecimal():
        raise ValueError(HOW_TO_WRITE)
    try:
        full_name = RepositoryName(f"{owner}/{name.removesuffix('.git')}")
    except ValueError:
        raise ValueError(HOW_TO_WRITE) from None
    host = next(filter(None, place.groups()), "") if place else ""
    return Address(full_name, int(number) if number.isdecimal() else None, host.lower())
