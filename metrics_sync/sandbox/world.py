"""The data of the pretend GitHub, and the changes that tests make to it while it runs."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.shapes import Json

#: The token that every world knows unless it is given others.
DEFAULT_TOKEN = "ghp_sandbox"  # noqa: S105 - it opens nothing but the sandbox
#: Whom that token belongs to.
TOKEN_LOGIN = "sandbox-owner"  # noqa: S105 - a login, not a secret
HOUR = 3600


@dataclass
class Recording:
    """One pull request: each field is GitHub's JSON for the section of that name.

    `check_runs` and `statuses` belong to the head's sha, `check_runs_by_sha` to others.
    """

    repo: str
    number: int
    pull: Json = field(default_factory=dict)
    commits: list[Json] = field(default_factory=list)
    files: list[Json] = field(default_factory=list)
    reviews: list[Json] = field(default_factory=list)
    review_comments: list[Json] = field(default_factory=list)
    issue_comments: list[Json] = field(default_factory=list)
    check_runs: list[Json] = field(default_factory=list)
    timeline: list[Json] = field(default_factory=list)
    statuses: list[Json] = field(default_factory=list)
    issue_events: list[Json] = field(default_factory=list)
    check_runs_by_sha: dict[str, list[Json]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what `to_json` writes; unknown keys are ignored, absent sections are empty.

        Raises ValueError with a sentence that says what is wrong.
        """
        if not isinstance(data, Mapping):
            raise ValueError("a recording is a JSON object")
        known = {item.name: data[item.name] for item in fields(cls) if item.name in data}
        _check_types(known)
        return cls(**known)

    def to_json(self) -> Json:
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def list_timeline(self) -> list[Json]:
        """Return all that happened: commits, comments and reviews among the events.

        A review that is only a reply in a thread has no entry of its own; a pending review is not
        listed yet. Commits that a force push removed are not in the timeline either.
        """
        commits = [shapes.committed(item) for item in self.commits]
        comments = [shapes.commented(item) for item in self.issue_comments]
        reviews = [shapes.reviewed(item) for item in self.reviews if not self._is_hidden(item)]
        events = [*commits, *comments, *reviews]
        made = {"committed", "commented", "reviewed"}
        events += [item for item in self.timeline if item["event"] not in made]
        if self.pull.get("merged_at") and not any(item["event"] == "merged" for item in events):
            events += [shapes.merged(self.repo, self.pull)]
        return sorted(events, key=shapes.date_event)

    def _is_hidden(self, review: Json) -> bool:
        if review.get("state") == "PENDING":
            return True
        comments = [
            item
            for item in self.review_comments
            if item.get("pull_request_review_id") == review["id"]
        ]
        is_bare = review.get("state") == "COMMENTED" and not review.get("body")
        return is_bare and bool(comments) and all(item.get("in_reply_to_id") for item in comments)

    @property
    def commit_statuses(self) -> list[Json]:
        """The statuses, under the name that the service has for them."""
        return self.statuses

    @property
    def head_sha(self) -> str:
        return str((self.pull.get("head") or {}).get("sha") or "")

    @property
    def base_sha(self) -> str:
        return str((self.pull.get("base") or {}).get("sha") or "")


def _check_types(known: Mapping[str, Any]) -> None:
    repo, number = known.get("repo"), known.get("number")
    if not isinstance(repo, str) or repo.count("/") != 1:
        raise ValueError('"repo" must be a text like "owner/name"')
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError('"number" must be the number of a pull request')
    for name, value in known.items():
        if name in {"repo", "number"}:
            continue
        wanted = dict if name in {"pull", "check_runs_by_sha"} else list
        if not isinstance(value, wanted):
            raise ValueError(f'"{name}" must be {"an object" if wanted is dict else "a list"}')


