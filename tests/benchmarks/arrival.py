"""From the POST of a merge to complete rows, beside bare HTTP calls and a plain loop."""

import asyncio
import time
from statistics import median

import httpx2
from django.utils import timezone
from github import Auth, Github

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
    """Measure with one idle worker; ours, the bare calls and the loop take turns."""
    figures = []
    with stage.run_web() as (web_url, _), stage.run_worker():
        for recording in stage.take(2):
            merge(stage, web_url, recording)
        for latency in LATENCIES_MS:
            stage.set_latency(latency)
            ours, floor, loop = [], [], []
            for recording in stage.take(ROUNDS):
                ours.append(merge(stage, web_url, recording))
                floor.append(asyncio.run(call_bare(stage.api_url, recording)))
                loop.append(ask_in_turn(stage.api_url, recording))
            name = f"merge → complete, GitHub at {latency} ms"
            budget = 1.5 * 2 * latency + 150
            figures += [
                Figure(
                    name, median(ours), "ms", "bare concurrent calls", median(floor), at_most=budget
                ),
                Figure(name, median(ours), "ms", "PyGithub, one by one", median(loop)),
            ]
    stage.set_latency(0)
    return figures


def merge(stage: Stage, web_url: str, recording: Recording) -> float:
    """Post a merge, and return the milliseconds until its row says that it is complete."""
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


async def call_bare(api_url: str, recording: Recording) -> float:
    """Send what a fetch sends, in the same two round trips, and read the JSON; keep nothing."""
    root = f"{api_url}/repos/{recording.repo}"
    started = time.perf_counter()
    async with httpx2.AsyncClient(headers=HEADERS, verify=False) as client:
        pull = (await client.get(f"{root}/pulls/{recording.number}")).json()
        values = {"number": recording.number, "sha": pull["head"]["sha"]}
        urls = [f"{root}/{path.format(**values)}?per_page=100" for path in LISTS]
        for answer in await asyncio.gather(*map(client.get, urls)):
            answer.raise_for_status().json()
    return (time.perf_counter() - started) * 1000


def ask_in_turn(api_url: str, recording: Recording) -> float:
    """Ask for the same with PyGithub, one thing after another, over one kept-open connection."""
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
