"""The JSON of GitHub's objects, with the key sets and URLs that real answers carry."""

import base64
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]

API = "https://api.github.com"
WEB = "https://github.com"

#: The keys that only the detail of a pull request has, and no list or webhook of a review.
DETAIL_KEYS = frozenset(
    {
        "additions",
        "changed_files",
        "comments",
        "commits",
        "deletions",
        "maintainer_can_modify",
        "mergeable",
        "mergeable_state",
        "merged",
        "merged_by",
        "rebaseable",
        "review_comments",
    }
)


def make_sha(*parts: object) -> str:
    """Return the same 40 hexadecimal digits for the same parts, as a git object id."""
    text = "/".join(str(part) for part in parts)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def make_id(text: str, *, start: int) -> int:
    """Return a number above `start` that only depends on the text."""
    return start + zlib.crc32(text.lower().encode())


def make_node_id(prefix: str, number: int) -> str:
    packed = base64.urlsafe_b64encode(number.to_bytes(8, "big")).decode().rstrip("=")
    return f"{prefix}_kwDO{packed}"


def make_global_id(prefix: str, *ids: int) -> str:
    """Return a node id as GitHub packs it: a kind, and a 0 and the ids down to its own."""
    packed = bytes([0x90 + 1 + len(ids), 0])
    for number in ids:
        size, mark = (4, 0xCE) if number < 2**32 else (8, 0xCF)
        packed += bytes([mark]) + number.to_bytes(size, "big")
    return f"{prefix}_{base64.urlsafe_b64encode(packed).decode().rstrip('=')}"


def user(login: str, *, kind: str = "User") -> Json:
    """Build an account; a login ending in `[bot]` makes a bot whatever the kind."""
    kind = "Bot" if login.endswith("[bot]") else kind
    account_id = make_id(login, start=1_000)
    url = f"{API}/users/{quote(login)}"
    html_url = f"{WEB}/apps/{login.removesuffix('[bot]')}" if kind == "Bot" else f"{WEB}/{login}"
    return {
        "login": login,
        "id": account_id,
        "node_id": make_node_id({"Bot": "BOT", "Organization": "O"}.get(kind, "U"), account_id),
        "avatar_url": f"https://avatars.githubusercontent.com/u/{account_id}?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": html_url,
        "followers_url": f"{url}/followers",
        "following_url": f"{url}/following{{/other_user}}",
        "gists_url": f"{url}/gists{{/gist_id}}",
        "starred_url": f"{url}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{url}/subscriptions",
        "organizations_url": f"{url}/orgs",
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events{{/privacy}}",
        "received_events_url": f"{url}/received_events",
        "type": kind,
        "user_view_type": "public",
        "site_admin": False,
    }


def organization(login: str) -> Json:
    """Build the `organization` of a webhook, which is not the shape of an account."""
    account_id = make_id(login, start=1_000)
    url = f"{API}/orgs/{login}"
    return {
        "login": login,
        "id": account_id,
        "node_id": make_node_id("O", account_id),
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{account_id}?v=4",
        "description": "",
    }


_REPOSITORY_LINKS = {
    "forks": "",
    "keys": "{/key_id}",
    "collaborators": "{/collaborator}",
    "teams": "",
    "hooks": "",
    "events": "",
    "assignees": "{/user}",
    "branches": "{/branch}",
    "tags": "",
    "languages": "",
    "stargazers": "",
    "contributors": "",
    "subscribers": "",
    "subscription": "",
    "commits": "{/sha}",
    "comments": "{/number}",
    "merges": "",
    "downloads": "",
    "issues": "{/number}",
    "pulls": "{/number}",
    "milestones": "{/number}",
    "notifications": "{?since,all,participating}",
    "labels": "{/name}",
    "releases": "{/id}",
    "deployments": "",
}
_REPOSITORY_OTHER_LINKS = {
    "issue_events_url": "issues/events{/number}",
    "blobs_url": "git/blobs{/sha}",
    "git_tags_url": "git/tags{/sha}",
    "git_refs_url": "git/refs{/sha}",
    "trees_url": "git/trees{/sha}",
    "statuses_url": "statuses/{sha}",
    "git_commits_url": "git/commits{/sha}",
    "issue_comment_url": "issues/comments{/number}",
    "contents_url": "contents/{+path}",
    "compare_url": "compare/{base}...{head}",
    "archive_url": "{archive_format}{/ref}",
}


