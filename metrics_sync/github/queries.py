"""Builds the queries for GitHub's GraphQL API, and counts what they cost."""

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from metrics_sync.snapshot import Section

#: How many pull requests a page of the list has; when that is too heavy, half as many, down to the
#: least. And how many pull requests a query has that brings them with their lists.
LISTED = 100
LEAST_LISTED = 12
FETCHED = 25

#: How many items a page of a list has; and where each item has a list in turn, which costs as much
#: as a list of its own, how many a page after the first has. A first page has as many as most
#: pull requests have: more would cost points for all of them, and fewer a further page for many.
PAGE = 100
INNER_NEXT = 50
FIRST_COMMITS, FIRST_SUITES, FIRST_THREADS = 3, 4, 4

#: How many items of a list are asked for, page by page; REST lists no more commits than these.
LONGEST = 1000
LONGEST_COMMITS = 250

#: How many parents of a commit are asked for; merges have two, and very few have more.
MOST_PARENTS = 10

PULL_REQUEST = """
fragment pull on PullRequest {
  id fullDatabaseId number title state isDraft createdAt updatedAt closedAt mergedAt
  additions deletions changedFiles baseRefName baseRefOid headRefName headRefOid
  author { ...account }
  mergedBy { ...account }
}
"""
ACCOUNT = """
fragment account on Actor {
  __typename login
  ... on User { databaseId }
  ... on Bot { databaseId }
  ... on Mannequin { databaseId }
  ... on Organization { databaseId }
}
"""

PAGE_INFO = "totalCount pageInfo { hasNextPage endCursor }"
#: Of a pull request's timeline GitHub's `totalCount` counts the types that were not asked for, too.
#: https://github.com/strands-labs/robots/issues/2146
FILTERED = PAGE_INFO.replace("totalCount", "totalCount: filteredCount")


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A list of a pull request; `@page` in `text` stands for the part of it that is asked for.

    `inner_first` is the length of the first page where each item has a list in turn.
    """

    text: str
    inner_first: int = 0
    #: Requests inside GitHub besides the list's own and its items'.
    around: int = 0

    @property
    def first(self) -> int:
        return self.inner_first or PAGE

    def choose_next(self, left: int) -> int:
        """Return how many of the items that are left the next page has."""
        return min(left, INNER_NEXT if self.inner_first else PAGE)

    def write(self, count: int, *, after: str = "") -> str:
        cursor = f", after: {json.dumps(after)}" if after else ""
        return self.text.replace("@page", f"first: {count}{cursor}")

    def count_requests(self, count: int) -> int:
        return self.around + ("@page" in self.text) + (count if self.inner_first else 0)


#: The lists, each under the name of its section, so that an error's path names the list.
LISTS = {
    Section.COMMITS: ListQuery(
        f"""commits(@page) {{
    {PAGE_INFO}
    nodes {{ commit {{
      oid message
      author {{ date email name user {{ __typename databaseId login }} }}
      committer {{ date }}
      parents(first: {MOST_PARENTS}) {{ totalCount nodes {{ oid }} }}
    }} }}
  }}""",
        inner_first=FIRST_COMMITS,
    ),
    Section.FILES: ListQuery(f"""files(@page) {{
    {PAGE_INFO}
    nodes {{ path changeType additions deletions }}
  }}"""),
    Section.CHECK_RUNS: ListQuery(
        f"""commits(last: 1) {{ nodes {{ commit {{
    oid
    checkSuites(@page) {{
      {PAGE_INFO}
      nodes {{
        app {{ slug }}
        checkRuns(first: {PAGE}, filterBy: {{checkType: LATEST}}) {{
          totalCount
          nodes {{ id databaseId name status conclusion startedAt completedAt }}
        }}
      }}
    }}
  }} }} }}""",
        inner_first=FIRST_SUITES,
        around=1,
    ),
    Section.ISSUE_COMMENTS: ListQuery(f"""comments(@page) {{
    {PAGE_INFO}
    nodes {{ fullDatabaseId author {{ ...account }} body createdAt updatedAt }}
  }}"""),
    Section.REVIEW_COMMENTS: ListQuery(
        f"""reviewThreads(@page) {{
    {PAGE_INFO}
    nodes {{ comments(first: {PAGE}) {{
      totalCount
      nodes {{
        fullDatabaseId author {{ ...account }} body path line subjectType state
        createdAt updatedAt replyTo {{ fullDatabaseId }}
      }}
    }} }}
  }}""",
        inner_first=FIRST_THREADS,
    ),
    Section.REVIEWS: ListQuery(f"""reviews(@page) {{
    {PAGE_INFO}
    nodes {{ fullDatabaseId author {{ ...account }} state body submittedAt commit {{ oid }} }}
  }}"""),
    Section.TIMELINE: ListQuery(f"""timelineItems(@page, itemTypes: [
    READY_FOR_REVIEW_EVENT, CONVERT_TO_DRAFT_EVENT, HEAD_REF_FORCE_PUSHED_EVENT,
    REVIEW_DISMISSED_EVENT, REVIEW_REQUESTED_EVENT
  ]) {{
    {FILTERED}
    nodes {{
      __typename
      ... on Node {{ id }}
      ... on ReadyForReviewEvent {{ createdAt actor {{ ...account }} }}
      ... on ConvertToDraftEvent {{ createdAt actor {{ ...account }} }}
      ... on HeadRefForcePushedEvent {{ createdAt actor {{ ...account }} }}
      ... on ReviewDismissedEvent {{
        createdAt actor {{ ...account }} previousReviewState review {{ fullDatabaseId }}
      }}
      ... on ReviewRequestedEvent {{
        createdAt actor {{ ...account }}
        requestedReviewer {{
          ... on Team {{ slug }}
          ... on Actor {{ ...account }}
        }}
      }}
    }}
  }}"""),
    Section.COMMIT_STATUSES: ListQuery(
        """commits(last: 1) { nodes { commit {
    oid
    status { contexts { id context state createdAt } }
  } } }""",
        around=1,
    ),
}

LISTING = f"""
query($owner: String!, $name: String!, $first: Int!, $after: String) {{
  rateLimit {{ cost }}
  repository(owner: $owner, name: $name) {{
    nameWithOwner databaseId
    pullRequests(
      first: $first, after: $after, states: [MERGED],
      orderBy: {{field: UPDATED_AT, direction: DESC}}
    ) {{
      {PAGE_INFO}
      nodes {{ ...pull }}
    }}
  }}
}}
{PULL_REQUEST}{ACCOUNT}
"""


@dataclass(frozen=True, slots=True)
class NextPage:
    """A page of one list of one pull request, from a cursor on."""

    number: int
    section: Section
    after: str
    count: int


@cache
def build_fetch(count: int, *, without: frozenset[Section] = frozenset()) -> str:
    """Return the query for `count` pull requests by their numbers, `$n0` and on.

    Each list is a fragment of its own, so that `find_lists` can tell them apart by lines.
    """
    sections = [section for section in LISTS if section not in without]
    spreads = " ".join(["...pull", *(f"...{section}" for section in sections)])
    parts = (f"p{n}: pullRequest(number: $n{n}) {{ {spreads} }}" for n in range(count))
    fragments = (
        f"fragment {section} on PullRequest {{\n  {section}: {one.write(one.first)}\n}}\n"
        for section, one in LISTS.items()
        if section in sections
    )
    variables = "".join(f", $n{n}: Int!" for n in range(count))
    return _write_query(variables, parts, PULL_REQUEST, *fragments)


def build_next(pages: Sequence[NextPage]) -> str:
    """Return the query for further pages of lists: `p0` and on, each a pull request with a list."""
    parts = (
        f"p{n}: pullRequest(number: {page.number}) "
        f"{{ {page.section}: {LISTS[page.section].write(page.count, after=page.after)} }}"
        for n, page in enumerate(pages)
    )
    return _write_query("", parts)


def _write_query(variables: str, parts: Iterable[str], *fragments: str) -> str:
    body = "\n    ".join(parts)
    text = f"""
