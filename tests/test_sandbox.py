"""The pretend GitHub: tests with it prove only as much as it resembles the real one."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    Recording,
    SandboxServer,
    Token,
    World,
    make_recording,
    make_sample,
)
from metrics_sync.sandbox.builder import PullRequestBuilder
from metrics_sync.sandbox.faults import Faults
from metrics_sync.sandbox.posting import announce, send_event
from metrics_sync.sandbox.samples import LARGE
from metrics_sync.sandbox.stories import STORIES
from tests.conftest import PATIENCE_SECONDS, wait_until
from tests.processes import ROOT, run_program

REPOSITORY, SHOP = "acme/anvil", "octo-labs/shop"
PULL = f"/repos/{REPOSITORY}/pulls/7"
COMMENTS = f"/repos/{REPOSITORY}/issues/7/comments"
PROGRAM = ROOT / "metrics_sync" / "sandbox" / "__main__.py"
SANDBOX = [sys.executable, "-m", "metrics_sync.sandbox"]


def open_client(server: SandboxServer, token: str = DEFAULT_TOKEN) -> httpx2.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.Client(base_url=server.url, headers=headers, trust_env=False)


@pytest.fixture
def client(sandbox: SandboxServer) -> Iterator[httpx2.Client]:
    """A client of a GitHub that has one pull request with four comments."""
    sandbox.world.add(make_recording(REPOSITORY, 7, issue_comments=4))
    with open_client(sandbox) as client:
        yield client


def hold(sandbox: SandboxServer, **numbers: Any) -> Recording:
    """Replace that pull request by another one."""
    return sandbox.world.add(make_recording(REPOSITORY, 7, **numbers))


def read_links(response: httpx2.Response) -> dict[str, int]:
    """Return the page numbers of the `Link` header."""
    pages = {rel: httpx2.URL(link["url"]).params["page"] for rel, link in response.links.items()}
    return {str(rel): int(page) for rel, page in pages.items()}


# Lists.


@pytest.mark.parametrize(
    ("query", "shown", "links"),
    [
        pytest.param("", 4, {}, id="one page"),
        pytest.param("per_page=4", 4, {}, id="exactly one page"),
        pytest.param("per_page=2", 2, {"next": 2, "last": 2}, id="first"),
        pytest.param("per_page=2&page=2", 2, {"prev": 1, "first": 1}, id="exactly the last"),
        pytest.param("per_page=3&page=2", 1, {"prev": 1, "first": 1}, id="the last"),
        pytest.param("per_page=1&page=2", 1, {"prev": 1, "next": 3, "last": 4, "first": 1}),
        pytest.param("per_page=2&page=9", 0, {"prev": 2, "last": 2, "first": 1}, id="beyond"),
        pytest.param("per_page=0&page=x", 4, {}, id="nonsense"),
    ],
)
def test_list_is_paged_with_links(
    client: httpx2.Client, query: str, shown: int, links: dict[str, int]
) -> None:
    """GitHub's clients use only `Link` for paging."""
    response = client.get(f"{COMMENTS}?{query}")

    assert (len(response.json()), read_links(response)) == (shown, links)


@pytest.mark.parametrize(("query", "shown"), [("", 30), ("?per_page=500", 100)])
def test_page_has_30_items_and_never_more_than_100(
    sandbox: SandboxServer, client: httpx2.Client, query: str, shown: int
) -> None:
    """A client that expects pages of 500 loses data at GitHub."""
    hold(sandbox, issue_comments=101)

    assert len(client.get(COMMENTS + query).json()) == shown


@pytest.mark.parametrize("prefix", ["", "/api/v3"])
def test_links_lead_through_the_whole_list(
    sandbox: SandboxServer, client: httpx2.Client, prefix: str
) -> None:
    """Links keep the query and the API's root, and name the repository by its id."""
    response = client.get(f"{prefix}{COMMENTS}?per_page=3&sort=created")
    following = response.links["next"]["url"]
    shown = response.json() + client.get(following).json()

    assert following.startswith(f"{sandbox.url}{prefix}/repositories/")
    assert "sort=created" in following
    assert shown == sandbox.world.recording(REPOSITORY, 7).issue_comments