def repository(
    full_name: str, *, repository_id: int, private: bool = False, archived: bool = False
) -> Json:
    """Build a repository as it stands in pull requests and webhooks; its owner is a company."""
    owner, _, name = full_name.partition("/")
    url = f"{API}/repos/{full_name}"
    links = {f"{key}_url": f"{url}/{key}{rest}" for key, rest in _REPOSITORY_LINKS.items()}
    links |= {key: f"{url}/{rest}" for key, rest in _REPOSITORY_OTHER_LINKS.items()}
    return {
        "id": repository_id,
        "node_id": make_node_id("R", repository_id),
        "name": name,
        "full_name": full_name,
        "private": private,
        "owner": user(owner, kind="Organization"),
        "html_url": f"{WEB}/{full_name}",
        "description": f"Everything about {name}",
        "fork": False,
        "url": url,
        **links,
        "created_at": "2021-04-12T08:30:00Z",
        "updated_at": "2026-02-27T16:04:51Z",
        "pushed_at": "2026-02-27T16:04:47Z",
        "git_url": f"git://github.com/{full_name}.git",
        "ssh_url": f"git@github.com:{full_name}.git",
        "clone_url": f"{WEB}/{full_name}.git",
        "svn_url": f"{WEB}/{full_name}",
        "homepage": None,
        "size": 30_781,
        "stargazers_count": 12,
        "watchers_count": 12,
        "language": "Python",
        "has_issues": True,
        "has_projects": True,
        "has_downloads": True,
        "has_wiki": False,
        "has_pages": False,
        "has_discussions": False,
        "forks_count": 3,
        "mirror_url": None,
        "archived": archived,
        "disabled": False,
        "open_issues_count": 4,
        "license": None,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "visibility": "private" if private else "public",
        "forks": 3,
        "open_issues": 4,
        "watchers": 12,
        "default_branch": "main",
    }


def branch(*, ref: str, sha: str, repo: Json) -> Json:
    """Build the `head` or `base` of a pull request."""
    owner = repo["owner"]
    return {
        "label": f"{owner['login']}:{ref}",
        "ref": ref,
        "sha": sha,
        "user": owner,
        "repo": repo,
    }


def pull(
    full_name: str,
    number: int,
    *,
    pull_id: int,
    author: Json | None,
    title: str,
    body: str | None,
    created_at: str,
    head: Json,
    base: Json,
) -> Json:
    """Build the detail of an open pull request whose counters are all 0."""
    url = f"{API}/repos/{full_name}/pulls/{number}"
    issue_url = f"{API}/repos/{full_name}/issues/{number}"
    html_url = f"{WEB}/{full_name}/pull/{number}"
    urls = {
        "self": url,
        "html": html_url,
        "issue": issue_url,
        "comments": f"{issue_url}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{API}/repos/{full_name}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": f"{API}/repos/{full_name}/statuses/{head['sha']}",
    }
    return {
        "url": url,
        "id": pull_id,
        "node_id": make_node_id("PR", pull_id),
        "html_url": html_url,
        "diff_url": f"{html_url}.diff",
        "patch_url": f"{html_url}.patch",
        "issue_url": issue_url,
        "number": number,
        "state": "open",
        "locked": False,
        "title": title,
        "user": author,
        "body": body,
        "created_at": created_at,
        "updated_at": created_at,
        "closed_at": None,
        "merged_at": None,
        "merge_commit_sha": None,
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "labels": [],
        "milestone": None,
        "draft": False,
        "commits_url": urls["commits"],
        "review_comments_url": urls["review_comments"],
        "review_comment_url": urls["review_comment"],
        "comments_url": urls["comments"],
        "statuses_url": urls["statuses"],
        "head": head,
        "base": base,
        "_links": {name: {"href": href} for name, href in urls.items()},
        "author_association": "CONTRIBUTOR",
        "auto_merge": None,
        "active_lock_reason": None,
        "merged": False,
        "mergeable": None,
        "rebaseable": None,
        "mergeable_state": "unknown",
        "merged_by": None,
        "comments": 0,
        "review_comments": 0,
        "maintainer_can_modify": False,
        "commits": 0,
        "additions": 0,
        "deletions": 0,
        "changed_files": 0,
    }


