"""Builds one pull request's history, event by event, as a recording without contradictions."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import Recording

#: When number 0 would have been opened; each later number is opened an hour later.
EPOCH = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
#: Ids of a repository's things start here; real ones are beyond 2^31 too.
FIRST_ID = 10_000_000_000


def format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class PullRequestBuilder:
    """The history of one pull request.

    `at` is always minutes after the opening, and may be negative for commits. Methods return
    the JSON they added, which may be changed. `finish` makes the counters agree.
    """

    def __init__(
        self,
        full_name: str,
        number: int,
        *,
        author: str = "mona",
        title: str = "Read settings from the environment",
        body: str | None = "Closes the gap between what we read and what we document.",
        head_ref: str = "read-settings",
        opened_at: datetime | None = None,
        repository_id: int | None = None,
        private: bool = False,
        seed: int = 0,
    ) -> None:
        self.full_name = full_name
        self.number = number
        self.author = author
        self.seed = seed
        self.opened_at = opened_at or EPOCH + timedelta(hours=number)
        self._last_id = FIRST_ID + shapes.make_id(full_name, start=0) % 2_000 * 10**12
        self._last_id += number * 10**5
        repo = shapes.repository(
            full_name,
            repository_id=repository_id or shapes.make_id(full_name, start=100_000),
            private=private,
        )
        base = shapes.branch(ref="main", sha=self.sha("base"), repo=repo)
        head = shapes.branch(ref=head_ref, sha=self.sha("head"), repo=dict(repo))
        pull = shapes.pull(
            full_name,
            number,
            pull_id=self.take_id(),
            author=shapes.user(author),
            title=title,
            body=body,
            created_at=self.time(0),
            head=head,
            base=base,
        )
        self.recording = Recording(full_name, number, pull)

    @property
    def pull(self) -> Json:
        return self.recording.pull

    @property
    def head_sha(self) -> str:
        commits = self.recording.commits
        return str(commits[-1]["sha"]) if commits else self.recording.base_sha

    def time(self, at: float) -> str:
        return format_time(self.opened_at + timedelta(minutes=at))

    def sha(self, *parts: object) -> str:
        return shapes.make_sha(self.full_name, self.number, self.seed, *parts)

    def take_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def commit(
        self,
        at: float,
        *,
        message: str = "",
        authored: float | None = None,
        name: str | None = None,
    ) -> Json:
        """Push a commit by the author; `authored` before `at` makes a rebased one."""
        login = name or self.author
        built = shapes.commit(
            self.full_name,
            sha=self.sha("commit", at, message, len(self.recording.commits)),
            parents=[self.head_sha],
            message=message or f"Improve step {len(self.recording.commits) + 1}",
            author=shapes.user(login),
            committer=shapes.user(login),
            name=login.title(),
            authored_at=self.time(at if authored is None else authored),
            committed_at=self.time(at),
        )
        self.recording.commits.append(built)
        return built

    def file(
        self,
        filename: str,
        *,
        additions: int = 8,
        deletions: int = 3,
        status: str = "modified",
        previous_filename: str | None = None,
        with_patch: bool = True,
    ) -> Json:
        patch = shapes.make_patch(filename, additions=additions, deletions=deletions)
        built = shapes.changed_file(
            self.full_name,
            filename=filename,
            head_sha=self.head_sha,
            status=status,
            additions=additions,
            deletions=deletions,
            previous_filename=previous_filename,
            patch=patch if with_patch and additions + deletions else None,
        )
        self.recording.files.append(built)
        return built

    def comment(self, at: float, *, login: str | None = None, body: str = "Looks close.") -> Json:
        built = shapes.issue_comment(
            self.full_name,
            self.number,
            comment_id=self.take_id(),
            author=shapes.user(login or self.author),
            body=body,
            created_at=self.time(at),
        )
        self.recording.issue_comments.append(built)
        return built

    def review(
        self,
        at: float | None,
        *,
        login: str,
        state: str,
        body: str = "",
        commit_sha: str | None = None,
    ) -> Json:
        """Add a review of the commit that is the head now; `at` None leaves it pending."""
        built = shapes.review(
            self.full_name,
            self.number,
            review_id=self.take_id(),
            author=shapes.user(login),
            state=state,
            body=body,
            commit_sha=commit_sha or self.head_sha,
            submitted_at=None if at is None else self.time(at),
        )
        self.recording.reviews.append(built)
        return built

    def review_comment(
        self,
        at: float,
        review: Json,
        *,
        path: str,
        line: int = 12,
        body: str = "Why is this read twice?",
        reply_to: Json | None = None,
        outdated: bool = False,
    ) -> Json:
        """Add a comment of a review on a line, or on the former line of an outdated one."""
        built = shapes.review_comment(
            self.full_name,
            self.number,
            comment_id=self.take_id(),
            review_id=review["id"],
            author=review["user"],
            body=body,
            path=path,
            line=None if outdated else line,
            original_line=line,
            commit_sha=review["commit_id"],
            created_at=self.time(at),
            in_reply_to_id=None if reply_to is None else reply_to["id"],
        )
        self.recording.review_comments.append(built)
        return built

    def check_run(
        self,
        at: float,
        *,
        name: str,
        conclusion: str | None = "success",
        status: str = "completed",
        minutes: float = 4,
        suite: int = 0,
        app_slug: str = "github-actions",
    ) -> Json:
        """Add a check of the head; one that is not completed has no conclusion."""
        completed = status == "completed"
        built = shapes.check_run(
            self.full_name,
            run_id=self.take_id(),
            suite_id=FIRST_ID + self.number * 100 + suite,
            name=name,
            head_sha=self.head_sha,
            status=status,
            conclusion=conclusion if completed else None,
            started_at=None if status == "queued" else self.time(at),
            completed_at=self.time(at + minutes) if completed else None,
            app_slug=app_slug,
        )
        self.recording.check_runs.append(built)
        return built

    def status(self, at: float, *, context: str, state: str, description: str = "") -> Json:
        """Add a legacy commit status of the head."""
        built = shapes.commit_status(
            self.full_name,
            status_id=self.take_id(),
            sha=self.head_sha,
            context=context,
            state=state,
            creator=shapes.user("ci-robot"),
            created_at=self.time(at),
            description=description or None,
        )
        self.recording.statuses.append(built)
        return built

    def event(self, at: float, name: str, *, login: str | None = None, **more: object) -> Json:
        built = shapes.event(
            self.full_name,
            event_id=self.take_id(),
            name=name,
            actor=shapes.user(login or self.author),
            created_at=self.time(at),
            **more,
        )
        self.recording.timeline.append(built)
        return built

    def rebase(self, at: float, commits: Sequence[Json]) -> list[Json]:
        """Force-push the given commits: new shas and committer dates, the old author dates."""
        self.recording.commits = []
        for minute, old in enumerate(commits):
            new = self.commit(at + minute / 10, message=old["commit"]["message"])
            new["commit"]["author"] = dict(old["commit"]["author"])
        self.event(at + 1, "head_ref_force_pushed")
        return self.recording.commits

    def finish(self, *, merged: float | None = None, merged_by: str | None = None) -> Recording:
        """Return the recording, merged at that minute, with head and counters set.

        Without a time the pull request stays open.
        """
        recording = self.recording
        self.pull["head"]["sha"] = self.head_sha
        statuses_url = f"{shapes.API}/repos/{self.full_name}/statuses/{self.head_sha}"
        self.pull["statuses_url"] = self.pull["_links"]["statuses"]["href"] = statuses_url
        self.pull.update(
            {
                "commits": len(recording.commits),
                "changed_files": len(recording.files),
                "additions": sum(item["additions"] for item in recording.files),
                "deletions": sum(item["deletions"] for item in recording.files),
                "comments": len(recording.issue_comments),
                "review_comments": len(recording.review_comments),
            }
        )
        self._name_pull_request_in_checks()
        if merged is not None:
            self._merge(merged, merged_by=merged_by or self.author)
        recording.timeline.sort(key=lambda item: str(item["created_at"]))
        return recording

    def _name_pull_request_in_checks(self) -> None:
        keys = ("url", "id", "number")
        named = {key: self.pull[key] for key in keys}
        for side in ("head", "base"):
            branch = self.pull[side]
            repo = {key: branch["repo"][key] for key in ("id", "url", "name")}
            named[side] = {"ref": branch["ref"], "sha": branch["sha"], "repo": repo}
        for run in self.recording.check_runs:
            run["pull_requests"] = [named]

    def _merge(self, at: float, *, merged_by: str) -> None:
        merge_sha = self.sha("merge")
        self.pull.update(
            {
                "state": "closed",
                "merged": True,
                "merged_at": self.time(at),
                "closed_at": self.time(at),
                "updated_at": self.time(at),
                "merged_by": shapes.user(merged_by),
                "merge_commit_sha": merge_sha,
            }
        )
        self.event(at, "merged", login=merged_by, commit_id=merge_sha)
        self.event(at, "closed", login=merged_by)