def test_long_lists_end_at_githubs_caps(sandbox: SandboxServer, client: httpx2.Client) -> None:
    """GitHub does not mark such an end, so a client believes that the list is whole."""
    recording = hold(sandbox, commits=251, files=3001, lines_per_file=1)

    commits = client.get(f"{PULL}/commits?per_page=100&page=3")
    files = client.get(f"{PULL}/files?per_page=100&page=30")
    sides = f"{recording.base_sha}...{recording.head_sha}"
    compared = client.get(f"/repos/{REPOSITORY}/compare/{sides}?per_page=100&page=3").json()

    assert (len(commits.json()), "next" in commits.links) == (50, False)
    assert (len(files.json()), "next" in files.links) == (100, False)
    assert (len(compared["commits"]), compared["total_commits"]) == (51, 251)


def test_many_changed_lines_on_one_page_are_not_counted(
    sandbox: SandboxServer, client: httpx2.Client
) -> None:
    """GitHub then says 0, and the real numbers on smaller pages."""
    recording = hold(sandbox, files=3, lines_per_file=10_001)

    *counted, zeroed = client.get(f"{PULL}/files").json()

    assert counted == recording.files[:2]
    assert (zeroed["additions"], zeroed["deletions"], zeroed["changes"]) == (0, 0, 0)
    assert "patch" not in zeroed
    assert client.get(f"{PULL}/files?per_page=1&page=3").json() == recording.files[2:]


def test_check_runs_come_in_an_object_the_latest_of_each_name(
    sandbox: SandboxServer, client: httpx2.Client
) -> None:
    """A check that was run again is one check."""
    builder = PullRequestBuilder(REPOSITORY, 7)
    builder.commit(-5)
    builder.check_run(1, name="test", conclusion="failure")
    again = builder.check_run(2, name="test")
    other = builder.check_run(1, name="test", suite=2)
    sandbox.world.add(builder.finish(merged=9))
    path = f"/repos/{REPOSITORY}/commits/{builder.head_sha}/check-runs"

    latest = client.get(path).json()

    assert latest == {"total_count": 2, "check_runs": [again, other]}
    assert client.get(f"{path}?filter=all").json()["total_count"] == 3
    assert client.get(f"{path}?filter=all&per_page=1").json()["total_count"] == 3


@pytest.mark.parametrize("name", [*STORIES, *LARGE])
def test_sample_agrees_with_itself(name: str) -> None:
    """A wrong counter would look like a bug of ours."""
    recording = make_sample(name)

    pull = recording.pull
    counted = [pull["commits"], pull["changed_files"], pull["comments"], pull["review_comments"]]
    lists = (recording.commits, recording.files, recording.issue_comments)
    assert counted == [len(items) for items in (*lists, recording.review_comments)]
    assert pull["additions"] == sum(item["additions"] for item in recording.files)
    assert Recording.from_json(json.loads(json.dumps(recording.to_json()))) == recording


# Who asks, and how often.


@pytest.mark.parametrize(
    ("token", "status", "limit"),
    [
        pytest.param(DEFAULT_TOKEN, 200, "5000", id="known"),
        pytest.param("", 200, "60", id="nobody"),
        pytest.param("ghp_nobody_issued", 401, None, id="unknown"),
        pytest.param("ghp_expired", 401, None, id="expired"),
        pytest.param("ghp_unlimited", 200, None, id="of an Enterprise server"),
    ],
)
def test_token_decides_on_answer_and_limit(
    sandbox: SandboxServer, token: str, status: int, limit: str | None
) -> None:
    """A client must tell these answers apart."""
    hold(sandbox)
    sandbox.world.add_token(Token("ghp_expired", expires_at=0))
    sandbox.world.add_token(Token("ghp_unlimited", limit_per_window=None))

    with open_client(sandbox, token) as client:
        response = client.get(PULL)

    assert (response.status_code, response.headers.get("x-ratelimit-limit")) == (status, limit)


