"""The browser that the tests and the screenshots share: the machine's own Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Far more than any page takes, also on a busy machine.
PATIENCE_MS = 120_000
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1400, "height": 900}


def find_chromium() -> str | None:
    """Return where Chromium is installed; Playwright's own build is not asked for."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """Start Chromium for the block, without a window; all in the thread that entered it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield browser
        browser.close()


def watch(page: Page, root: str, errors: list[str]) -> None:
    """Collect errors of scripts, what does not load, and what another host than ours is asked for.

    A page that is refused as a whole is no error: who asked for it sees that.
    """

    def note_message(message: ConsoleMessage) -> None:
        url, text = message.location["url"], message.text
        is_page = url == page.url and text.startswith("Failed to load resource")
        if message.type == "error" and not is_page:
            errors.append(f"{page.url}: {url}: {text}")

    def note_request(request: Request) -> None:
        if not request.url.startswith((root, "data:", "blob:")):
            errors.append(f"{page.url} asked for {request.url}")

    page.on("console", note_message)
    page.on("request", note_request)
    page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
