"""The operations on commits: checks, legacy statuses and comparisons."""

from collections.abc import Iterable, Sequence
from typing import Any

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.answers import Answer, Document, Listing, refuse
from metrics_sync.sandbox.routing import Ask, repository_routes
from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import Recording

#: https://docs.github.com/en/rest/commits/commits#compare-two-commits
MAX_COMPARED_COMMITS = 250
MAX_COMPARED_FILES = 300


@repository_routes.get(r"/commits/(?P<sha>[^/]+)/check-runs")
def list_check_runs(ask: Ask) -> Answer:
    """List what was reported about a sha, whichever pull requests have it as head."""
    sha = ask.params["sha"]
    recordings = ask.world.visible(ask.repo).values()
    is_latest = ask.query.get("filter", "latest") == "latest"
    runs = gather_check_runs(recordings, sha, is_latest=is_latest)
    if not runs and not _find_heads(ask, sha) and not _knows(ask, sha):
        return _refuse_sha(sha)
    for key, wanted in (("name", "check_name"), ("status", "status")):
        if wanted in ask.query:
            runs = [run for run in runs if run.get(key) == ask.query[wanted]]
    return Listing(runs, _render_check_runs)


def gather_check_runs(
    recordings: Iterable[Recording], sha: str, *, is_latest: bool = True
) -> list[Json]:
    """Return the check runs of a sha: of each check only the last one, or all."""
    by_id = {
        run["id"]: run
        for item in recordings
        for run in (
            *(item.check_runs if item.head_sha == sha else ()),
            *item.check_runs_by_sha.get(sha, ()),
        )
    }
    runs = list(by_id.values())
    return _keep_latest(runs) if is_latest else runs


def gather_statuses(recordings: Iterable[Recording], sha: str) -> list[Json]:
    """Return the last status of each context of a sha."""
    heads = (item for item in recordings if item.head_sha == sha)
    # Statuses are in order of time, so the last of a context is the one that counts.
    return list({status["context"]: status for item in heads for status in item.statuses}.values())


def _render_check_runs(items: Sequence[Json], _page: int, total: int) -> Any:
    return {"total_count": total, "check_runs": list(items)}


def _keep_latest(runs: Sequence[Json]) -> list[Json]:
    """Keep the newest run of each name in each suite; the same name in two suites stays twice."""
    newest: dict[tuple[Any, str], int] = {}
    for run in runs:
        key = ((run.get("check_suite") or {}).get("id"), str(run["name"]))
        newest[key] = max(newest.get(key, 0), run["id"])
    kept = set(newest.values())
    return [run for run in runs if run["id"] in kept]


@repository_routes.get(r"/commits/(?P<sha>[^/]+)/status")
def get_combined_status(ask: Ask) -> Answer:
    sha = ask.params["sha"]
    heads = _find_heads(ask, sha)
    if not heads and not _knows(ask, sha):
        return _refuse_sha(sha)
    latest = gather_statuses(heads, sha)
    url = f"{shapes.API}/repos/{ask.repo.full_name}/commits/{sha}"

    def render(items: Sequence[Json], _page: int, total: int) -> Any:
        return {
            "state": _combine([status["state"] for status in latest]),
            "statuses": [
                {key: value for key, value in item.items() if key != "creator"} for item in items
            ],
            "sha": sha,
            "total_count": total,
            "repository": ask.repo.to_json(),
            "commit_url": url,
            "url": f"{url}/status",
        }

    return Listing(latest, render)


def _combine(states: Sequence[str]) -> str:
    """https://docs.github.com/en/rest/commits/statuses#get-the-combined-status"""
    if {"error", "failure"} & set(states):
        return "failure"
    return "pending" if not states or "pending" in states else "success"


@repository_routes.get(r"/commits/(?P<sha>[^/]+)/statuses")
@repository_routes.get(r"/statuses/(?P<sha>[^/]+)")
def list_statuses(ask: Ask) -> Answer:
    """List every status of a sha, newest first."""
    sha = ask.params["sha"]
    heads = _find_heads(ask, sha)
    if not heads and not _knows(ask, sha):
        return _refuse_sha(sha)
    by_id = {status["id"]: status for item in heads for status in item.statuses}
    return Listing(list(reversed(by_id.values())))


def _find_heads(ask: Ask, sha: str) -> list[Recording]:
    return [item for item in ask.world.visible(ask.repo).values() if item.head_sha == sha]


def _knows(ask: Ask, sha: str) -> bool:
    recordings = ask.world.visible(ask.repo).values()
    return any(
        sha in item.check_runs_by_sha or any(commit["sha"] == sha for commit in item.commits)
        for item in recordings
    )


def _refuse_sha(sha: str) -> Document:
    return refuse(422, f"No commit found for SHA: {sha}")


@repository_routes.get(r"/compare/(?P<base>.+)\.\.\.(?P<head>.+)")
def compare(ask: Ask) -> Answer:
    """Compare a pull request's base with its head, each a sha, a branch or `owner:branch`.

    Asked for without pages it lists the last 250 commits, else all in pages; the files, at
    most 300, come with the first page.
    """
    names = ask.params["base"], ask.params["head"]
    for recording in ask.world.visible(ask.repo).values():
        sides = (recording.pull.get("base"), recording.pull.get("head"))
        if all(_is_named(side, name) for side, name in zip(sides, names, strict=True)):
            return _compare(ask, recording)
    return refuse(404)


def _is_named(side: Json | None, name: str) -> bool:
    return side is not None and name in {side.get("sha"), side.get("ref"), side.get("label")}


def _make_base_commit(recording: Recording) -> Json:
    owner, moment = shapes.user(recording.repo.partition("/")[0]), "2026-03-01T00:00:00Z"
    return shapes.commit(
        recording.repo,
        sha=recording.base_sha,
        parents=[],
        message="Start here",
        author=owner,
        committer=owner,
        name=owner["login"],
        authored_at=moment,
        committed_at=moment,
    )


def _compare(ask: Ask, recording: Recording) -> Answer:
    url = f"{shapes.WEB}/{recording.repo}/compare/{ask.params['base']}...{ask.params['head']}"
    base = _make_base_commit(recording)

    def render(items: Sequence[Json], page: int, total: int) -> Any:
        return {
            "url": f"{shapes.API}{ask.canonical_path}",
            "html_url": url,
            "permalink_url": url,
            "diff_url": f"{url}.diff",
            "patch_url": f"{url}.patch",
            "base_commit": base,
            "merge_base_commit": base,
            "status": "ahead",
            "ahead_by": total,
            "behind_by": 0,
            "total_commits": total,
            "commits": list(items),
            "files": recording.files[:MAX_COMPARED_FILES] if page == 1 else [],
        }

    if not {"page", "per_page"} & set(ask.query):
        newest = recording.commits[-MAX_COMPARED_COMMITS:]
        return Document(render(newest, 1, len(recording.commits)))
    return Listing(recording.commits, render)