@dataclass
class Repository:
    """A repository; `former_names` answer with a redirect, a hidden one with 404."""

    id: int
    full_name: str
    private: bool = False
    archived: bool = False
    hidden: bool = False
    former_names: list[str] = field(default_factory=list)

    def to_json(self) -> Json:
        return shapes.repository(
            self.full_name,
            repository_id=self.id,
            private=self.private,
            archived=self.archived,
        )


@dataclass
class Token:
    """Somebody's access: `repositories` None sees everything, else only those.

    `limit_per_window` None serves without any rate limit or its headers, as an Enterprise
    server may. A token that starts with `ghp_` is a classic one and answers with its scopes.
    """

    value: str
    login: str = TOKEN_LOGIN
    limit_per_window: int | None = 5000
    window_seconds: float = HOUR
    repositories: frozenset[str] | None = None
    scopes: str = "public_repo, read:org"
    expires_at: float | None = None
    #: Whose token it is: an installation's, or (with a signed one) an App's.
    installation_id: int | None = None
    app_id: str = ""

    @property
    def is_classic(self) -> bool:
        return self.value.startswith("ghp_")

    def sees(self, repository: Repository) -> bool:
        if self.repositories is None:
            return bool(self.value) or not repository.private
        names = {name.lower() for name in self.repositories}
        return repository.full_name.lower() in names


@dataclass(frozen=True)
class Installation:
    """A GitHub App on an account; `repositories` None means all."""

    id: int
    account: str
    repositories: frozenset[str] | None = None
    is_suspended: bool = False

    @property
    def account_id(self) -> int:
        return int(shapes.user(self.account)["id"])

    def serves(self, full_name: str) -> bool:
        """Whether the App may read a repository."""
        if self.repositories is None:
            return full_name.lower().startswith(f"{self.account.lower()}/")
        return full_name.lower() in {name.lower() for name in self.repositories}


@dataclass
class Delivery:
    """One try to hand an event to a hook; `payload` is what was (or will be) posted."""

    id: int
    guid: str
    event: str
    payload: Json
    delivered_at: str
    status_code: int
    status: str
    duration: float = 0.0
    redelivery: bool = False


@dataclass
class Hook:
    """Where events go. Without `full_name` it is the hook of a GitHub App."""

    id: int
    url: str
    secret: str
    full_name: str | None = None
    events: Sequence[str] = ("*",)
    content_type: str = "json"
    is_active: bool = True
    deliveries: list[Delivery] = field(default_factory=list)


