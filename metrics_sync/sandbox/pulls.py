"""The operations on pull requests and their lists."""

from collections.abc import Callable, Sequence
from typing import Any

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.answers import Answer, Document, Listing, refuse
from metrics_sync.sandbox.routing import Ask, repository_routes
from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import Recording

#: https://docs.github.com/en/rest/pulls/pulls#list-commits-on-a-pull-request
MAX_COMMITS = 250
#: https://docs.github.com/en/rest/pulls/pulls#list-pull-requests-files
MAX_FILES = 3_000
#: About how many changed lines one response of files counts correctly; the rest have 0 lines.
MAX_LINES = 20_000


def _of_pull(
    make: Callable[[Ask, Recording], Answer],
) -> Callable[[Ask], Answer]:
    """Find the pull request that the route names, or answer 404."""

    def handler(ask: Ask) -> Answer:
        recording = ask.world.find_visible(ask.repo, int(ask.params["number"]))
        return make(ask, recording) if recording and recording.pull else refuse(404)

    return handler


@repository_routes.get(r"/pulls")
def list_pulls(ask: Ask) -> Answer:
    state = ask.query.get("state", "open")
    sort = ask.query.get("sort", "created")
    direction = ask.query.get("direction") or ("desc" if sort == "created" else "asc")
    pulls = [item.pull for item in ask.world.visible(ask.repo).values() if item.pull]
    if state != "all":
        pulls = [pull for pull in pulls if pull.get("state") == state]
    if "base" in ask.query:
        pulls = [pull for pull in pulls if pull["base"]["ref"] == ask.query["base"]]
    key = "updated_at" if sort == "updated" else "created_at"
    pulls.sort(key=lambda pull: (str(pull.get(key)), pull["number"]), reverse=direction == "desc")
    return Listing([shapes.short_pull(pull) for pull in pulls])


@repository_routes.get(r"/pulls/(?P<number>\d+)")
@_of_pull
def get_pull(_ask: Ask, recording: Recording) -> Answer:
    return Document(recording.pull)


@repository_routes.get(r"/pulls/(?P<number>\d+)/commits")
@_of_pull
def list_commits(_ask: Ask, recording: Recording) -> Answer:
    """List the newest commits: of more than 250, the oldest are left out without notice."""
    return Listing(recording.commits[-MAX_COMMITS:])


@repository_routes.get(r"/pulls/(?P<number>\d+)/files")
@_of_pull
def list_files(_ask: Ask, recording: Recording) -> Answer:
    return Listing(recording.files[:MAX_FILES], _render_files)


def _render_files(items: Sequence[Json], _page: int, _total: int) -> Any:
    """Set counts to 0 after too many changed lines on one page, so that smaller pages are right."""
    lines, rendered = 0, []
    for item in items:
        if lines < MAX_LINES:
            rendered.append(item)
        else:
            zeroed = {"additions": 0, "deletions": 0, "changes": 0}
            rest = {key: value for key, value in item.items() if key != "patch"}
            rendered.append(rest | zeroed)
        lines += item["changes"]
    return rendered


@repository_routes.get(r"/pulls/(?P<number>\d+)/reviews")
@_of_pull
def list_reviews(ask: Ask, recording: Recording) -> Answer:
    return select_reviews(ask, recording)


def select_reviews(ask: Ask, recording: Recording) -> Listing:
    """List the reviews; a pending one is shown to its author only."""

    def is_visible(review: Json) -> bool:
        login = (review.get("user") or {}).get("login")
        return review.get("state") != "PENDING" or login == ask.token.login

    return Listing([review for review in recording.reviews if is_visible(review)])


@repository_routes.get(r"/pulls/(?P<number>\d+)/comments")
@_of_pull
def list_review_comments(ask: Ask, recording: Recording) -> Answer:
    return Listing(_sort_comments(recording.review_comments, ask))


@repository_routes.get(r"/issues/(?P<number>\d+)/comments")
@_of_pull
def list_issue_comments(ask: Ask, recording: Recording) -> Answer:
    return Listing(_sort_comments(recording.issue_comments, ask))


def _sort_comments(comments: Sequence[Json], ask: Ask) -> list[Json]:
    since, sort = ask.query.get("since", ""), ask.query.get("sort", "")
    chosen = [item for item in comments if str(item.get("updated_at") or "~") >= since]
    if sort in {"created", "updated"}:
        is_reversed = ask.query.get("direction") == "desc"
        chosen.sort(key=lambda item: str(item.get(f"{sort}_at")), reverse=is_reversed)
    return chosen


@repository_routes.get(r"/issues/(?P<number>\d+)/timeline")
@_of_pull
def list_timeline(_ask: Ask, recording: Recording) -> Answer:
    return Listing(recording.list_timeline())


@repository_routes.get(r"/issues/(?P<number>\d+)/events")
@_of_pull
def list_events(_ask: Ask, recording: Recording) -> Answer:
    return Listing(recording.issue_events)
