"""Every page there is: none has a serious fault of accessibility, an error, or a table cut off.

The pages are those of the URL resolver, so that a new one cannot be forgotten.
"""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.http import HttpRequest
from django.urls import URLResolver, get_resolver, reverse
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page
from pytest_django.live_server_helper import LiveServer
from redis import Redis
from rq import Queue, Worker
from rq.cron import CronScheduler
from rq.cron_scheduler_registry import get_registry_key
from rq.job import JobStatus
from rq.results import Result

from metrics_sync.models import PullRequest, Team
from tests.browser import DESKTOP, PHONE, watch
from tests.conftest import PATIENCE_SECONDS
from tests.factories import (
    ApiTokenFactory,
    AuditEntryFactory,
    PRCommitStatusFactory,
    PullRequestFactory,
    TeamGoalFactory,
    WeeklyDigestFactory,
)

pytestmark = pytest.mark.django_db

#: What is no page: data for programs, parts of pages, what only does something or leads on; and the
#: jobs of a scheduler that is not installed, which nothing leads to.
NO_PAGES = re.compile(
    r"""metrics_sync:(healthz|readyz|metrics|webhook.*|home|.*-live|.*-reconcile|.*-csv)
    | metrics_sync:api:(?!openapi-view).*
    | admin:(login|search|logout|autocomplete|jsi18n|view_on_site|.*_csv|.*_fetch_one_again)
    | django_rq:(home_json|metrics|actions|confirm_action|stop_job|scheduler_jobs)
    | .*(RedirectView|catch_all_view|show_not_found)""",
    re.VERBOSE,
)
NOT_FOUND = "/no-such-page/"
#: Addresses with choices of the reader.
MORE_PAGES = (
    "/admin/?from=2026-01-05&to=2026-02-01&by=author&trend=coding_hours",
    "/admin/metrics_sync/pullrequest/?q=invoice&review=with&bots=without&known=review_wait_hours",
    NOT_FOUND,
)
PHONE_WIDTH = PHONE["width"]
WIDTHS = (PHONE_WIDTH, 1024, DESKTOP["width"])


