"""Finds the lists of a pull request in GraphQL's answer, and compares them with their totals."""

from typing import Any

from metrics_sync.exceptions import DisagreementError
from metrics_sync.github.graphql import Refused
from metrics_sync.github.only_in_rest import OnlyInRestError, hides_earlier_name
from metrics_sync.github.queries import LISTS, LONGEST, LONGEST_COMMITS, PAGE
from metrics_sync.snapshot import COUNTERS, UNREADABLE, Json, Section

#: GitHub lists no more than so many changed files.
MOST_FILES = 3000

#: The list that each item of a list has.
INNER = {Section.REVIEW_COMMENTS: "comments", Section.CHECK_RUNS: "checkRuns"}


def find_connection(section: Section, node: Json) -> Any:
    """Return the connection of a section, with its total and its page of items.

    Raises OnlyInRestError for one that GitHub did not give.
    """
    value = _require(node.get(section))
    if section is Section.CHECK_RUNS:
        return _require(value["nodes"][0]["commit"]["checkSuites"])
    return value


def _require(value: Any) -> Any:
    if isinstance(value, Refused):
        raise OnlyInRestError(str(value.error))
    if value is None:
        raise OnlyInRestError("GraphQL does not give the list")
    return value


def find_items(section: Section, node: Json) -> list[Any]:
    """Return the items of a list that is all here, those of threads and suites in one.

    Raises OnlyInRestError for any other list.
    """
    if section is Section.COMMIT_STATUSES:
        status = _require(node.get(section))["nodes"][0]["commit"]["status"]
        return list((status or {"contexts": []})["contexts"])
    items = _take_all(find_connection(section, node))
    match section:
        case Section.COMMITS:
            return [item and item["commit"] for item in items]
        case Section.REVIEW_COMMENTS:
            return [item for thread in items for item in _take_all(thread["comments"])]
        case Section.CHECK_RUNS:
            return [
                run and {**run, "app": suite["app"]}
                for suite in items
                for run in _take_all(suite["checkRuns"])
            ]
    return items


def _take_all(connection: Json | None) -> list[Any]:
    nodes, total = _require(connection)["nodes"], _require(connection)["totalCount"]
    if len(nodes) != total:
        raise OnlyInRestError(f"GraphQL brings {len(nodes)} of {total}")
    return list(nodes)


def find_next_page(section: Section, node: Json) -> tuple[str, int] | None:
    """Return the cursor of a list's next page and how many items are left; None if it needs none.

    None, too, if the list is too long, or is left to REST because of a file in it.
    """
    connection = find_connection(section, node)
    info, nodes, total = connection["pageInfo"], connection["nodes"], connection["totalCount"]
    longest = LONGEST_COMMITS if section is Section.COMMITS else LONGEST
    if not info["hasNextPage"] or not len(nodes) < total <= longest:
        return None
    if section is Section.FILES and any(map(hides_earlier_name, nodes)):
        return None
    return str(info["endCursor"]), total - len(nodes)


def find_total(section: Section, node: Json) -> int | None:
    """Return how many items GraphQL states of a section; None if it does not."""
    if section is Section.FILES:
        return int(node["changedFiles"])
    try:
        connection = find_connection(section, node)
        if section is not Section.REVIEW_COMMENTS:
            return int(connection["totalCount"])
        return sum(int(thread["comments"]["totalCount"]) for thread in _take_all(connection))
    except (OnlyInRestError, *UNREADABLE):
        return None


def find_stated(node: Json) -> dict[Section, int]:
    """Return the counters of a pull request that REST has, too."""
    return {s: total for s in COUNTERS if (total := find_total(s, node)) is not None}


def check_counts(node: Json, *, is_alone: bool = False) -> None:
    """Raise DisagreementError when a list is not as long as it, or the pull request, says.

    GitHub answers queries that are too heavy with empty lists. A list that GitHub did not give is
    no disagreement, nor is one that has further pages. `is_alone` says that the query asked for
    nothing else, so that it was not too heavy; then a timeline that is too short is none either,
    since GitHub counts events that it does not show.
    """
    for section in LISTS:
        if not (is_alone and section is Section.TIMELINE):
            _check(section, node)


def _check(section: Section, node: Json) -> None:
    if section in (Section.CHECK_RUNS, Section.COMMIT_STATUSES):
        given = node.get(section)
        if isinstance(given, dict) and not given["nodes"]:
            raise DisagreementError("GraphQL lists no commits")
    if section is Section.COMMIT_STATUSES:
        return
    try:
        connection = find_connection(section, node)
    except OnlyInRestError:
        return
    if not (connection["pageInfo"]["hasNextPage"] and connection["nodes"]):
        _check_length(connection)
    _check_total(section, connection["totalCount"], node)
    for item in connection["nodes"] if section in INNER else ():
        _check_length(item[INNER[section]], limit=PAGE)
        if section is Section.REVIEW_COMMENTS and not item["comments"]["totalCount"]:
            raise DisagreementError("GraphQL lists a thread without comments")


def _check_total(section: Section, total: int, node: Json) -> None:
    """A merged pull request has commits; of its files it states the number itself.

    https://docs.github.com/en/rest/pulls/pulls#list-pull-requests-files (3,000 are listed)
    """
    if section is Section.COMMITS and total == 0:
        raise DisagreementError("GraphQL lists no commits")
    if section is Section.FILES and total != node["changedFiles"] <= MOST_FILES:
        raise DisagreementError("GraphQL states two numbers of changed files")


def _check_length(connection: Json | None, *, limit: int | None = None) -> None:
    """Compare a list with its total; one that was not given is left to REST later."""
    if connection is None or (limit is not None and connection["totalCount"] > limit):
        return
    if len(connection["nodes"] or ()) != connection["totalCount"]:
        raise DisagreementError(
            f"GraphQL states {connection['totalCount']} and lists {len(connection['nodes'] or ())}"
        )
