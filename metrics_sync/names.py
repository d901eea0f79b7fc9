"""The name of a repository, which becomes part of addresses that a token is sent to; pure."""

import re
from typing import Self

#: `OWNER/NAME` as GitHub gives it: owners have no dots, and names may begin with one (`.github`)
#: but never are `.` or `..`. Python and PostgreSQL read this pattern alike: it is the database's
#: constraint, too.
PATTERN = r"\A[A-Za-z0-9_-]+/(?!\.{1,2}\Z)[A-Za-z0-9_.-]+\Z"
LONGEST = 255


class RepositoryName(str):
    """`OWNER/NAME`. Raises ValueError for anything else, which must not become an address."""

    __slots__ = ()

    def __new__(cls, text: object) -> Self:
        if not isinstance(text, str) or len(text) > LONGEST or not re.match(PATTERN, text):
            raise ValueError("The name of a repository is not OWNER/NAME.")
        return super().__new__(cls, text)