def find_names(resolver: URLResolver, namespace: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each address, its view where it has none, and what is to be filled in."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from find_names(pattern, inner)
        else:
            name = f"{namespace}{pattern.name or pattern.lookup_str}"
            yield name, set(pattern.pattern.regex.groupindex)


@pytest.fixture(scope="module")
def keys(site: BrowserContext) -> dict[str, Any]:
    """The key of one row of each model of the admin, by the beginning of the names of its pages."""
    large = PullRequest.objects.get(title="Move all services to the new build")
    Group.objects.get_or_create(name="operators")
    for make, values in {
        ApiTokenFactory: {"team": large.team},
        AuditEntryFactory: {},
        PRCommitStatusFactory: {"pull_request": large},
        TeamGoalFactory: {"team": large.team},
        WeeklyDigestFactory: {"team": large.team},
    }.items():
        if not make._meta.model.objects.exists():
            make(**values)
    found = {f"{m._meta.app_label}_{m._meta.model_name}": m for m in admin.site._registry}
    keys = {name: find_last(model) for name, model in found.items()}
    return keys | {"metrics_sync_pullrequest": large.pk}


def find_last(model: type[Model]) -> Any:
    return model._default_manager.order_by("pk").values_list("pk", flat=True).last()


@pytest.fixture(scope="module")
def refused(site: BrowserContext) -> set[str]:
    """The names of the admin's pages that it has for nobody: what GitHub says is only read."""
    request = HttpRequest()
    request.user = User.objects.get(username="lead")
    return {
        f"admin:{model._meta.app_label}_{model._meta.model_name}_{verb}"
        for model, pages in admin.site._registry.items()
        for verb, may in pages.get_model_perms(request).items()
        if not may and verb in {"add", "delete"}
    }


@pytest.fixture(scope="module")
def wordy(site: BrowserContext) -> Iterator[PullRequest]:
    """The newest merge, which failed, with names as long as somebody may choose."""
    row = PullRequestFactory(
        merged=True,
        team=Team.objects.earliest("pk"),
        github_repo="an-organisation-with-a-long-name/a-repository-with-a-long-name-too",
        title="W" * 90,
        merged_at=timezone.now(),
        sync_status="failed",
        sync_error="reviews: gone " * 30,
    )
    yield row
    row.delete()


@pytest.fixture
def stranger(site: BrowserContext, farm: LiveServer, errors: list[str]) -> Iterator[Page]:
    """A page of somebody who has not signed in."""
    assert site.browser is not None
    page = site.browser.new_page(base_url=farm.url, viewport=DESKTOP)
    watch(page, farm.url, errors)
    yield page
    page.close()
    assert errors == []


@pytest.fixture
def queued(broker_url: str) -> Iterator[dict[str, Any]]:
    """What django-rq's addresses name: a failed job with its result, a worker and a clock."""
    with Redis.from_url(broker_url) as redis:
        redis.flushdb()
        queue = Queue("pr-data", connection=redis)
        queue.enqueue(print)
        job = queue.enqueue(print)
        job.set_status(JobStatus.FAILED)
        queue.failed_job_registry.add(job, exc_string="Traceback: gone")
        result = Result.create_failure(job, 600, "Traceback: gone")
        worker = Worker([queue], connection=redis, name="worker-of-a-test")
        worker.register_birth()
        clock = CronScheduler(connection=redis, name="clock-of-a-test")
        clock.register(print, queue_name="pr-data", interval=60, name="print")
        clock.register_birth()
        # Neither has a heartbeat, by which Redis would keep them while the pages are visited.
        redis.zadd(get_registry_key(), {clock.name: time.time() + 3 * PATIENCE_SECONDS})
        redis.persist(clock.key)
        redis.persist(worker.key)
        yield {
            "queue_index": 0,
            "connection_index": 0,
            "job_id": job.id,
            "result_id": result.id,
            "key": worker.key,
            "scheduler_name": clock.name,
            "cron_job_name": "print",
        }
        redis.flushdb()


@pytest.fixture
def addresses(keys: dict[str, Any], queued: dict[str, Any], refused: set[str]) -> list[str]:
    """The address of each page of the resolver, and of some with choices of the reader."""
    return [*_fill_in(keys, queued, refused), *MORE_PAGES]


def _fill_in(keys: dict[str, Any], queued: dict[str, Any], refused: set[str]) -> Iterator[str]:
    for name, wanted in find_names(get_resolver()):
        if NO_PAGES.fullmatch(name) or name in refused:
            continue
        key = keys.get(re.sub(r"^admin:|(_password)?_[a-z]+$", "", name))
        known = {"app_label": "metrics_sync", "object_id": key, "id": key, **queued}
        yield reverse(name, kwargs={one: known[one] for one in wanted})


def visit(page: Page, address: str, seen: set[str]) -> Iterator[str]:
    """Open a page once with all that can be unfolded; yield what is wrong with it.

    What is told by looks and names is looked for in one page of each build only.
    """
    response = page.goto(address)
    assert response is not None
    if (response.status == 404) != (address == NOT_FOUND) or response.status not in {200, 404}:
        yield f"status {response.status}"
        return
    # The page of the API is made by its script.
    page.locator("html:not([x-cloak]) :is([role=main], .swagger-ui .info)").first.wait_for(
        state="attached"
    )
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    yield from find_cut_off(page)
    build = page.evaluate(KEEP_ONE_OF_EACH_BUILD)
    if build not in seen:
        seen.add(build)
        page.evaluate(Axe().axe_script)
        yield from find_serious_faults(page)
        page.emulate_media(color_scheme="dark")
        page.evaluate(TURN_DARK)
        yield from find_serious_faults(page, {"runOnly": ["color-contrast"]})
        page.emulate_media(color_scheme="light")


def find_cut_off(page: Page) -> Iterator[str]:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        yield from (f"at {width}: {fault}" for fault in page.evaluate(FIND_CUT_OFF))


def find_serious_faults(page: Page, options: dict[str, Any] | None = None) -> Iterator[str]:
    # Nothing that it looks for needs the style sheets loaded again.
    options = {"resultTypes": ["violations"], "preload": False, **(options or {})}
    for fault in page.evaluate("options => axe.run(options).then(all => all.violations)", options):
        if fault["impact"] in {"serious", "critical"}:
            for node in fault["nodes"]:
                yield f"{fault['id']}\n{node['html']}\n{node['failureSummary']}\n"


#: Leaves one of the rows, choices and entries that are built alike, of the same tags, classes and
#: attributes; returns how the page is built.
KEEP_ONE_OF_EACH_BUILD = """() => {
    const describe = box => [box, ...box.querySelectorAll('*')]
        .map(one => [one.tagName, one.className, ...one.getAttributeNames()].join(' ')).join();
    const seen = new Set();
    for (const row of document.querySelectorAll('tbody tr, option, li')) {
        const build = describe(row);
        seen.has(build) ? row.remove() : seen.add(build);
    }
    return describe(document.querySelector('[role=main]') ?? document.body);
}"""
#: Turns to dark colours, which the theme takes from a class, at once.
TURN_DARK = """() => {
    document.documentElement.classList.add('dark');
    document.getAnimations().forEach(animation => animation.finish());
}"""
#: What is cut off: the page where it scrolls sideways, and each table whose right edge lies
#: outside of a box that does not scroll.
FIND_CUT_OFF = """() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    const scrolls = box => ['auto', 'scroll'].includes(getComputedStyle(box).overflowX);
    const clips = box => ['hidden', 'clip'].includes(getComputedStyle(box).overflowX);
    const isCutOff = table => {
        let edge = table.getBoundingClientRect().right;
        for (let box = table.parentElement; box; box = box.parentElement) {
            const { right } = box.getBoundingClientRect();
            if (edge > right + 1 && clips(box)) return true;
            if (scrolls(box)) edge = Math.min(edge, right);
        }
        return edge > clientWidth + 1;
    };
    const tables = [...document.querySelectorAll('table')].filter(isCutOff);
    return [
        ...(scrollWidth > clientWidth ? [`the page is ${scrollWidth} wide`] : []),
        ...tables.map(table => table.outerHTML.slice(0, 200)),
    ];
}"""


@pytest.mark.long(seconds=75)
def test_no_page_has_a_fault(addresses: list[str], page: Page) -> None:
    """Some see little, some have no mouse, and some have a phone."""
    seen: set[str] = set()
    faults = [
        f"{address}: {fault}" for address in addresses for fault in visit(page, address, seen)
    ]

    assert "\n".join(faults) == ""


@pytest.mark.long(seconds=3)
def test_sign_in_has_no_fault(stranger: Page) -> None:
    """Who has signed in is led on from this page, which all others see first."""
    assert "\n".join(visit(stranger, "/admin/login/", set())) == ""


@pytest.mark.long(seconds=5)
def test_long_names_cut_nothing_off(wordy: PullRequest, page: Page) -> None:
    """What lies outside of a box that does not scroll can be read by nobody."""
    listed = reverse("admin:metrics_sync_pullrequest_changelist")
    own = reverse("admin:metrics_sync_pullrequest_change", args=[wordy.pk])
    faults = []
    for address in ("/admin/", listed, own):
        page.goto(address)
        assert wordy.github_repo in (page.locator("body").text_content() or ""), address
        faults += [f"{address} {fault}" for fault in find_cut_off(page)]

    assert faults == []