@pytest.mark.parametrize(
    ("token", "status"), [("", 404), ("ghp_other", 404), ("ghp_chosen", 200), (DEFAULT_TOKEN, 200)]
)
def test_private_repository_is_hidden_from_others(
    sandbox: SandboxServer, token: str, status: int
) -> None:
    """GitHub does not even say that there is one."""
    sandbox.world.add(make_recording(REPOSITORY, 7, private=True))
    sandbox.world.add_token(Token("ghp_other", repositories=frozenset({"acme/hammer"})))
    sandbox.world.add_token(Token("ghp_chosen", repositories=frozenset({REPOSITORY})))

    with open_client(sandbox, token) as client:
        assert client.get(PULL).status_code == status


def test_installation_token_sees_the_repositories_of_its_account(
    app: SandboxServer, client: httpx2.Client, app_keys: tuple[str, str]
) -> None:
    """Apps live by these tokens, which last an hour, and ask for them with another of theirs."""
    app.world.add(make_recording(SHOP, 1, private=True))
    app.world.add_installation(5, "acme")
    signed = {"Authorization": f"Bearer {sign_claims(app_keys[0])}"}

    issued = client.post("/app/installations/5/access_tokens", headers=signed)

    with open_client(app, issued.json()["token"]) as installation:
        statuses = [installation.get(f"/repos/{name}").status_code for name in (REPOSITORY, SHOP)]
        listed = installation.get("/installation/repositories").json()["repositories"]
    assert (issued.status_code, statuses) == (201, [200, 404])
    assert [one["full_name"] for one in listed] == [REPOSITORY]


def sign_claims(private_key: str, **claims: Any) -> str:
    now = time.time()
    claims = {"iss": "29310", "iat": int(now), "exp": int(now) + 300, **claims}
    return jwt.encode(claims, private_key, algorithm="RS256")


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        pytest.param({"exp": 1}, "'exp'", id="expired"),
        pytest.param({"exp": 2**40}, "'exp'", id="more than ten minutes"),
        pytest.param({"iat": 2**40}, "'iat'", id="issued in the future"),
        pytest.param({"iss": "1"}, "decoded", id="unknown app"),
        pytest.param(None, "decoded", id="key of somebody else"),
    ],
)
def test_app_token_that_github_refuses_is_refused(
    app: SandboxServer,
    client: httpx2.Client,
    app_keys: tuple[str, str],
    claims: dict[str, Any] | None,
    message: str,
) -> None:
    """A client that signs wrongly must fail in the tests."""
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key: Any = other if claims is None else app_keys[0]
    app.world.add_installation(5, "acme")
    headers = {"Authorization": f"Bearer {sign_claims(key, **(claims or {}))}"}

    answer = client.post("/app/installations/5/access_tokens", headers=headers)

    assert (answer.status_code, message in answer.json()["message"]) == (401, True)


@pytest.fixture
def hour() -> Iterator[SimpleNamespace]:
    """A GitHub that allows two requests an hour, by its own clock."""
    clock = SimpleNamespace(now=1_800_000_000.5)
    world = World(
        [make_recording(REPOSITORY, 7)], tokens=[Token(DEFAULT_TOKEN, limit_per_window=2)]
    )
    with SandboxServer(world, clock=lambda: clock.now) as server, open_client(server) as client:
        clock.get = client.get
        yield clock


def read_budget(response: httpx2.Response) -> tuple[int, ...]:
    names = ("used", "remaining", "reset")
    return (response.status_code, *(int(response.headers[f"x-ratelimit-{n}"]) for n in names))


def test_requests_count_until_the_window_ends(hour: SimpleNamespace) -> None:
    """A client that waits until the stated second is served, and not before."""
    reset = 1_800_003_601

    answers = [read_budget(hour.get(PULL)) for _ in range(3)]
    hour.now = reset - 0.1
    early = read_budget(hour.get(PULL))
    hour.now = reset
    later = read_budget(hour.get(PULL))

    assert answers == [(200, 1, 1, reset), (200, 2, 0, reset), (403, 2, 0, reset)]
    assert early == (403, 2, 0, reset)
    assert later == (200, 1, 1, reset + 3600)


