"""The JSON API: what a token may read, pages, refusals, and the document that describes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from metrics_sync.api.pull_request_endpoints import LISTS
from metrics_sync.dashboard import Selection, summarise
from metrics_sync.metrics import Metrics
from metrics_sync.models import ApiToken, PullRequest, Team, TrackedRepository
from metrics_sync.store import list_rows
from tests import factories
from tests.factories import MERGED_AT

ROOT = "/api/v1"
ONE = f"{ROOT}/pull-requests/acme/anvil/7"
LIST_PATHS = [f"{ONE}/{section.replace('_', '-')}" for section in LISTS]
DOORS = [f"{ROOT}/summary", f"{ROOT}/repositories", f"{ROOT}/pull-requests", ONE, *LIST_PATHS]

Get = Callable[..., dict[str, Any]]


@pytest.fixture
def token(db: None) -> Any:
    return factories.ApiTokenFactory(team__slug="forge")


@pytest.fixture
def ask(client: Client, token: Any) -> Callable[..., Any]:
    """Send a request to an address, or to its path and query, with the team's token."""

    def ask(url: str, **query: Any) -> Any:
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return client.get(path, query or None, headers={"Authorization": f"Bearer {token.token}"})

    return ask


@pytest.fixture
def get(ask: Callable[..., Any]) -> Get:
    """Send a request, and return the JSON of a good answer."""

    def get(url: str, **query: Any) -> Any:
        response = ask(url, **query)
        assert response.status_code == 200, response.content
        return response.json()

    return get


@pytest.fixture
def pull_request(token: Any) -> PullRequest:
    """A merged pull request of the token's team, with three items in each list."""
    return add_whole(token.team)


def track(team: Team, full_name: str, **values: Any) -> TrackedRepository:
    integration = team.integrations.first() or factories.GitHubIntegrationFactory(team=team)
    return factories.TrackedRepositoryFactory(
        team=team, full_name=full_name, integration=integration, **values
    )


def add_whole(team: Team, **values: Any) -> PullRequest:
    track(team, "acme/anvil")
    row = factories.PullRequestFactory(merged=True, team=team, github_pr_number=7, **values)
    for _ in range(3):
        factories.CommitFactory(pull_request=row)
        factories.PRFileFactory(pull_request=row)
        factories.PRCheckRunFactory(pull_request=row)
        factories.PRCommentFactory(pull_request=row, comment_type="issue")
        factories.PRCommentFactory(pull_request=row, comment_type="review")
        factories.PRReviewFactory(pull_request=row)
        factories.PRTimelineEventFactory(pull_request=row)
        factories.PRCommitStatusFactory(pull_request=row)
    entry = {"stated": 3, "stored": 3, "result": "verified"}
    PullRequest.objects.filter(pk=row.pk).update(
        sync_status="complete",
        completed_at=MERGED_AT + timedelta(seconds=20),
        avg_fix_response_hours="1.25",
        provenance={"missing": []},
        receipt={"commits": entry, "timeline": {**entry, "reason": "not for this token"}},
    )
    return PullRequest.objects.get(pk=row.pk)


def follow(get: Get, url: str, **query: Any) -> Iterator[dict[str, Any]]:
    """Yield every item of every page."""
    page = get(url, **query)
    yield from page["items"]
    while page["next"]:
        page = get(page["next"])
        yield from page["items"]


def test_pull_request_says_what_is_known_and_how(get: Get, pull_request: PullRequest) -> None:
    """Unknown numbers are null, and each list comes with its receipt."""
    answer = get(ONE)

    assert (answer["github_repo"], answer["github_pr_number"]) == ("acme/anvil", 7)
    assert (answer["avg_fix_response_hours"], answer["review_rounds"]) == (1.25, None)
    assert (answer["merged_at"], answer["sync_status"]) == ("2026-03-02T12:00:00Z", "complete")
    assert answer["receipt"]["commits"]["result"] == "verified"
    assert answer["receipt"]["timeline"]["reason"] == "not for this token"
    assert answer["provenance"] == {"missing": []}
    assert answer["counts"] == {section.value: 3 for section in LISTS}


@pytest.mark.usefixtures("pull_request")
def test_pull_request_has_every_metric(get: Get) -> None:
    """The API must not lack a new metric."""
    [listed] = get(f"{ROOT}/pull-requests")["items"]

    assert set(Metrics.__slots__) - {"provenance"} <= set(listed)
    assert set(listed) < set(get(ONE))