query($owner: String!, $name: String!{variables}) {{
  rateLimit {{ cost }}
  repository(owner: $owner, name: $name) {{
    nameWithOwner
    {body}
  }}
}}
{"".join(fragments)}"""
    return text + ACCOUNT if "...account" in text else text


def find_lists(query: str, lines: Collection[int]) -> set[Section]:
    """Return the lists in whose fragments these lines of a query are.

    The set is empty when one of the lines is anywhere else.
    """
    found = set[Section]()
    for line in lines:
        before = "\n".join(query.split("\n")[:line])
        names = re.findall(r"^(?:fragment|query)\W*(\w*)", before, re.MULTILINE)
        if not names or names[-1] not in set(LISTS):
            return set()
        found.add(Section(names[-1]))
    return found


def count_points(count: int) -> int:
    """Return the points of a query for `count` pull requests: requests / 100, at least 1.

    https://docs.github.com/en/graphql/overview/rate-limits-and-node-limits-for-the-graphql-api
    """
    return _to_points(count * sum(one.count_requests(one.first) for one in LISTS.values()))


def count_next_points(pages: Sequence[NextPage]) -> int:
    """Return the points of a query for further pages."""
    return _to_points(sum(LISTS[page.section].count_requests(page.count) for page in pages))


def _to_points(requests: int) -> int:
    return max(1, round(requests / 100))


def estimate_points(count: int) -> int:
    """Return about how many points it takes to fetch `count` pull requests.

    Lists that are longer than a page cost a little more.
    """
    queries, rest = divmod(count, FETCHED)
    return queries * count_points(FETCHED) + (count_points(rest) if rest else 0)