def short_pull(pull: Mapping[str, Any]) -> Json:
    """Return the pull request as lists and review webhooks show it: without its counters."""
    return {key: value for key, value in pull.items() if key not in DETAIL_KEYS}


def commit(
    full_name: str,
    *,
    sha: str,
    parents: Sequence[str],
    message: str,
    author: Json | None,
    committer: Json | None,
    name: str,
    authored_at: str,
    committed_at: str,
) -> Json:
    """Build a commit; `author` and `committer` are the accounts, `name` is the one in git."""
    url = f"{API}/repos/{full_name}/commits/{sha}"
    tree = make_sha("tree", sha)
    email = f"{name.lower().replace(' ', '.')}@example.com"
    return {
        "sha": sha,
        "node_id": make_node_id("C", int(sha[:12], 16)),
        "commit": {
            "author": {"name": name, "email": email, "date": authored_at},
            "committer": {"name": name, "email": email, "date": committed_at},
            "message": message,
            "tree": {"sha": tree, "url": f"{API}/repos/{full_name}/git/trees/{tree}"},
            "url": f"{API}/repos/{full_name}/git/commits/{sha}",
            "comment_count": 0,
            "verification": {
                "verified": False,
                "reason": "unsigned",
                "signature": None,
                "payload": None,
                "verified_at": None,
            },
        },
        "url": url,
        "html_url": f"{WEB}/{full_name}/commit/{sha}",
        "comments_url": f"{url}/comments",
        "author": author,
        "committer": committer,
        "parents": [
            {
                "sha": parent,
                "url": f"{API}/repos/{full_name}/commits/{parent}",
                "html_url": f"{WEB}/{full_name}/commit/{parent}",
            }
            for parent in parents
        ],
    }


def changed_file(
    full_name: str,
    *,
    filename: str,
    head_sha: str,
    status: str,
    additions: int,
    deletions: int,
    previous_filename: str | None = None,
    patch: str | None = None,
) -> Json:
    path = quote(filename, safe="")
    built: Json = {
        "sha": make_sha("blob", head_sha, filename),
        "filename": filename,
        "status": status,
        "additions": additions,
        "deletions": deletions,
        "changes": additions + deletions,
        "blob_url": f"{WEB}/{full_name}/blob/{head_sha}/{path}",
        "raw_url": f"{WEB}/{full_name}/raw/{head_sha}/{path}",
        "contents_url": f"{API}/repos/{full_name}/contents/{path}?ref={head_sha}",
    }
    if patch is not None:
        built["patch"] = patch
    if previous_filename is not None:
        built["previous_filename"] = previous_filename
    return built


def reactions(url: str) -> Json:
    kinds = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")
    return {"url": f"{url}/reactions", "total_count": 0, **dict.fromkeys(kinds, 0)}


def issue_comment(
    full_name: str, number: int, *, comment_id: int, author: Json | None, body: str, created_at: str
) -> Json:
    url = f"{API}/repos/{full_name}/issues/comments/{comment_id}"
    return {
        "url": url,
        "html_url": f"{WEB}/{full_name}/pull/{number}#issuecomment-{comment_id}",
        "issue_url": f"{API}/repos/{full_name}/issues/{number}",
        "id": comment_id,
        "node_id": make_node_id("IC", comment_id),
        "user": author,
        "created_at": created_at,
        "updated_at": created_at,
        "body": body,
        "author_association": "MEMBER",
        "reactions": reactions(url),
        "performed_via_github_app": None,
    }