@pytest.mark.parametrize("section", LISTS)
def test_every_list_of_a_pull_request_is_given_whole(
    get: Get, pull_request: PullRequest, section: Any
) -> None:
    """A user who doubts a number can count the items."""
    key = next(name for name in LISTS[section].model_fields if name != "message")

    items = list(follow(get, f"{ONE}/{section.replace('_', '-')}", limit=2))

    stored = list_rows(pull_request, section).order_by("pk").values_list(key, flat=True)
    assert [item[key] for item in items] == list(stored)
    assert len(items) == 3


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        pytest.param({}, [3, 2, 1], id="newest merge first"),
        pytest.param({"since": "2026-03-02T13:00:00Z"}, [3, 2], id="since, included"),
        pytest.param({"until": "2026-03-02T13:00:00Z"}, [1], id="until, excluded"),
        pytest.param({"since": "2026-03-03"}, [], id="a date is midnight in UTC"),
        pytest.param({"sync_status": "failed"}, [2], id="status"),
        pytest.param({"repository": "ACME/Bellows"}, [3], id="names ignore case"),
    ],
)
def test_list_is_filtered(get: Get, token: Any, query: dict[str, str], numbers: list[int]) -> None:
    """A chart shows one repository and one period."""
    for number, name in ((1, "anvil"), (2, "anvil"), (3, "bellows")):
        row = factories.PullRequestFactory(
            merged=True, team=token.team, github_pr_number=number, github_repo=f"acme/{name}"
        )
        merged_at = MERGED_AT + timedelta(hours=number - 1)
        status = "failed" if number == 2 else "complete"
        PullRequest.objects.filter(pk=row.pk).update(merged_at=merged_at, sync_status=status)
    factories.PullRequestFactory(team=token.team)

    items = get(f"{ROOT}/pull-requests", **query)["items"]

    assert [item["github_pr_number"] for item in items] == numbers


