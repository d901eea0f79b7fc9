"""Small histories with the oddities of real ones; a story's name says what is odd."""

from collections.abc import Callable

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.builder import PullRequestBuilder
from metrics_sync.sandbox.world import TOKEN_LOGIN, Recording

HELLO, SHOP, ENGINE = "octo-labs/hello", "octo-labs/shop", "north-wind/engine"

#: Every story by name; each call makes the same recording anew.
STORIES: dict[str, Callable[[], Recording]] = {}

Story = Callable[[], Recording]


def _story(name: str) -> Callable[[Story], Story]:
    def keep(make: Story) -> Story:
        STORIES[name] = make
        return make

    return keep


@_story("changes requested, fixed, approved")
def _make_ordinary() -> Recording:
    story = PullRequestBuilder(HELLO, 1, title="Greet people in their language")
    story.commit(-30, message="Add translations")
    story.commit(-10, message="Choose a language by header")
    story.check_run(2, name="test")
    first = story.review(95, login="grace", state="CHANGES_REQUESTED", body="Two questions.")
    question = story.review_comment(94, first, path="hello/languages.py", line=7)
    story.review_comment(94.5, first, path="hello/app.py", line=31, outdated=True)
    story.comment(100, body="Thanks, will do 👍")
    story.commit(180, message="Read the header once")
    answer = story.review(182, login="mona", state="COMMENTED")
    story.review_comment(
        182, answer, path="hello/languages.py", line=7, reply_to=question, body="Done."
    )
    story.review(230, login="grace", state="APPROVED", body="Nice.")
    story.recording.check_runs.clear()
    for name in ("lint", "test (3.11)", "test (3.12)"):
        story.check_run(183, name=name)
    story.file("hello/languages.py", additions=42, deletions=0, status="added")
    story.file("hello/app.py", additions=12, deletions=4)
    story.file("tests/test_languages.py", additions=30, deletions=0, status="added")
    return story.finish(merged=240, merged_by="grace")


@_story("two reviewers before one fix, then a second round")
def _make_two_rounds() -> Recording:
    story = PullRequestBuilder(HELLO, 2, author="ada", title="Cache the greeting")
    story.commit(-20, message="Add a cache")
    story.review(30, login="grace", state="CHANGES_REQUESTED", body="It never expires.")
    story.review(45, login="hubot", state="CHANGES_REQUESTED", body="What she says.")
    story.commit(105, message="Expire after a minute")
    story.review(165, login="grace", state="CHANGES_REQUESTED", body="Now it expires too early.")
    story.commit(345, message="Expire after an hour")
    story.review(360, login="grace", state="APPROVED")
    story.review(365, login="hubot", state="APPROVED")
    story.file("hello/cache.py", additions=51, deletions=6)
    story.check_run(346, name="test")
    return story.finish(merged=400)


@_story("reviewed by bots before a person")
def _make_bot_reviews() -> Recording:
    story = PullRequestBuilder(HELLO, 3, title="Bump the toolchain", head_ref="renovate/tools")
    story.commit(-1, name="renovate[bot]", message="Update all")
    robot = story.review(1, login="copilot-reviewer[bot]", state="COMMENTED", body="## Overview")
    remark = story.review_comment(1, robot, path="pyproject.toml", body="Consider pinning this.")
    # The same bot writes its comments under another login.
    remark["user"] = {**robot["user"], "login": "Copilot"}
    story.comment(2, login="codecov[bot]", body="Coverage: 97.31 % (+0.02 %)")
    person = story.review(50, login="linus-t", state="APPROVED")
    person["user"]["type"] = "User"
    story.file("pyproject.toml", additions=3, deletions=3)
    story.check_run(0, name="test")
    return story.finish(merged=55, merged_by="linus-t")


@_story("approved by a deleted account")
def _make_deleted_account() -> Recording:
    story = PullRequestBuilder(HELLO, 4, title="Remove the old greeting", body=None)
    story.commit(-2, message="Remove it")
    approval = story.review(15, login="gone", state="APPROVED")
    remark = story.review_comment(15, approval, path="hello/old.py", line=3)
    approval["user"] = remark["user"] = None
    ghost = story.comment(16, login="ghost", body="I used to say hello here.")
    ghost["user"]["id"] = 10137
    story.file("hello/old.py", additions=0, deletions=77, status="removed")
    story.check_run(1, name="test")
    recording = story.finish(merged=30)
    recording.pull["head"]["repo"] = None
    return recording


@_story("an author who answers their own reviews, and one pending")
def _make_author_answers() -> Recording:
    story = PullRequestBuilder(SHOP, 101, author="linus-t", title="Round prices half to even")
    story.commit(-15, message="Round")
    asked = story.review(70, login="ada", state="COMMENTED", body="Some questions.")
    for index in range(3):
        at = 80 + index * 10
        question = story.review_comment(70, asked, path="shop/price.py", line=10 + index)
        answer = story.review(at, login="linus-t", state="COMMENTED")
        story.review_comment(
            at,
            answer,
            path="shop/price.py",
            line=10 + index,
            reply_to=question,
            body="Banker's rounding.",
        )
    story.review(150, login="ada", state="APPROVED")
    # Only its own author can see this draft.
    story.review(None, login=TOKEN_LOGIN, state="PENDING", body="Still thinking")
    story.file("shop/price.py", additions=9, deletions=9)
    story.check_run(0, name="test")
    return story.finish(merged=200)


