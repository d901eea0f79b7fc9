"""Sample pull requests: plain ones of any size, and the histories that the demo shows."""

from collections.abc import Callable

from metrics_sync.sandbox.builder import PullRequestBuilder
from metrics_sync.sandbox.stories import STORIES
from metrics_sync.sandbox.world import Recording

HELLO, SHOP, ENGINE = "octo-labs/hello", "octo-labs/shop", "north-wind/engine"

CHECK_NAMES = ("lint", "test (3.11)", "test (3.12)", "test (3.13)", "types", "docs", "build")
FOLDERS = ("service", "service/api", "tests", "docs")
REVIEWERS = ("hubot", "grace", "linus-t")
COMMENTERS = ("ada", "grace", "hubot")


def make_recording(
    full_name: str,
    number: int,
    *,
    commits: int = 3,
    files: int = 5,
    issue_comments: int = 2,
    review_comments: int = 3,
    reviews: int = 2,
    check_runs: int = 3,
    statuses: int = 0,
    merged: bool = True,
    lines_per_file: int = 11,
    author: str = "mona",
    title: str = "Read settings from the environment",
    private: bool = False,
    repository_id: int | None = None,
    seed: int = 0,
) -> Recording:
    """Make a pull request with the given numbers of items; always the same for the same arguments.

    With two reviews or more the first asks for changes an hour after the opening, the later
    half of the commits answers it from the second hour on, and the last review approves.
    """
    builder = PullRequestBuilder(
        full_name,
        number,
        author=author,
        title=title,
        private=private,
        repository_id=repository_id,
        seed=seed,
    )
    early = commits - commits // 2 if reviews > 1 else commits
    for index in range(early):
        builder.commit(at=-5 * (early - index), message=f"Write part {index + 1}")
    for index in range(issue_comments):
        builder.comment(20 + index / 10, login=COMMENTERS[index % 3], body=f"Remark {index + 1}.")
    _add_reviews(builder, reviews=reviews, late_commits=commits - early)
    for index in range(files):
        name = f"{FOLDERS[index % len(FOLDERS)]}/module_{index:04}.py"
        added = lines_per_file - lines_per_file // 3
        builder.file(name, additions=added, deletions=lines_per_file - added)
    _add_review_comments(builder, review_comments)
    for index in range(check_runs):
        name = CHECK_NAMES[index % len(CHECK_NAMES)]
        shard = index // len(CHECK_NAMES)
        builder.check_run(241 + index / 10, name=f"{name} #{shard + 1}" if shard else name)
    for index in range(statuses):
        builder.status(241 + index, context=f"ci/legacy-{index + 1}", state="success")
    return builder.finish(merged=360 if merged else None, merged_by="grace")


def _add_reviews(builder: PullRequestBuilder, *, reviews: int, late_commits: int) -> None:
    for index in range(reviews - 1):
        state = "COMMENTED" if index else "CHANGES_REQUESTED"
        builder.review(60 + index / 10, login=REVIEWERS[index % 3], state=state)
    for index in range(late_commits):
        builder.commit(at=120 + index / 10, message=f"Answer remark {index + 1}")
    if reviews:
        builder.review(300, login=REVIEWERS[0], state="APPROVED")


def _add_review_comments(builder: PullRequestBuilder, review_comments: int) -> None:
    recording = builder.recording
    if review_comments and not recording.reviews:
        builder.review(60, login=REVIEWERS[0], state="COMMENTED")
    paths = [item["filename"] for item in recording.files] or ["service/module_0000.py"]
    for index in range(review_comments):
        path = paths[index % len(paths)]
        builder.review_comment(60, recording.reviews[0], path=path, line=index % 40 + 1)


def make_samples() -> list[Recording]:
    """Make the demo's pull requests: two organisations, three repositories, small and odd ones."""
    small = [story() for story in STORIES.values()]
    return [*small, *(make() for make in LARGE.values())]


def make_sample(name: str) -> Recording:
    """Make one sample by its name, a key of `STORIES` or `LARGE`; raises KeyError."""
    return (STORIES.get(name) or LARGE[name])()


def _make_long_discussion() -> Recording:
    return make_recording(
        SHOP,
        201,
        commits=120,
        files=350,
        issue_comments=130,
        review_comments=120,
        reviews=35,
        check_runs=130,
        title="Move the shop to the new price engine",
    )


def _make_beyond_caps() -> Recording:
    return make_recording(
        ENGINE, 301, commits=275, files=3_050, lines_per_file=4, title="Format the whole engine"
    )


def _make_huge_diff() -> Recording:
    return make_recording(
        ENGINE,
        302,
        files=60,
        lines_per_file=900,
        check_runs=2,
        title="Regenerate the bindings",
    )


#: The samples that need more than one page of something, by name.
LARGE: dict[str, Callable[[], Recording]] = {
    "many pages of everything": _make_long_discussion,
    "over GitHub's caps": _make_beyond_caps,
    "over 20,000 changed lines": _make_huge_diff,
}
