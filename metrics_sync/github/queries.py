"""What is asked of GitHub's GraphQL API, and what it costs."""

from functools import cache

#: How many pull requests a query of the list has (when that is too heavy, half of it, and so on
#: down to the least), and how many one that brings all of them has.
LISTED = 100
LEAST_LISTED = 12
FETCHED = 25

#: How long the lists of a pull request may be. Each list costs a request inside GitHub, and so
#: does each that one of its items has: those of threads and suites are what a query costs.
PAGE = 100
THREADS = 14
SUITES = 14

#: Seven lists, the check suites of the head, and the lists in threads and suites.
REQUESTS_FOR_ONE = 8 + THREADS + SUITES

PULL_REQUEST = """
fragment pull on PullRequest {
  id fullDatabaseId number title state isDraft createdAt updatedAt closedAt mergedAt
  additions deletions changedFiles baseRefName baseRefOid headRefName headRefOid
  author { ...account }
}
fragment account on Actor {
  __typename login
  ... on User { databaseId }
  ... on Bot { databaseId }
  ... on Mannequin { databaseId }
  ... on Organization { databaseId }
}
"""

LISTS = f"""
fragment lists on PullRequest {{
  commits(first: {PAGE}) {{
    totalCount
    nodes {{ commit {{
      oid message
      author {{ date email user {{ __typename databaseId login }} }}
      committer {{ date }}
    }} }}
  }}
  files(first: {PAGE}) {{ totalCount nodes {{ path changeType additions deletions }} }}
  comments(first: {PAGE}) {{
    totalCount
    nodes {{ fullDatabaseId author {{ ...account }} body createdAt updatedAt }}
  }}
  reviews(first: {PAGE}) {{
    totalCount
    nodes {{ fullDatabaseId author {{ ...account }} state body submittedAt commit {{ oid }} }}
  }}
  reviewThreads(first: {THREADS}) {{
    totalCount
    nodes {{ comments(first: {PAGE}) {{
      totalCount
      nodes {{
        fullDatabaseId author {{ ...account }} body path line subjectType state
        createdAt updatedAt replyTo {{ fullDatabaseId }}
      }}
    }} }}
  }}
  timelineItems(first: {PAGE}, itemTypes: [
    READY_FOR_REVIEW_EVENT, CONVERT_TO_DRAFT_EVENT, HEAD_REF_FORCE_PUSHED_EVENT,
    REVIEW_DISMISSED_EVENT, REVIEW_REQUESTED_EVENT
  ]) {{
    totalCount
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
  }}
  head: commits(last: 1) {{ nodes {{ commit {{
    oid
    checkSuites(first: {SUITES}) {{
      totalCount
      nodes {{
        app {{ slug }}
        checkRuns(first: {PAGE}, filterBy: {{checkType: LATEST}}) {{
          totalCount
          nodes {{ id databaseId name status conclusion startedAt completedAt }}
        }}
      }}
    }}
    status {{ contexts {{ id context state createdAt updatedAt }} }}
  }} }} }}
}}
"""

LISTING = f"""
query($owner: String!, $name: String!, $first: Int!, $after: String) {{
  rateLimit {{ cost }}
  repository(owner: $owner, name: $name) {{
    nameWithOwner databaseId
    pullRequests(
      first: $first, after: $after, states: [MERGED],
      orderBy: {{field: UPDATED_AT, direction: DESC}}
    ) {{
      totalCount
      pageInfo {{ hasNextPage endCursor }}
      nodes {{ ...pull }}
    }}
  }}
}}
{PULL_REQUEST}
"""


@cache
def build_fetch(count: int) -> str:
    """Return the query for `count` pull requests by their numbers, `$n0` and on."""
    variables = ", ".join(f"$n{index}: Int!" for index in range(count))
    parts = "\n    ".join(
        f"p{index}: pullRequest(number: $n{index}) {{ ...pull ...lists }}" for index in range(count)
    )
    return f"""
query($owner: String!, $name: String!, {variables}) {{
  rateLimit {{ cost }}
  repository(owner: $owner, name: $name) {{
    nameWithOwner
    {parts}
  }}
}}
{PULL_REQUEST}{LISTS}
"""


def count_points(count: int) -> int:
    """Say what a query for `count` pull requests costs: a hundredth of its requests, at least 1.

    https://docs.github.com/en/graphql/overview/rate-limits-and-node-limits-for-the-graphql-api
    """
    return max(1, round(count * REQUESTS_FOR_ONE / 100))


def estimate_points(count: int) -> int:
    """Say what it costs to fetch `count` pull requests, as many at a time as a query takes."""
    queries, rest = divmod(count, FETCHED)
    return queries * count_points(FETCHED) + (count_points(rest) if rest else 0)
