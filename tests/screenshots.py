"""Takes the pictures of docs/screenshots: `make screenshots`.

What is seen are the demo's pull requests, merged one after the other over the last weeks instead
of all at once.
"""

from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402  (after the set-up)
from django.db.models import DateTimeField, F, Model  # noqa: E402
from playwright.sync_api import Browser  # noqa: E402
from rich.console import Console  # noqa: E402

from metrics_sync.models import PullRequest, TrackedRepository  # noqa: E402
from project.demo import open_stage, play  # noqa: E402
from project.demo.stage import USERNAME, Stage  # noqa: E402
from tests.browser import DESKTOP, PHONE, open_chromium  # noqa: E402

FOLDER: Path = settings.BASE_DIR / "docs" / "screenshots"
CHILDREN = ("commits", "check_runs", "comments", "reviews", "timeline_events", "commit_statuses")
DAYS_APART = 5


def main() -> None:
    console = Console(highlight=False)
    with open_stage() as stage:
        play(stage, console)
        rows = list(PullRequest.objects.order_by("-pk"))
        TrackedRepository.objects.update(connected_at=None)
        for position, row in enumerate(rows):
            _move_back(row, timedelta(days=DAYS_APART * position))
        chosen = max(rows, key=lambda row: row.reviews.count())
        pages = {"dashboard": "/admin/", "pull-request": _address(chosen)}
        FOLDER.mkdir(parents=True, exist_ok=True)
        with open_chromium() as browser:
            for scheme, (device, size) in product(
                ("light", "dark"), (("desktop", DESKTOP), ("phone", PHONE))
            ):
                _take(
                    browser, stage, pages, f"{scheme}-{device}", color_scheme=scheme, viewport=size
                )
    console.print(f"Written to {FOLDER}")


def _address(row: PullRequest) -> str:
    return f"/admin/metrics_sync/pullrequest/{row.pk}/change/"


def _move_back(row: PullRequest, by: timedelta) -> None:
    for rows in (PullRequest.objects.filter(pk=row.pk), *(getattr(row, n).all() for n in CHILDREN)):
        rows.update(**_shift(rows.model, by))


def _shift(model: type[Model], by: timedelta) -> dict[str, Any]:
    fields = [field for field in model._meta.fields if isinstance(field, DateTimeField)]
    return {field.name: F(field.name) - by for field in fields}


def _take(browser: Browser, stage: Stage, pages: dict[str, str], name: str, **options: Any) -> None:
    page = browser.new_page(**options)
    page.goto(stage.web_url)
    page.get_by_label("Username").fill(USERNAME)
    page.get_by_label("Password").fill(stage.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/admin/")
    for title, path in pages.items():
        page.goto(stage.web_url + path, wait_until="load")
        page.screenshot(path=FOLDER / f"{title}-{name}.png")
    page.close()


if __name__ == "__main__":
    main()