def test_etags_belong_to_the_token_that_asked(
    sandbox: SandboxServer, client: httpx2.Client
) -> None:
    """GitHub hashes the token in, so that an App pays for each look of another hour."""
    sandbox.world.add_token(Token("ghs_next_hour"))
    etag = client.get(PULL).headers["etag"]

    with open_client(sandbox, "ghs_next_hour") as other:
        answer = other.get(PULL, headers={"If-None-Match": etag})

    assert answer.status_code == 200
    assert answer.headers["etag"] != etag
    assert "Authorization" in answer.headers["vary"]


def test_timeline_shows_all_but_reviews_that_are_only_replies() -> None:
    """The list that proves others must be like GitHub's."""
    recording = make_recording(REPOSITORY, 7)
    comment, count = recording.review_comments[0], len(recording.reviews)
    recording.reviews.append({**recording.reviews[0], "id": 9, "state": "COMMENTED", "body": ""})
    own = {"id": 10, "in_reply_to_id": comment["id"], "pull_request_review_id": 9}
    recording.review_comments.append({**comment, **own})

    names = Counter(item["event"] for item in recording.list_timeline())

    made = {"committed": 3, "commented": 2, "reviewed": count, "merged": 1, "closed": 1}
    assert names == made


def test_unchanged_pages_and_the_limit_itself_cost_nothing(hour: SimpleNamespace) -> None:
    """This is the purpose of ETags."""
    etag = hour.get(PULL).headers["etag"]

    unchanged = hour.get(PULL, headers={"If-None-Match": etag})
    rate = hour.get("/rate_limit").json()["rate"]
    changed = hour.get(f"{PULL}/files", headers={"If-None-Match": etag})

    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (rate["used"], rate["remaining"]) == (1, 1)
    assert read_budget(changed)[:2] == (200, 2)


def test_too_many_requests_at_once_are_refused() -> None:
    """GitHub calls that a secondary limit, and says how long to wait."""
    with SandboxServer(World([make_recording(REPOSITORY, 7)]), max_concurrent=1) as server:
        server.faults.add(Fault(FaultKind.SLOW, seconds=0.5, times=1))
        with open_client(server) as client, ThreadPoolExecutor() as threads:
            slow = threads.submit(client.get, PULL)
            wait_until(lambda: server.faults.counts == {"slow": 1})
            refused = client.get(PULL)

    assert (refused.status_code, refused.headers["retry-after"]) == (403, "60")
    assert "secondary rate limit" in refused.json()["message"]
    assert slow.result().status_code == 200


# What changes while it serves.


def test_renamed_repository_redirects_to_its_id(
    sandbox: SandboxServer, client: httpx2.Client
) -> None:
    """The old name is in webhooks, rows and bookmarks."""
    sandbox.world.rename_repository(REPOSITORY, "acme/hammer")

    moved = client.get(f"{PULL}?a=1")
    followed = client.get(moved.headers["location"])

    repository = sandbox.world.repository("acme/hammer")
    location = f"{sandbox.url}/repositories/{repository.id}/pulls/7?a=1"
    assert (moved.status_code, moved.headers["location"]) == (301, location)
    assert followed.json()["base"]["repo"]["full_name"] == "acme/hammer"


def test_world_may_be_changed_meanwhile(sandbox: SandboxServer, client: httpx2.Client) -> None:
    """Tests change the pull requests while a client reads them."""
    world, head = sandbox.world, sandbox.world.recording(REPOSITORY, 7).head_sha
    late = world.add_comment(REPOSITORY, 7, body="Late")
    world.force_push(REPOSITORY, 7, make_recording(REPOSITORY, 7, seed=1).commits[:1])

    pull = client.get(PULL).json()
    world.delete_comment(REPOSITORY, 7, late["id"])
    world.hide(REPOSITORY, 7)

    assert (pull["comments"], pull["commits"]) == (5, 1)
    assert client.get(f"/repos/{REPOSITORY}/commits/{head}/check-runs").status_code == 422
    assert client.get(PULL).status_code == 404
    world.show(REPOSITORY, 7)
    assert client.get(PULL).json()["comments"] == 4
    assert len(client.get(f"/repos/{REPOSITORY}/commits/{head}/check-runs").json()) == 2