class World:
    """Everything the server answers from.

    Every method holds `lock`, and the server answers under it, so tests may change the world
    from their own thread at any time. To change anything that has no method of its own, use
    `with world.editing(...) as recording:`.
    """

    def __init__(
        self, recordings: Iterable[Recording] = (), *, tokens: Iterable[Token] | None = None
    ) -> None:
        """Know one token, `DEFAULT_TOKEN`, unless tokens are given."""
        self.lock = threading.RLock()
        self.repositories: dict[int, Repository] = {}
        self.tokens: dict[str, Token] = {}
        self.anonymous = Token(value="", login="", limit_per_window=60)
        #: The public keys of GitHub Apps, in PEM form, by the App's id.
        self.apps: dict[str, str] = {}
        self.installations: dict[int, Installation] = {}
        self.hooks: dict[int, Hook] = {}
        #: Fields that GraphQL's schema lacks, as that of an older server: `Type.field`.
        self.graphql_lacks: set[str] = set()
        self._ids_by_name: dict[str, int] = {}
        self._recordings: dict[int, dict[int, Recording]] = {}
        self._hidden_pulls: set[tuple[int, int]] = set()
        self._next_id = 9_000_000_000
        for token in tokens if tokens is not None else [Token(DEFAULT_TOKEN)]:
            self.add_token(token)
        for recording in recordings:
            self.add(recording)

    @classmethod
    def load(cls, directory: Path | str, *, tokens: Iterable[Token] | None = None) -> Self:
        """Read every `*.json` file of a folder as a recording.

        Raises ValueError, naming the file, when there is none or one cannot be used.
        """
        folder = Path(directory)
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a directory")
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise ValueError(f"{folder} holds no *.json files")
        return cls((_read_recording(path) for path in paths), tokens=tokens)

    def take_id(self) -> int:
        """Return an id that nothing else in this world has."""
        with self.lock:
            self._next_id += 1
            return self._next_id

    # What there is.

    def find_repository(self, full_name: str) -> Repository | None:
        """Return the repository of a name, present or former; case does not matter."""
        with self.lock:
            repository_id = self._ids_by_name.get(full_name.lower())
            return None if repository_id is None else self.repositories.get(repository_id)

    def repository(self, full_name: str) -> Repository:
        """Like `find_repository`, but raises KeyError when there is none."""
        repository = self.find_repository(full_name)
        if repository is None:
            raise KeyError(full_name)
        return repository

    def recordings(self) -> list[Recording]:
        """Return every pull request, hidden ones too, ordered by repository and number."""
        with self.lock:
            every = [item for held in self._recordings.values() for item in held.values()]
        return sorted(every, key=lambda item: (item.repo.lower(), item.number))

    def recording(self, full_name: str, number: int) -> Recording:
        """Return the recording of one pull request; raises KeyError when there is none."""
        with self.lock:
            return self._recordings[self.repository(full_name).id][number]

    def visible(self, repository: Repository) -> dict[int, Recording]:
        """Return what is not hidden in a repository, by number."""
        with self.lock:
            held = self._recordings.get(repository.id, {})
            return {n: item for n, item in held.items() if not self.is_hidden(repository, n)}

    def find_visible(self, repository: Repository, number: int) -> Recording | None:
        with self.lock:
            if self.is_hidden(repository, number):
                return None
            return self._recordings.get(repository.id, {}).get(number)

    def is_hidden(self, repository: Repository, number: int) -> bool:
        return repository.hidden or (repository.id, number) in self._hidden_pulls

    # Putting things in.

    def add(self, recording: Recording) -> Recording:
        """Add a pull request, or replace the one of that number.

        Its repository is added, too: its id is the one in `pull.base.repo`, else one that depends
        only on the name.
        """
        with self.lock:
            repository = self.find_repository(recording.repo)
            if repository is None:
                base = (recording.pull.get("base") or {}).get("repo") or {}
                repository = self.add_repository(
                    recording.repo,
                    repository_id=base.get("id"),
                    private=bool(base.get("private")),
                    archived=bool(base.get("archived")),
                )
            self._recordings[repository.id][recording.number] = recording
        return recording

    def add_repository(
        self,
        full_name: str,
        *,
        repository_id: int | None = None,
        private: bool = False,
        archived: bool = False,
    ) -> Repository:
        """Add a repository; an id that another repository already has is replaced by a new one."""
        with self.lock:
            if repository_id is None or repository_id in self.repositories:
                repository_id = shapes.make_id(full_name, start=100_000)
            repository = Repository(repository_id, full_name, private, archived)
            self.repositories[repository_id] = repository
            self._recordings.setdefault(repository_id, {})
            self._ids_by_name[full_name.lower()] = repository_id
        return repository

    def add_token(self, token: Token) -> Token:
        with self.lock:
            self.tokens[token.value] = token
        return token

    def revoke_token(self, value: str) -> None:
        """Answer 401 to this token from now on; unknown tokens may be revoked too."""
        with self.lock:
            self.tokens.pop(value, None)

    def add_installation(
        self, installation_id: int, account: str, *, repositories: Iterable[str] | None = None
    ) -> Installation:
        chosen = None if repositories is None else frozenset(repositories)
        with self.lock:
            installation = Installation(installation_id, account, chosen)
            self.installations[installation_id] = installation
        return installation

    def add_app(self, app_id: str, public_key: str) -> None:
        """Add an App, which is recognized by signatures that belong to this public key."""
        with self.lock:
            self.apps[app_id] = public_key

    def suspend_installation(self, installation_id: int, *, suspended: bool = True) -> None:
        """Issue no tokens while it is suspended; refuse those that were issued."""
        with self.lock:
            found = self.installations[installation_id]
            self.installations[installation_id] = replace(found, is_suspended=suspended)
            self._revoke_tokens_of(found)

    def remove_installation(self, installation_id: int) -> None:
        """Forget an installation, and with it the tokens that were issued for it."""
        with self.lock:
            self._revoke_tokens_of(self.installations.pop(installation_id))

    def _revoke_tokens_of(self, installation: Installation) -> None:
        for token in list(self.tokens.values()):
            if token.installation_id == installation.id:
                self.revoke_token(token.value)

    def add_hook(
        self,
        url: str,
        *,
        secret: str,
        full_name: str | None = None,
        content_type: str = "json",
        events: Sequence[str] = ("*",),
    ) -> Hook:
        """Subscribe an address to a repository's events, or to an app's without a name."""
        with self.lock:
            hook = Hook(self.take_id(), url, secret, full_name, tuple(events), content_type)
            self.hooks[hook.id] = hook
        return hook

    # Changing what is there.

    @contextmanager
    def editing(self, full_name: str, number: int) -> Iterator[Recording]:
        """Yield a recording that may be changed; requests wait until the block ends."""
        with self.lock:
            yield self.recording(full_name, number)

    def add_commit(self, full_name: str, number: int, commit: Json) -> None:
        """Push one commit: it becomes the head and counts."""
        with self.editing(full_name, number) as recording:
            recording.commits = [*recording.commits, commit]
            recording.pull["commits"] = recording.pull.get("commits", 0) + 1
            recording.pull["head"]["sha"] = commit["sha"]

    def force_push(self, full_name: str, number: int, commits: Sequence[Json]) -> None:
        """Replace the commits; the last is the new head, whose checks are still to come.

        The checks of the old head stay with the old sha.
        """
        with self.editing(full_name, number) as recording:
            recording.check_runs_by_sha[recording.head_sha] = recording.check_runs
            recording.check_runs = []
            recording.statuses = []
            recording.commits = list(commits)
            recording.pull["commits"] = len(commits)
            recording.pull["head"]["sha"] = commits[-1]["sha"]
            happened = shapes.event(
                recording.repo,
                event_id=self.take_id(),
                name="head_ref_force_pushed",
                actor=recording.pull.get("user"),
                created_at=commits[-1]["commit"]["committer"]["date"],
            )
            recording.timeline = [*recording.timeline, happened]

    def add_comment(
        self,
        full_name: str,
        number: int,
        *,
        body: str,
        login: str = "late-reader",
        created_at: str | None = None,
    ) -> Json:
        """Add an issue comment, dated at the last update unless a time is given; return it."""
        with self.editing(full_name, number) as recording:
            comment = shapes.issue_comment(
                recording.repo,
                number,
                comment_id=self.take_id(),
                author=shapes.user(login),
                body=body,
                created_at=created_at or recording.pull["updated_at"],
            )
            recording.issue_comments = [*recording.issue_comments, comment]
            recording.pull["comments"] = recording.pull.get("comments", 0) + 1
        return comment

    def add_review_comment(
        self,
        full_name: str,
        number: int,
        *,
        body: str,
        path: str,
        login: str = "late-reader",
        created_at: str | None = None,
    ) -> Json:
        """Add a comment on line 1 of a file, dated as `add_comment` does; return it."""
        with self.editing(full_name, number) as recording:
            comment = shapes.review_comment(
                recording.repo,
                number,
                comment_id=self.take_id(),
                review_id=None,
                author=shapes.user(login),
                body=body,
                path=path,
                line=1,
                commit_sha=recording.head_sha,
                created_at=created_at or recording.pull["updated_at"],
            )
            recording.review_comments = [*recording.review_comments, comment]
            recording.pull["review_comments"] = recording.pull.get("review_comments", 0) + 1
        return comment

    def delete_comment(self, full_name: str, number: int, comment_id: int) -> None:
        """Remove an issue or review comment; raises KeyError when there is none of that id."""
        with self.editing(full_name, number) as recording:
            for section, counter in (
                ("issue_comments", "comments"),
                ("review_comments", "review_comments"),
            ):
                before: list[Json] = getattr(recording, section)
                after = [item for item in before if item["id"] != comment_id]
                if len(after) < len(before):
                    setattr(recording, section, after)
                    recording.pull[counter] -= 1
                    return
        raise KeyError(comment_id)

    def merge(self, full_name: str, number: int, *, merged_at: str, login: str = "") -> Json:
        """Merge an open pull request and return its `pull`."""
        with self.editing(full_name, number) as recording:
            merged_by = shapes.user(login) if login else recording.pull.get("user")
            recording.pull |= {
                "state": "closed",
                "merged": True,
                "merged_at": merged_at,
                "closed_at": merged_at,
                "updated_at": merged_at,
                "merged_by": merged_by,
                "merge_commit_sha": shapes.make_sha("merge", recording.head_sha),
            }
            return recording.pull

    def finish_check_runs(
        self, full_name: str, number: int, *, completed_at: str, conclusion: str = "success"
    ) -> None:
        """Complete every check run of the head that is still queued or in progress."""
        done = {"status": "completed", "conclusion": conclusion, "completed_at": completed_at}
        with self.editing(full_name, number) as recording:
            recording.check_runs = [
                run if run["status"] == "completed" else {**run, **done}
                for run in recording.check_runs
            ]

    def rename_repository(self, full_name: str, new_name: str) -> Repository:
        """Rename or transfer: the old name answers 301 and payloads carry the new one."""
        with self.lock:
            repository = self.repository(full_name)
            old_name, repository.full_name = repository.full_name, new_name
            repository.former_names.append(old_name)
            self._ids_by_name[new_name.lower()] = repository.id
            for hook in self.hooks.values():
                if hook.full_name == old_name:
                    hook.full_name = new_name
            held = self._recordings[repository.id]
            for number, recording in held.items():
                renamed = _replace_name(recording.to_json(), old=old_name, new=new_name)
                held[number] = Recording.from_json(renamed)
        return repository

    def delete_repository(self, full_name: str) -> None:
        """Remove a repository and all in it; its names answer 404."""
        with self.lock:
            repository = self.repository(full_name)
            del self.repositories[repository.id]
            del self._recordings[repository.id]

    def hide(self, full_name: str, number: int | None = None) -> None:
        """Answer 404 for a repository, or for one pull request of it, until `show`."""
        with self.lock:
            repository = self.repository(full_name)
            if number is None:
                repository.hidden = True
            else:
                self._hidden_pulls.add((repository.id, number))

    def show(self, full_name: str, number: int | None = None) -> None:
        """Undo `hide`."""
        with self.lock:
            repository = self.repository(full_name)
            if number is None:
                repository.hidden = False
            else:
                self._hidden_pulls.discard((repository.id, number))


def _read_recording(path: Path) -> Recording:
    try:
        return Recording.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _replace_name(value: Any, *, old: str, new: str) -> Any:
    """Return the value with a repository's new name in every text; `name` follows too."""
    if isinstance(value, dict):
        replaced = {key: _replace_name(item, old=old, new=new) for key, item in value.items()}
        if value.get("full_name") == old:
            replaced["name"] = new.partition("/")[2]
        return replaced
    if isinstance(value, list):
        return [_replace_name(item, old=old, new=new) for item in value]
    return value.replace(old, new) if isinstance(value, str) else value