@_story("a dismissed request for changes")
def _make_dismissed() -> Recording:
    story = PullRequestBuilder(SHOP, 102, title="Accept vouchers")
    story.commit(-60, message="Accept vouchers")
    dismissed = story.review(40, login="grace", state="DISMISSED", body="Please no vouchers.")
    story.commit(100, message="Limit vouchers to one")
    story.event(
        120,
        "review_dismissed",
        login="ada",
        dismissed_review={
            "state": "changes_requested",
            "review_id": dismissed["id"],
            "dismissal_message": "Agreed in the meeting.",
        },
    )
    story.review(130, login="ada", state="APPROVED")
    story.file("shop/voucher.py", additions=64, deletions=0, status="added")
    story.check_run(101, name="test")
    return story.finish(merged=140, merged_by="ada")


@_story("a draft that became ready, with legacy statuses")
def _make_draft() -> Recording:
    story = PullRequestBuilder(SHOP, 103, author="ada", title="Count stock per warehouse")
    story.commit(-5, message="Sketch")
    story.commit(600, message="Finish")
    story.event(610, "ready_for_review")
    story.review(700, login="mona", state="APPROVED")
    story.file("shop/stock.py", additions=120, deletions=14)
    story.status(601, context="ci/jenkins", state="pending", description="Build started")
    story.status(640, context="ci/jenkins", state="success", description="Build finished")
    story.status(645, context="license/cla", state="success")
    return story.finish(merged=720)


@_story("a rebase that left reviews on vanished commits")
def _make_rebased() -> Recording:
    story = PullRequestBuilder(SHOP, 104, title="Split the checkout")
    old = [story.commit(-50, message="Split"), story.commit(-40, message="Test the parts")]
    asked = story.review(60, login="hubot", state="CHANGES_REQUESTED", body="Please rebase.")
    story.review_comment(60, asked, path="shop/checkout.py", line=88, outdated=True)
    story.rebase(180, old)
    story.review(240, login="hubot", state="APPROVED")
    story.file("shop/checkout.py", additions=75, deletions=210)
    story.file("shop/payment.py", additions=140, deletions=0, status="added")
    story.check_run(182, name="test")
    return story.finish(merged=250)


@_story("commits of nobody, renamed and oddly named files")
def _make_odd_names() -> Recording:
    story = PullRequestBuilder(SHOP, 105, title="Übersetzungen 🌍", head_ref="i18n/ü")
    unknown = story.commit(-9, name="Someone Else", message="Übersetzen")
    unknown["author"] = unknown["committer"] = None
    empty = story.commit(-8, name="nobody", message="")
    empty["author"] = {}
    empty["commit"]["author"]["email"] = ""
    empty["commit"]["message"] = ""
    story.file(
        "shop/text/de.po", additions=0, deletions=0, status="renamed", previous_filename="de.po"
    )
    story.file("shop/text/Größe und Preis.md", additions=5, deletions=0, status="added")
    story.file("shop/text/日本語.md", additions=7, deletions=1)
    story.file("shop/logo.png", additions=0, deletions=0)
    story.comment(3, login="ada", body="Kl\x1b[1mammer\x01 auf\u2028\u200bzu 🎉 \U0001f469\u200d💻")
    story.check_run(1, name="test")
    return story.finish(merged=90)


@_story("checks with one name, and unfinished ones")
def _make_checks() -> Recording:
    story = PullRequestBuilder(ENGINE, 7, author="grace", title="Ship on every tag")
    story.commit(-3, message="Ship")
    story.check_run(1, name="ship", suite=1)
    story.check_run(1, name="ship", suite=2, conclusion="cancelled")
    story.check_run(1, name="skipped", conclusion="skipped", minutes=0)
    story.check_run(2, name="windows", status="in_progress")
    story.check_run(2, name="macos", status="queued")
    story.review(20, login="mona", state="APPROVED")
    story.file(".github/workflows/ship.yml", additions=18, deletions=2)
    recording = story.finish(merged=22)
    recording.check_runs[0]["pull_requests"] = []
    return recording


@_story("open, to be merged while you watch")
def _make_open() -> Recording:
    story = PullRequestBuilder(ENGINE, 8, author="ada", title="Turn faster")
    story.commit(-25, message="Oil the bearings")
    story.review(10, login="grace", state="CHANGES_REQUESTED", body="Which oil?")
    story.commit(70, message="Say which oil")
    story.review(80, login="grace", state="APPROVED")
    story.comment(81, body="Merging when the checks are green.")
    story.file("engine/bearing.c", additions=21, deletions=13)
    story.check_run(71, name="test")
    return story.finish()


@_story("without review, comment or check")
def _make_bare() -> Recording:
    story = PullRequestBuilder(ENGINE, 9, author="grace", title="Fix a typo", body="")
    story.commit(-1, message="Fix a typo")
    story.file("README.md", additions=1, deletions=1)
    recording = story.finish(merged=1)
    recording.pull["labels"] = [
        {
            "id": shapes.make_id("trivial", start=10**9),
            "node_id": "LA_kwDO",
            "url": f"{shapes.API}/repos/{ENGINE}/labels/trivial",
            "archived_by": None,
            "name": "trivial",
            "color": "ededed",
            "default": False,
            "description": None,
        }
    ]
    return recording
