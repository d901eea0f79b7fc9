"""The time from a merge's POST to complete rows, beside bare HTTP calls and three libraries."""

import asyncio
import time
from collections.abc import Callable
from functools import cache
from statistics import median

import httpx2
from django.utils import timezone
from ghapi.all import GhApi
from github import Auth, Github
from githubkit import GitHub

from metrics_sync.models import PullRequest
from metrics_sync.sandbox import DEFAULT_TOKEN, Recording, deliver
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import Stage, tell, wait_for

LATENCIES_MS = (0, 50, 100)
ROUNDS = 9
LISTS = (
    "pulls/{number}/commits",
    "pulls/{number}/files",
    "commits/{sha}/check-runs",
    "issues/{number}/comments",
    "pulls/{number}/comments",
    "pulls/{number}/reviews",
    "issues/{number}/timeline",
    "commits/{sha}/status",
)
HEADERS = {"Authorization": f"Bearer {DEFAULT_TOKEN}"}


def measure(stage: Stage) -> list[Figure]:
    """Measure with one idle worker, alternating between ours, the bare calls and the libraries.

    All send the same requests. The others store nothing, prove nothing and do not retry.
    """
    figures, at_zero = [], 0.0
    with stage.run_web() as (web_url, _), stage.run_worker():
        for recording in stage.take(2):
            merge(stage, web_url, recording)
            for ask in BESIDE.values():
                ask(stage.api_url, recording)
        for latency in LATENCIES_MS:
            stage.set_latency(latency)
            ours, others = [], {name: list[float]() for name in BESIDE}
            for recording in stage.take(ROUNDS):
                ours.append(merge(stage, web_url, recording))
                for name, ask in BESIDE.items():
                    others[name].append(ask(stage.api_url, recording))
            what, measured = f"merge → complete, GitHub at {latency} ms", median(ours)
            # Two round trips and a quarter, and our own work.
            budgets = {FLOOR: 1.25 * 2 * latency + at_zero} if latency else {}
            at_zero = at_zero if latency else measured
            for name, found in others.items():
                beside = median(found)
                figures.append(
                    Figure(what, measured, "ms", name, beside, at_most=budgets.get(name))
                )
    stage.set_latency(0)
    return figures


def merge(stage: Stage, web_url: str, recording: Recording) -> float:
    """Post a merge, and return the milliseconds until its row is complete."""
    url = web_url + stage.integration.get_webhook_path()
    post = tell(stage, recording)
    told_at = timezone.now()
    answer = deliver(url, **post)
    assert answer.status == 202, answer
    rows = PullRequest.objects.filter(github_pr_id=recording.pull["id"])
    wait_for(rows.filter(sync_status="complete").exists, f"{recording.number} to be complete")
    completed_at = rows.values_list("completed_at", flat=True).get()
    assert completed_at is not None
    return (completed_at - told_at).total_seconds() * 1000


def call_bare(api_url: str, recording: Recording) -> float:
    """Send a fetch's requests in the same two round trips, and parse the JSON; store nothing."""
    return asyncio.run(_call_bare(api_url, recording))


async def _call_bare(api_url: str, recording: Recording) -> float:
    root = f"{api_url}/repos/{recording.repo}"
    started = time.perf_counter()
    async with httpx2.AsyncClient(headers=HEADERS, verify=False) as client:
        pull = (await client.get(f"{root}/pulls/{recording.number}")).json()
        values = {"number": recording.number, "sha": pull["head"]["sha"]}
        urls = [f"{root}/{path.format(**values)}?per_page=100" for path in LISTS]
        for answer in await asyncio.gather(*map(client.get, urls)):
            answer.raise_for_status().json()
    return (time.perf_counter() - started) * 1000


def ask_ghapi(api_url: str, recording: Recording) -> float:
    """Send the same requests with ghapi unchanged, which opens a connection for each."""
    api, (owner, repo) = _make_ghapi(api_url), recording.repo.split("/")
    where, number, page = (owner, repo), recording.number, {"per_page": 100}
    started = time.perf_counter()
    sha = api.pulls.get(*where, number).head.sha
    api.pulls.list_commits(*where, number, **page)
    api.pulls.list_files(*where, number, **page)
    api.checks.list_for_ref(*where, sha, **page)
    api.issues.list_comments(*where, number, **page)
    api.pulls.list_review_comments(*where, number, **page)
    api.pulls.list_reviews(*where, number, **page)
    api.issues.list_events_for_timeline(*where, number, **page)
    api.repos.get_combined_status_for_ref(*where, sha, **page)
    return (time.perf_counter() - started) * 1000


@cache
def _make_ghapi(api_url: str) -> GhApi:
    """Make ghapi's client once, because it reads the descriptions of all operations."""
    return GhApi(token=DEFAULT_TOKEN, gh_host=api_url, sync=True)


def ask_githubkit(api_url: str, recording: Recording) -> float:
    """Send the same requests with githubkit in the same two round trips, and parse its models."""
    return asyncio.run(_ask_githubkit(api_url, recording))


async def _ask_githubkit(api_url: str, recording: Recording) -> float:
    owner, repo = recording.repo.split("/")
    where, number, page = (owner, repo), recording.number, {"per_page": 100}
    async with GitHub(DEFAULT_TOKEN, base_url=api_url) as github:
        rest = github.rest
        started = time.perf_counter()
        pull = (await rest.pulls.async_get(*where, number)).parsed_data
        sha = pull.head.sha
        answers = await asyncio.gather(
            rest.pulls.async_list_commits(*where, number, **page),
            rest.pulls.async_list_files(*where, number, **page),
            rest.checks.async_list_for_ref(*where, sha, **page),
            rest.issues.async_list_comments(*where, number, **page),
            rest.pulls.async_list_review_comments(*where, number, **page),
            rest.pulls.async_list_reviews(*where, number, **page),
            rest.issues.async_list_events_for_timeline(*where, number, **page),
            rest.repos.async_get_combined_status_for_ref(*where, sha, **page),
        )
        for answer in answers:
            _ = answer.parsed_data
    return (time.perf_counter() - started) * 1000


def ask_pygithub(api_url: str, recording: Recording) -> float:
    """Send the same requests with PyGithub, one after another, over one kept-open connection."""
    started = time.perf_counter()
    auth = Auth.Token(DEFAULT_TOKEN)
    with Github(base_url=api_url, auth=auth, per_page=100, seconds_between_requests=None) as github:
        repository = github.get_repo(recording.repo, lazy=True)
        pull = repository.get_pull(recording.number)
        head = repository.get_commit(pull.head.sha)
        issue = pull.as_issue()
        for items in (
            pull.get_commits(),
            pull.get_files(),
            head.get_check_runs(),
            pull.get_issue_comments(),
            pull.get_review_comments(),
            pull.get_reviews(),
            issue.get_timeline(),
        ):
            list(items)
        head.get_combined_status()
    return (time.perf_counter() - started) * 1000


FLOOR = "bare concurrent calls"
BESIDE: dict[str, Callable[[str, Recording], float]] = {
    FLOOR: call_bare,
    "ghapi, one by one": ask_ghapi,
    "githubkit, concurrent": ask_githubkit,
    "PyGithub, one by one": ask_pygithub,
}