# What goes wrong when it is told to.


@pytest.mark.parametrize(
    ("fault", "status", "headers", "said"),
    [
        ({"kind": "status"}, 502, {}, "Server Error"),
        ({"kind": "status", "status": 451}, 451, {}, "Repository access blocked"),
        ({"kind": "status", "status": 503}, 503, {"content-type": "text/html"}, "Unicorn!"),
        ({"kind": "status", "status": 418, "body": {"a": 1}}, 418, {}, '{"a":1}'),
        (
            {"kind": "permission", "permissions": "checks=read"},
            403,
            {"x-accepted-github-permissions": "checks=read"},
            "not accessible by integration",
        ),
        ({"kind": "secondary_limit", "retry_after": 9}, 403, {"retry-after": "9"}, "secondary"),
        ({"kind": "secondary_limit", "status": 429}, 429, {"retry-after": ""}, "secondary"),
        ({"kind": "primary_limit"}, 403, {"x-ratelimit-remaining": "0"}, "limit exceeded"),
        ({"kind": "garbage"}, 200, {"content-type": "application/json"}, "no JSON"),
        ({"kind": "wrong_type"}, 200, {"content-type": "application/json"}, "null"),
        ({"kind": "wrong_type", "headers": {"Link": "x"}}, 200, {"link": "x"}, "null"),
        ({"kind": "unknown_redirect", "location": "/x"}, 301, {"location": "/x"}, "Moved"),
        ({"kind": "stale"}, 404, {}, "Not Found"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if "kind" in str(value) else None,
)
def test_fault_strikes_as_often_as_it_is_told(
    sandbox: SandboxServer,
    client: httpx2.Client,
    fault: dict[str, Any],
    status: int,
    headers: dict[str, str],
    said: str,
) -> None:
    """The next request gets GitHub's own words and headers."""
    sandbox.faults.add(Fault(path="/pulls/7$", times=1, **fault))

    response = client.get(PULL)

    assert (response.status_code, said in response.text) == (status, True)
    for name, value in headers.items():
        assert response.headers.get(name, "").startswith(value)
        assert value or name not in response.headers
    assert client.get(PULL).status_code == 200
    assert sandbox.faults.counts == {fault["kind"]: 1}


@pytest.mark.parametrize("kind", ["reset", "truncated"])
def test_connection_breaks_when_told(
    sandbox: SandboxServer, client: httpx2.Client, kind: str
) -> None:
    """A load balancer that gives up sends no status, or no end of the body."""
    sandbox.faults.add(Fault(kind, times=1))

    with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
        client.get(PULL)

    assert client.get(PULL).status_code == 200
    assert [request.status for request in sandbox.requests] == [0 if kind == "reset" else 200, 200]


def test_slow_answer_is_overtaken(sandbox: SandboxServer, client: httpx2.Client) -> None:
    """Answers arrive in another order than their requests were sent."""
    sandbox.faults.add(Fault("slow", path="/files", seconds=0.3))

    with ThreadPoolExecutor() as threads:
        slow = threads.submit(client.get, f"{PULL}/files")
        wait_until(lambda: sandbox.faults.counts == {"slow": 1})
        client.get(PULL)

    assert slow.result().status_code == 200
    assert [request.path for request in sandbox.requests] == [PULL, f"{PULL}/files"]


@pytest.mark.parametrize(
    ("fault", "counter", "listed"),
    [
        ({"kind": "short_list", "path": "/comments"}, 4, 3),
        ({"kind": "stale", "path": "/comments", "items": 2}, 4, 2),
        ({"kind": "stale", "path": "/pulls/7$", "items": 1}, 3, 4),
        ({"kind": "stale", "path": "/pulls/7$", "unmerged": True}, 4, 4),
    ],
)
def test_list_and_counter_disagree_when_told(
    sandbox: SandboxServer, client: httpx2.Client, fault: dict[str, Any], counter: int, listed: int
) -> None:
    """Each replica of GitHub may lag by itself."""
    sandbox.faults.add(Fault(**fault))

    pull, comments = client.get(PULL).json(), client.get(f"{COMMENTS}?per_page={listed}")

    assert (pull["comments"], len(comments.json()), comments.links) == (counter, listed, {})
    assert (pull["merged_at"] is None) == ("unmerged" in fault)


def test_fault_may_be_for_some_only(sandbox: SandboxServer, client: httpx2.Client) -> None:
    """A fault may concern one token, or one page of a list."""
    sandbox.faults.add(Fault("status", token="ghp_other", status=500))
    sandbox.faults.add(Fault("status", path="&page=2", status=504))

    statuses = [client.get(f"{COMMENTS}?per_page=2&page={page}").status_code for page in (1, 2)]

    assert statuses == [200, 504]


def test_chance_is_the_same_each_time() -> None:
    """A failure found by chance must be reproducible."""
    draws = []
    for _ in range(2):
        faults = Faults(seed=3)
        faults.add(Fault("reset", probability=0.5))
        draws.append([len(faults.strike("/user")) for _ in range(40)])

    assert draws[0] == draws[1]
    assert 10 < sum(draws[0]) < 30


def test_other_processes_switch_faults(client: httpx2.Client) -> None:
    """The demo's GitHub runs in a process of its own."""
    added = client.post("/_sandbox/faults", json={"kind": "status", "status": 500})
    struck = client.get(PULL)
    cleared = client.delete("/_sandbox/faults")

    assert [each.status_code for each in (added, struck, cleared)] == [201, 500, 204]
    assert client.get(PULL).status_code == 200
    shown = {"pull_requests": [f"{REPOSITORY}#7"], "inflicted": {"status": 1}}
    assert client.get("/_sandbox/").json() == shown
    assert client.get("/_sandbox/faults").json() == {"inflicted": {"status": 1}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "Expecting"),
        ("[]", "a fault is a JSON object"),
        ("{}", '"kind" is missing'),
        ('{"kind": "odd"}', "odd"),
        ('{"kind": "status", "code": 1}', "unknown keys: ['code']"),
        ('{"kind": "status", "path": "("}', "no regular expression"),
    ],
)
def test_unknown_fault_is_refused_with_a_reason(
    client: httpx2.Client, body: str, said: str
) -> None:
    """A test with a fault that never occurs would prove nothing."""
    response = client.post("/_sandbox/faults", content=body)

    assert response.status_code == 422
    assert said in response.json()["message"]