def review(
    full_name: str,
    number: int,
    *,
    review_id: int,
    author: Json | None,
    state: str,
    body: str,
    commit_sha: str,
    submitted_at: str | None,
) -> Json:
    """Build a review; without `submitted_at` the key is absent, as in a pending one."""
    html_url = f"{WEB}/{full_name}/pull/{number}#pullrequestreview-{review_id}"
    pull_url = f"{API}/repos/{full_name}/pulls/{number}"
    built: Json = {
        "id": review_id,
        "node_id": make_node_id("PRR", review_id),
        "user": author,
        "body": body,
        "state": state,
        "html_url": html_url,
        "pull_request_url": pull_url,
        "author_association": "MEMBER",
        "_links": {"html": {"href": html_url}, "pull_request": {"href": pull_url}},
        "commit_id": commit_sha,
    }
    if submitted_at is not None:
        built["submitted_at"] = submitted_at
    return built


def review_comment(
    full_name: str,
    number: int,
    *,
    comment_id: int,
    review_id: int | None,
    author: Json | None,
    body: str,
    path: str,
    line: int | None,
    commit_sha: str,
    created_at: str,
    original_commit_sha: str | None = None,
    original_line: int | None = None,
    in_reply_to_id: int | None = None,
) -> Json:
    """Build a comment on a line; an outdated one has no `line` and yet `position` 1."""
    url = f"{API}/repos/{full_name}/pulls/comments/{comment_id}"
    html_url = f"{WEB}/{full_name}/pull/{number}#discussion_r{comment_id}"
    pull_url = f"{API}/repos/{full_name}/pulls/{number}"
    built: Json = {
        "url": url,
        "pull_request_review_id": review_id,
        "id": comment_id,
        "node_id": make_node_id("PRRC", comment_id),
        "diff_hunk": make_patch(path, additions=6, deletions=2),
        "path": path,
        "commit_id": commit_sha,
        "original_commit_id": original_commit_sha or commit_sha,
        "user": author,
        "body": body,
        "created_at": created_at,
        "updated_at": created_at,
        "html_url": html_url,
        "pull_request_url": pull_url,
        "_links": {
            "self": {"href": url},
            "html": {"href": html_url},
            "pull_request": {"href": pull_url},
        },
        "reactions": reactions(url),
        "start_line": None,
        "original_start_line": None,
        "start_side": None,
        "line": line,
        "original_line": original_line or line,
        "side": "RIGHT",
        "author_association": "MEMBER",
        "original_position": original_line or line,
        "position": 1 if line is None else line,
        "subject_type": "line",
    }
    if in_reply_to_id is not None:
        built["in_reply_to_id"] = in_reply_to_id
    return built


def app(slug: str) -> Json:
    """Build the GitHub App that reported a check."""
    app_id = make_id(slug, start=1)
    return {
        "id": app_id,
        "client_id": f"Iv1.{app_id:016x}",
        "slug": slug,
        "node_id": make_node_id("A", app_id),
        "owner": user("github", kind="Organization"),
        "name": slug.replace("-", " ").title(),
        "description": "Automate your workflow from idea to production",
        "external_url": f"https://example.com/{slug}",
        "html_url": f"{WEB}/apps/{slug}",
        "created_at": "2018-07-30T09:30:17Z",
        "updated_at": "2025-03-07T16:35:00Z",
        "permissions": {"checks": "write", "contents": "read", "metadata": "read"},
        "events": ["check_run", "check_suite", "pull_request"],
    }


