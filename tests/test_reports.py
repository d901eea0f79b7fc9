"""Error reports: a real one, as Sentry's server receives it."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from metrics_sync.sandbox import sign
from project.reports import HIDDEN, scrub
from tests.test_settings import run

TOKENS = ["ghp_" + "a1" * 18, "github_pat_" + "b2" * 30, "ghs_" + "c3" * 18]
SECRET = "the-webhook-secret"
KEY = "ZGVkZGVkZGVkZGVkZGVkZGVkZGVkZGVkZGVkZGVkZGU="
PASSWORD = "database-password"
REDIS_PASSWORD = "redis-password"
PAYLOAD = '{"title": "a secret plan", "repository": {"full_name": "acme/anvil"}}'

BREAK = f"""
import logging, django, sentry_sdk
django.setup()
from django.test import Client
try:
    raise RuntimeError("refused {" ".join(TOKENS)} with {SECRET}, {PASSWORD}, {REDIS_PASSWORD}")
except RuntimeError:
    logging.getLogger("metrics_sync").exception("Cannot decrypt with %s", "{KEY}")
headers = {{
    "X-Hub-Signature-256": "{sign(PAYLOAD.encode(), SECRET)}",
    "X-GitHub-Event": "pull_request", "X-GitHub-Delivery": "guid",
    "Authorization": "Bearer of-somebody", "Cookie": "sessionid=of-an-administrator",
}}
payload = '''{PAYLOAD}'''
answer = Client().post(
    "/webhooks/github/", payload, content_type="application/json", headers=headers
)
assert answer.status_code == 503, answer.status_code
sentry_sdk.flush(timeout=20)
"""


class Sentry(ThreadingHTTPServer):
    """Takes reports as Sentry does, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Inbox)
        self.reports: list[str] = []


class Inbox(BaseHTTPRequestHandler):
    server: Sentry

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.reports.append(body.decode())
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    with Sentry() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_report_holds_what_happened_and_no_secret(sentry: Sentry) -> None:
    """Readers of error reports must not be able to act as a team."""
    result = run(
        BREAK,
        DJANGO_SETTINGS_MODULE="project.settings",
        SENTRY_DSN=f"http://key@127.0.0.1:{sentry.server_port}/1",
        GITHUB_WEBHOOK_SECRET=SECRET,
        TOKEN_ENCRYPTION_KEYS=KEY,
        DATABASE_URL=f"postgres://nobody:{PASSWORD}@127.0.0.1:1/nothing",
        REDIS_URL=f"redis://:{REDIS_PASSWORD}@127.0.0.1:1/0",
        ALLOWED_HOSTS="testserver",
    )

    assert result.returncode == 0, result.stderr
    text = "\n".join(sentry.reports)
    assert "RuntimeError" in text
    assert "A delivery could not be taken" in text
    assert HIDDEN in text
    secrets = [
        *TOKENS,
        SECRET,
        KEY,
        PASSWORD,
        REDIS_PASSWORD,
        "secret plan",
        "of-somebody",
        "of-an-administrator",
    ]
    assert [secret for secret in [*secrets, "sha256="] if secret in text] == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Bearer abc.def", f"Bearer {HIDDEN}"),
        ("redis://:pass@cache:6379/0", f"redis://{HIDDEN}@cache:6379/0"),
        ("eyJhbGciOi.eyJpc3Mi.c2ln is refused", f"{HIDDEN} is refused"),
        ("ghs_29310_eyJhbGciOi.eyJpc3-Mi.c2_-ln--c2 is refused", f"{HIDDEN} is refused"),
        ("It is ghs_0123456789abcdef. Then", f"It is {HIDDEN}. Then"),
        ("msync_a-b_c is refused", f"{HIDDEN} is refused"),
        ("gAAAAABnTokenLike== is refused", f"{HIDDEN} is refused"),
        ("ghost_writer and sha256 and a@b", "ghost_writer and sha256 and a@b"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, left: str) -> None:
    """A team's token is in no list of ours, but its form is known."""
    assert scrub([{"text": (text,)}], []) == [{"text": [left]}]