# Webhooks.


@pytest.fixture
def endpoint() -> Iterator[SandboxServer]:
    """An endpoint that accepts every delivery until it is told otherwise."""
    with SandboxServer() as server:
        yield server
        server.faults.clear()


def test_failed_delivery_is_listed_and_sent_again(
    sandbox: SandboxServer, client: httpx2.Client, endpoint: SandboxServer
) -> None:
    """GitHub never tries again by itself, and keeps the GUID when it is asked to."""
    endpoint.faults.add(Fault("status", status=503, times=1))
    endpoint.faults.add(Fault("status", status=202, body={}))
    hook = sandbox.world.add_hook(f"{endpoint.url}/in", secret="x", full_name=REPOSITORY)
    path = f"/repos/{REPOSITORY}/hooks/{hook.id}/deliveries"

    failed = send_event(sandbox.world, hook, event="ping", payload={"zen": "Once."})
    asked = client.post(f"{path}/{failed.id}/attempts")
    wait_until(lambda: len(client.get(path).json()) == 2)

    listed = client.get(path).json()
    assert asked.status_code == 202
    assert [(item["status_code"], item["redelivery"]) for item in listed] == [
        (202, True),
        (503, False),
    ]
    assert {item["guid"] for item in listed} == {failed.guid}
    assert [(seen.method, seen.path) for seen in endpoint.requests] == [("POST", "/in")] * 2