def check_run(
    full_name: str,
    *,
    run_id: int,
    suite_id: int,
    name: str,
    head_sha: str,
    status: str,
    conclusion: str | None,
    started_at: str | None,
    completed_at: str | None,
    app_slug: str = "github-actions",
    pull_requests: Sequence[Json] = (),
) -> Json:
    url = f"{API}/repos/{full_name}/check-runs/{run_id}"
    return {
        "id": run_id,
        "name": name,
        "node_id": make_node_id("CR", run_id),
        "head_sha": head_sha,
        "external_id": make_sha("external", run_id)[:36],
        "url": url,
        "html_url": f"{WEB}/{full_name}/actions/runs/{suite_id}/job/{run_id}",
        "details_url": f"{WEB}/{full_name}/actions/runs/{suite_id}/job/{run_id}",
        "status": status,
        "conclusion": conclusion,
        "started_at": started_at,
        "completed_at": completed_at,
        "output": {
            "title": None,
            "summary": None,
            "text": None,
            "annotations_count": 0,
            "annotations_url": f"{url}/annotations",
        },
        "check_suite": {"id": suite_id},
        "app": app(app_slug),
        "pull_requests": list(pull_requests),
    }


def commit_status(
    full_name: str,
    *,
    status_id: int,
    sha: str,
    context: str,
    state: str,
    creator: Json,
    created_at: str,
    description: str | None = None,
) -> Json:
    return {
        "url": f"{API}/repos/{full_name}/statuses/{sha}",
        "avatar_url": creator["avatar_url"],
        "id": status_id,
        "node_id": make_node_id("SC", status_id),
        "state": state,
        "description": description,
        "target_url": None,
        "context": context,
        "created_at": created_at,
        "updated_at": created_at,
        "creator": creator,
    }


def event(
    full_name: str, *, event_id: int, name: str, actor: Json | None, created_at: str, **more: Any
) -> Json:
    """Build an event of a timeline, such as `ready_for_review`."""
    return {
        "id": event_id,
        "node_id": make_node_id("TE", event_id),
        "url": f"{API}/repos/{full_name}/issues/events/{event_id}",
        "actor": actor,
        "event": name,
        "commit_id": None,
        "commit_url": None,
        "created_at": created_at,
        "performed_via_github_app": None,
        **more,
    }


def committed(commit: Json) -> Json:
    """Build the entry of a commit in a timeline: the commit of git, with no id."""
    keys = ("sha", "node_id", "url", "html_url", "parents")
    of_git = ("author", "committer", "message", "tree", "verification")
    return {
        **{key: commit.get(key) for key in keys},
        **{key: commit["commit"].get(key) for key in of_git},
        "event": "committed",
    }


def commented(comment: Json) -> Json:
    return {**comment, "event": "commented", "actor": comment.get("user")}


def reviewed(review: Json) -> Json:
    """Build the entry of a review in a timeline: its state in lower case, its user never null."""
    changes = {"event": "reviewed", "state": str(review.get("state")).lower()}
    return {**review, **changes, "user": review.get("user") or {**user("ghost"), "id": 10137}}


def merged(full_name: str, pull: Json) -> Json:
    """Build the event that every merged pull request has."""
    return event(
        full_name,
        event_id=make_id(f"{full_name}#{pull['number']} merged", start=1),
        name="merged",
        actor=pull.get("merged_by"),
        created_at=pull["merged_at"],
        commit_id=pull.get("merge_commit_sha"),
    )


def date_event(entry: Json) -> str:
    """Return when an entry of a timeline happened, as text."""
    committer = entry.get("committer") or {}
    return str(entry.get("created_at") or entry.get("submitted_at") or committer.get("date") or "")


def make_patch(path: str, *, additions: int, deletions: int) -> str:
    """Write a diff with the given numbers of lines, naming the file so that no two are alike."""
    removed = [f"-    value_{index} = read_old_{index}({path!r})" for index in range(deletions)]
    added = [f"+    value_{index} = read_setting_{index}({path!r})" for index in range(additions)]
    head = f"@@ -10,{deletions + 2} +10,{additions + 2} @@ def configure():"
    return "\n".join([head, "     settings = load()", *removed, *added, "     return settings"])
