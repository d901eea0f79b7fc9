"""The pages in docs/ agree with the code."""

import json
import re
import shlex
from datetime import timedelta
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import time_machine
from django.conf import settings
from django.templatetags.static import static
from django.test import Client
from django.utils import timezone

from metrics_sync.github import NEEDED, OPTIONAL
from metrics_sync.github.queries import LISTS, estimate_points
from metrics_sync.metrics import METRICS_VERSION, Metrics, measure
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.snapshot import Section
from tests.factories import ApiTokenFactory, PullRequestFactory, TrackedRepositoryFactory
from tests.histories import tell

ROOT: Path = settings.BASE_DIR
PERMISSIONS = (ROOT / "docs" / "permissions.md").read_text()
METRICS = (ROOT / "docs" / "metrics.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
ASSUMPTIONS = (ROOT / "docs" / "assumptions.md").read_text()
CALLS = re.findall(r"^\$ (curl .*)\n((?:.*\n)+?)```", API, re.MULTILINE)


def read_block(language: str) -> str:
    [block] = re.findall(rf"^```{language}\n(.*?)^```", METRICS, re.MULTILINE | re.DOTALL)
    return str(block)


def test_worked_example_gives_its_numbers() -> None:
    """A reader who doubts a number starts with this page."""
    metrics = measure(tell(read_block("history")))

    expected = json.loads(read_block("json"))
    found = {name: getattr(metrics, name) for name in expected}
    assert {n: v if isinstance(v, (int, str)) else str(v) for n, v in found.items()} == expected


def test_every_metric_is_explained() -> None:
    """Nobody can use a number without its definition."""
    documented = set(re.findall(r"^\| `(\w+)` \|", METRICS, re.MULTILINE))

    assert documented == set(Metrics.__slots__) - {"provenance"}
    assert f"now {METRICS_VERSION})" in METRICS


@pytest.mark.parametrize(("command", "answer"), CALLS)
@pytest.mark.django_db
@time_machine.travel("2026-03-03T09:00:00Z", tick=False)
def test_calls_of_the_api_are_answered_as_shown(client: Client, command: str, answer: str) -> None:
    """New users of an API begin by pasting an example."""
    merged_at = timezone.now() - timedelta(hours=1)
    repository = TrackedRepositoryFactory(full_name="acme/anvil")
    TrackedRepository.objects.update(connected_at=merged_at)
    PullRequestFactory(merged=True, team=repository.team, github_pr_number=7)
    PullRequest.objects.update(
        sync_status="complete",
        merged_at=merged_at,
        completed_at=merged_at + timedelta(seconds=20),
        review_wait_hours="3.50",
        review_rounds=2,
        avg_fix_response_hours="1.25",
        commits_after_first_review=3,
        total_comments=8,
    )
    token = ApiTokenFactory(team=repository.team).token

    _, _, header, url = shlex.split(command.replace("$TOKEN", token))
    parts = urlsplit(url)
    headers = dict([header.split(": ")])
    response = client.get(f"{parts.path}?{parts.query}", headers=headers)

    assert response.json() == json.loads(answer)


def test_every_address_of_the_api_is_in_its_page(client: Client) -> None:
    """Users find only what is documented."""
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    one = "/api/v1/pull-requests/{owner}/{name}/{number}"
    lists = {path.removeprefix(f"{one}/") for path in paths if path.startswith(f"{one}/")}
    documented = set(re.findall(r"^\| `(/\S+)`", API, re.MULTILINE))

    assert documented == {path for path in paths if not path.startswith(f"{one}/")} | {
        f"{one}/{{list}}"
    }
    assert lists <= set(re.findall(r"`([a-z-]+)`", API))


def test_cost_of_a_backfill_is_the_one_of_its_queries() -> None:
    """Operators plan with this number."""
    page = (ROOT / "docs" / "backfill.md").read_text()

    nested = (Section.COMMITS, Section.REVIEW_COMMENTS, Section.CHECK_RUNS)
    commits, threads, suites = (LISTS[section].first for section in nested)
    together = 9 + commits + threads + suites
    assert f"the first {commits} commits | {commits} |" in page
    assert f"the first {threads} threads | {threads} |" in page
    assert f"the first {suites} suites | {suites} |" in page
    assert f"{together}, or {together / 100} points" in page
    assert f"Would fetch 4812, for about {estimate_points(4812)} points" in page


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A reader who follows a link looks for help."""
    targets = re.findall(r"\]\(([^):#]+)(?:#[\w-]+)?\)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_permission_that_is_asked_for_is_explained() -> None:
    """An operator who grants a permission wants to know its purpose."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .* \| (.*) \|$", PERMISSIONS, re.MULTILINE)

    levels = {name: (level, "refuses" in without) for name, level, without in rows}
    assert {name: levels[name] for name in NEEDED} == dict.fromkeys(NEEDED, ("read", True))
    assert {name: levels[name] for name in OPTIONAL} == dict.fromkeys(OPTIONAL, ("read", False))
    assert set(levels) - set(NEEDED) - set(OPTIONAL) == {"metadata", "repository_hooks"}


@pytest.mark.parametrize("place", sorted(set(re.findall(r"`([a-z_.]+:[\w.]+)`", ASSUMPTIONS))))
def test_code_that_an_assumption_names_exists(place: str) -> None:
    """If GitHub behaves otherwise, the table says which code to change."""
    module, _, name = place.partition(":")

    assert attrgetter(name)(import_module(f"metrics_sync.{module}"))


def test_every_assumption_names_code() -> None:
    """An assumption without code that relies on it is only a remark."""
    rows = re.findall(r"^\|(.+)\|(.+)\|(.+)\|(.+)\|$", ASSUMPTIONS, re.MULTILINE)
    unfounded = [row for row in rows if not re.search(r"`[a-z_.]+:[\w.]+`", row[3])]

    assert len(rows) > 40
    assert {row[0].strip(" -") for row in unfounded} == {"assumption", ""}


def test_other_projects_load_the_scripts_of_our_pages() -> None:
    """A page that lacks one still looks right, and nobody misses the keyboard but who needs it."""
    page = (ROOT / "docs" / "reusable.md").read_text()
    own = {path(None) for path in (*settings.UNFOLD["STYLES"], *settings.UNFOLD["SCRIPTS"])}

    assert {static(name) for name in re.findall(r'static\("(.+?)"\)', page)} == {
        path for path in own if path.startswith(static("metrics_sync/"))
    }