def test_pages_give_each_row_once_while_rows_arrive(get: Get, token: Any) -> None:
    """Merges arrive between two pages, and many merge in one second."""

    def add(number: int, *, hours: int) -> None:
        merged_at = MERGED_AT + timedelta(hours=hours)
        factories.PullRequestFactory(
            merged=True, team=token.team, merged_at=merged_at, github_pr_number=number
        )

    for number in range(1, 8):
        add(number, hours=number // 3)
    found = []
    for item in follow(get, f"{ROOT}/pull-requests", limit=2):
        found.append(item["github_pr_number"])
        add(100 + len(found), hours=5)

    assert found == [7, 6, 5, 4, 3, 2, 1]


def test_next_page_keeps_the_filters(get: Get, token: Any) -> None:
    """Otherwise rows of other repositories would be mixed in unnoticed."""
    for name in ("anvil", "bellows") * 3:
        factories.PullRequestFactory(merged=True, team=token.team, github_repo=f"acme/{name}")

    items = list(follow(get, f"{ROOT}/pull-requests", repository="acme/anvil", limit=2))

    assert [item["github_repo"] for item in items] == ["acme/anvil"] * 3


def test_repositories_have_counts_by_sync_status(get: Get, token: Any) -> None:
    """The answer shows which repository lags behind, and counts only the team's own rows."""
    for name, is_active in (("acme/Anvil", True), ("acme/bellows", False)):
        track(token.team, name, is_active=is_active)
    for _ in range(2):
        factories.PullRequestFactory(merged=True, team=token.team, github_repo="acme/anvil")
    PullRequest.objects.filter(pk=PullRequest.objects.latest("pk").pk).update(sync_status="failed")
    statuses = list(PullRequest.objects.values_list("sync_status", flat=True))
    factories.PullRequestFactory(merged=True, github_repo="acme/anvil")

    items = list(follow(get, f"{ROOT}/repositories", limit=1))

    assert items == [
        {
            "full_name": "acme/Anvil",
            "is_active": True,
            "statuses": dict.fromkeys(statuses, 1),
        },
        {"full_name": "acme/bellows", "is_active": False, "statuses": {}},
    ]


def test_summary_has_the_numbers_of_the_dashboard(get: Get, pull_request: PullRequest) -> None:
    """The API and the dashboard must show the same numbers."""
    merged_at = timezone.now() - timedelta(hours=1)
    completed_at = merged_at + timedelta(seconds=90)
    PullRequest.objects.update(merged_at=merged_at, completed_at=completed_at)
    TrackedRepository.objects.update(connected_at=merged_at)

    answer = get(f"{ROOT}/summary")

    summary = summarise(Selection(Team.objects.filter(pk=pull_request.team_id), timezone.now()))
    assert (answer["merged"], answer["statuses"]) == (1, {"complete": 1})
    assert (answer["share_within_minute"], answer["share_within_five_minutes"]) == (0, 1)
    assert (answer["median_seconds"], answer["p90_seconds"]) == (90, 90)
    assert answer["metrics"] == {
        name: {"median": it.median, "p90": it.p90} for name, it in summary.totals.metrics.items()
    }
    assert answer["metrics"]["avg_fix_response_hours"] == {"median": 1.25, "p90": 1.25}
    assert [week["merged"] for week in answer["weeks"]] == [
        point.merged for point in summary.points
    ]


@pytest.mark.parametrize(
    ("query", "merged"),
    [({"weeks": 4}, 0), ({"weeks": 52}, 1), ({"weeks": 52, "repository": "acme/tongs"}, 0)],
)
def test_summary_takes_the_choices_of_the_dashboard(
    get: Get, pull_request: PullRequest, query: dict[str, Any], merged: int
) -> None:
    """A chart must be able to show each selection that the dashboard shows."""
    PullRequest.objects.update(merged_at=timezone.now() - timedelta(weeks=6))

    assert get(f"{ROOT}/summary", **query)["merged"] == merged


def test_summary_of_a_period_that_does_not_exist_is_refused(ask: Callable[..., Any]) -> None:
    """The API must not invent numbers."""
    assert ask(f"{ROOT}/summary", weeks=5).status_code == 422


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.usefixtures("pull_request")
def test_answer_is_as_the_document_says(get: Get, client: Client, path: str) -> None:
    """Clients are generated from the document."""
    document = client.get(f"{ROOT}/openapi.json").json()
    template = path.replace("acme/anvil/7", "{owner}/{name}/{number}")
    resource = DRAFT202012.create_resource(document)
    registry: Any = Registry().with_resource("urn:api", resource)

    answer = get(path)

    content = document["paths"][template]["get"]["responses"]["200"]["content"]
    reference = content["application/json"]["schema"]["$ref"]
    assert answer
    OAS31Validator({"$ref": f"urn:api{reference}"}, registry=registry).validate(answer)


def test_document_is_valid_and_lists_each_address(client: Client) -> None:
    """It needs no token, because it explains how to send one."""
    document = client.get(f"{ROOT}/openapi.json").json()

    validate(document)
    paths = {path.replace("{owner}/{name}/{number}", "acme/anvil/7") for path in document["paths"]}
    assert paths == set(DOORS)
    for operations in document["paths"].values():
        assert set(operations) == {"get"}
        assert {"200", "401"} <= set(operations["get"]["responses"])
        assert operations["get"]["security"] == [{"TeamToken": []}]


def test_pages_of_the_document_load_nothing_from_another_host(client: Client) -> None:
    """The installation may have no internet access, and must not reveal its readers."""
    page = client.get(f"{ROOT}/docs").content.decode()

    assert "swagger-ui-bundle.js" in page
    assert "//" not in page
    assert '"validatorUrl": null' in page


@pytest.mark.parametrize("path", DOORS)
def test_no_address_answers_without_a_token(
    client: Client, pull_request: PullRequest, path: str
) -> None:
    """One forgotten address would leak a team's data."""
    response = client.get(path)

    assert response.status_code == 401
    assert "Authorization: Bearer" in response.json()["message"]
    assert response["WWW-Authenticate"] == 'Bearer realm="metrics_sync"'


@pytest.mark.parametrize("path", DOORS)
def test_no_address_shows_rows_of_another_team(
    ask: Callable[..., Any], token: Any, path: str
) -> None:
    """Both teams may track the repository; each has its own rows."""
    add_whole(factories.TeamFactory(), title="vault", merged_at=timezone.now())

    response = ask(path)

    if path.startswith(ONE):
        assert response.status_code == 404
        assert response.json()["message"] == "This team has no pull request acme/anvil#7."
    else:
        assert response.json().get("items", []) == []
        assert response.json().get("merged", 0) == 0


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"token_hash": "0" * 64}, "There is no such token here.", id="unknown"),
        pytest.param({"revoked_at": MERGED_AT}, "This token is revoked.", id="revoked"),
        pytest.param({"expires_at": MERGED_AT}, "This token is expired.", id="expired"),
    ],
)
def test_no_address_takes_an_invalid_token(
    ask: Callable[..., Any], token: Any, path: str, values: dict[str, Any], message: str
) -> None:
    """A leaked token must be useless once it is revoked."""
    ApiToken.objects.update(**values)

    response = ask(path)

    assert (response.status_code, response.json()) == (401, {"message": message})
    assert 'error="invalid_token"' in response["WWW-Authenticate"]
    assert ApiToken.objects.get().last_used_at is None


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.usefixtures("pull_request")
def test_parameter_that_does_not_exist_is_refused(ask: Callable[..., Any], path: str) -> None:
    """A user who mistypes a filter must not get all rows instead."""
    response = ask(path, repo="acme/anvil")

    assert response.status_code == 422
    assert response.json()["message"] == "repo: there is no such parameter here"


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        pytest.param("/pull-requests", {"since": "yesterday"}, "since", id="no moment"),
        pytest.param("/pull-requests", {"until": "0001-01-01T00:00:00+14:00"}, "until", id="early"),
        pytest.param("/pull-requests", {"sync_status": "done"}, "sync_status", id="no status"),
        pytest.param("/pull-requests", {"repository": "a/b\0"}, "repository", id="no repository"),
        pytest.param("/pull-requests", {"limit": 0}, "limit", id="empty page"),
        pytest.param("/pull-requests", {"limit": 201}, "limit", id="page too long"),
        pytest.param("/pull-requests", {"cursor": "WzFd"}, "cursor", id="no cursor"),
        pytest.param("/repositories", {"limit": "all"}, "limit", id="no number"),
        pytest.param("/pull-requests/acme/anvil/0", {}, "number", id="no such number"),
        pytest.param("/pull-requests/acme/anvil/9999999999", {}, "number", id="too large"),
        pytest.param("/pull-requests/acme/a%00/7", {}, "name", id="no name"),
    ],
)
def test_impossible_parameters_are_refused(
    ask: Callable[..., Any], path: str, query: dict[str, Any], named: str
) -> None:
    """The answer names the parameter that it refuses."""
    response = ask(ROOT + path, **query)

    assert response.status_code == 422
    assert response.json()["message"].startswith(f"{named}: ")