def test_server_that_ends_leaves_no_redelivery_behind(endpoint: SandboxServer) -> None:
    """asyncio would complain of it in the output of whoever ran the server."""
    endpoint.faults.add(Fault("slow", seconds=1))
    with SandboxServer() as server, httpx2.Client(base_url=server.url) as client:
        client.headers["Authorization"] = f"Bearer {DEFAULT_TOKEN}"
        server.world.add(make_recording(REPOSITORY, 1))
        hook = server.world.add_hook(f"{endpoint.url}/in", secret="x", full_name=REPOSITORY)
        lost = send_event(server.world, hook, event="ping", payload={}, lost=True)
        client.post(f"/repos/{REPOSITORY}/hooks/{hook.id}/deliveries/{lost.id}/attempts")
        under_way = list(server._service._redeliveries)

    assert [task.done() for task in under_way] == [True]


def test_event_reaches_every_hook_that_wants_it_with_one_guid(
    sandbox: SandboxServer, client: httpx2.Client, endpoint: SandboxServer
) -> None:
    """Deduplication by GUID alone would lose one of the deliveries."""
    wanted = {"full_name": REPOSITORY, "events": ("pull_request",)}
    for name, options in (("one", wanted), ("app", {}), ("other", {"full_name": SHOP})):
        sandbox.world.add_hook(f"{endpoint.url}/{name}", secret="x", **options)
    sandbox.world.add_hook(f"{endpoint.url}/push", secret="x", **{**wanted, "events": ("push",)})
    payload = {"repository": {"full_name": REPOSITORY}}

    sent = announce(sandbox.world, event="pull_request", payload=payload)

    assert {seen.path for seen in endpoint.requests} == {"/one", "/app"}
    assert len({delivery.guid for delivery in sent}) == 1
    assert {delivery.status_code for delivery in sent} == {404}


def test_deliveries_are_paged_by_a_cursor(sandbox: SandboxServer, client: httpx2.Client) -> None:
    """Page numbers would shift with each new delivery."""
    hook = sandbox.world.add_hook("http://127.0.0.1:1/", secret="x", full_name=REPOSITORY)
    sent = [
        send_event(sandbox.world, hook, event="ping", payload={}, lost=True).id for _ in range(3)
    ]

    first = client.get(f"/repos/{REPOSITORY}/hooks/{hook.id}/deliveries?per_page=2")
    last = client.get(first.links["next"]["url"])

    assert [item["id"] for item in first.json() + last.json()] == sent[::-1]
    assert last.links == {}


# As a process of its own.


def test_recordings_of_a_folder_are_served(tmp_path: Path) -> None:
    """A recorded pull request can be examined again."""
    recording = make_recording(REPOSITORY, 7)
    (tmp_path / "one.json").write_text(json.dumps(recording.to_json()))
    command = [*SANDBOX, "--load", str(tmp_path), "--token", "ghp_own", "--limit", "50"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            first, second = process.stdout.readline().split(), process.stdout.readline()
            told = dict(pair.split("=", 1) for pair in first)
            headers = {"Authorization": f"Bearer {told['GITHUB_TOKEN']}"}
            response = httpx2.get(told["GITHUB_API_URL"] + PULL, headers=headers)
        finally:
            process.terminate()

    assert response.json() == recording.pull
    assert (response.headers["x-ratelimit-limit"], second.split()) == ("50", [REPOSITORY, "7"])
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param({}, "holds no *.json files", id="empty"),
        pytest.param({"a.json": "{"}, "a.json: Expecting", id="broken"),
        pytest.param({"a.json": "[]"}, "a.json: a recording is a JSON object", id="a list"),
        pytest.param({"a.json": '{"repo": "a"}'}, 'a.json: "repo" must be', id="no name"),
    ],
)
def test_folder_that_cannot_be_served_is_said_in_one_line(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    """A traceback does not say which file it was."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    arguments = ["--load", str(tmp_path)]
    environment = {"PATH": os.environ["PATH"]}
    ended = run_program(PROGRAM, arguments, environment=environment, timeout=PATIENCE_SECONDS)

    [line] = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout, said in line) == (1, "", True)