def test_cursor_of_another_list_is_refused(ask: Callable[..., Any], get: Get, token: Any) -> None:
    """The cursor names a row that is not in this list."""
    for name in ("acme/anvil", "acme/bellows"):
        track(token.team, name)
    _, cursor = get(f"{ROOT}/repositories", limit=1)["next"].split("cursor=")

    assert ask(f"{ROOT}/pull-requests?cursor={cursor}").status_code == 422


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_can_be_written(client: Client, token: Any, method: str) -> None:
    """A token in a chart's configuration must not be worth stealing."""
    headers = {"Authorization": f"Bearer {token.token}"}

    response = getattr(client, method)(f"{ROOT}/pull-requests", headers=headers)

    assert response.status_code == 405
    assert response["Allow"] == "GET"
    assert response.json() == {"message": f"{method.upper()} is not allowed here, only GET."}


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", [f"{ROOT}/", f"{ROOT}/nothing", f"{ONE}/nothing"])
def test_unknown_path_is_answered_in_json(client: Client, method: str, path: str) -> None:
    """A program that reads JSON cannot read an HTML page."""
    response = getattr(client, method)(path)

    assert response.status_code == 404
    assert response.json() == {"message": f"There is nothing at {path}."}


@pytest.mark.parametrize("path", DOORS)
def test_number_of_queries_does_not_grow_with_the_rows(
    get: Get, pull_request: PullRequest, path: str
) -> None:
    """A page of 200 rows must need as many queries as a page of one."""
    get(path)
    with CaptureQueriesContext(
        connection,
    ) as few:
        get(path)
    for number in range(5):
        track(pull_request.team, f"acme/{number}")
        factories.PullRequestFactory(
            merged=True, team=pull_request.team, github_pr_number=100 + number
        )
        factories.CommitFactory(pull_request=pull_request)
    with CaptureQueriesContext(connection) as many:
        get(path)

    assert len(many) == len(few)
    assert TrackedRepository.objects.count() == 6


def test_last_use_is_noted_once_a_minute(get: Get, token: Any) -> None:
    """Operators see which tokens are unused, and most requests write nothing."""
    get(f"{ROOT}/repositories")
    first = ApiToken.objects.get().last_used_at
    get(f"{ROOT}/repositories")
    second = ApiToken.objects.get().last_used_at
    ApiToken.objects.update(last_used_at=MERGED_AT)
    get(f"{ROOT}/repositories")

    assert first == second is not None
    assert ApiToken.objects.get().last_used_at > first


@contextmanager
def hang_database() -> Iterator[None]:
    def refuse(*args: Any) -> None:
        raise OperationalError("canceling statement due to statement timeout")

    with connection.execute_wrapper(refuse):
        yield


def test_database_that_hangs_asks_programs_to_try_again(client: Client, token: Any) -> None:
    """After a 500, a program does not try again."""
    with hang_database():
        answer = client.get(DOORS[0], headers={"Authorization": f"Bearer {token.token}"})

    assert answer.status_code == 503
    assert answer.json()["message"] == "The database does not answer; try again."


def test_database_that_hangs_asks_people_to_try_again(client: Client, admin_user: User) -> None:
    """The pages answer 503 as well, which load balancers tell from an error of ours."""
    client.force_login(admin_user)
    client.raise_request_exception = False

    with hang_database():
        answer = client.get("/admin/metrics_sync/team/")

    assert (answer.status_code, answer.json()["message"][:12]) == (503, "The database")
