"""A running service whose set-up breaks in eleven ways: doctor names each, and each is mailed once.

The Procfile's processes send the mails, by SMTP; the test runs none of the reporting itself.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from metrics_sync.ingest import REPOSITORY_EVENTS
from metrics_sync.models import GitHubIntegration
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    SandboxServer,
    Token,
    make_recording,
)
from metrics_sync.sandbox.posting import send_event
from tests.conftest import MANAGE, PATIENCE_SECONDS, wait_until
from tests.factories import GitHubIntegrationFactory, TrackedRepositoryFactory
from tests.mailbox import open_mailbox
from tests.procfile import Procfile
from tests.test_whole_service import PROCESSES, SPEEDUP, wait_for_rounds

ADDRESS = "https://sync.example"
#: Repositories of one valid token, each with a fault of its webhook.
HOOKS = ("off", "moved", "events", "unheard", "none")
#: The owners whose token has a fault.
TOKENS = ("refused", "lost", "mighty", "checks")

#: The message of doctor for each fault.
SAID = {
    "off": "acme/off: the webhook is switched off",
    "moved": "acme/moved: the webhook leads to https://old.example",
    "events": "acme/events: the webhook lacks events: status",
    "unheard": "acme/unheard: the last delivery was answered not at all",
    "none": "acme/none: GitHub has no webhook that leads here",
    "refused": "token of team refused",
    "lost": "access_token cannot be decrypted",
    "mighty": "it may do more than it needs: delete_repo, repo",
    "checks": "checks/anvil: check runs are not read",
    "migration": "not applied: metrics_sync",
    "setting": "METRICS_TOKEN has fewer than",
}


class Setup:
    """An operator's set-up at GitHub and in the service, and the ways to break and mend it."""

    def __init__(self, sandbox: SandboxServer) -> None:
        self.sandbox, self.world = sandbox, sandbox.world
        [self.last_migration] = MigrationLoader(connection).graph.leaf_nodes("metrics_sync")
        self.integrations = {owner: self._connect(owner, "anvil") for owner in TOKENS}
        good = self._connect("acme", *HOOKS)
        self._path = good.get_webhook_path()
        for name in HOOKS:
            self._add_hook(f"acme/{name}", secret=good.webhook_secret)

    def _connect(self, owner: str, *names: str) -> GitHubIntegration:
        token = DEFAULT_TOKEN if owner == "acme" else f"ghp_{owner}"
        self.world.add_token(Token(token))
        for name in names:
            self.world.add(make_recording(f"{owner}/{name}", 1))
        made: GitHubIntegration = GitHubIntegrationFactory(
            team__name=f"team {owner}", organization_slug=owner, credential__access_token=token
        )
        for name in names:
            TrackedRepositoryFactory(full_name=f"{owner}/{name}", team=made.team, integration=made)
        return made

    def _add_hook(self, full_name: str, *, secret: str) -> None:
        self.world.add_hook(ADDRESS + self._path, secret=secret, full_name=full_name)

    def break_it(self) -> None:
        """Break everything that can break while the processes run."""
        off, moved, events, unheard, none = self.world.hooks.values()
        off.is_active, moved.url = False, f"https://old.example{self._path}"
        events.events = tuple(REPOSITORY_EVENTS - {"status"})
        send_event(self.world, unheard, event="ping", payload={}, lost=True)
        del self.world.hooks[none.id]
        self.world.revoke_token("ghp_refused")
        self.world.add_token(Token("ghp_mighty", scopes="repo, delete_repo"))
        refused = {"path": "/checks/anvil/.*check-runs", "permissions": "checks=read"}
        self.sandbox.faults.add(Fault(FaultKind.PERMISSION, **refused))
        self._write_unreadable_token("lost")
        MigrationRecorder(connection).record_unapplied(*self.last_migration)

    def mend_it(self) -> None:
        """Do what doctor advises."""
        off, moved, events, unheard = self.world.hooks.values()
        off.is_active, moved.url = True, ADDRESS + self._path
        events.events = ("*",)
        unheard.deliveries.clear()
        self._add_hook("acme/none", secret=unheard.secret)
        self.world.add_token(Token("ghp_new"))
        for owner in ("refused", "lost"):
            self.integrations[owner].credential.store_token("ghp_new")
        self.world.add_token(Token("ghp_mighty"))
        self.sandbox.faults.clear()
        self.apply_migration()

    def apply_migration(self) -> None:
        MigrationRecorder(connection).record_applied(*self.last_migration)

    def _write_unreadable_token(self, owner: str) -> None:
        credential = self.integrations[owner].credential
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE metrics_sync_integrationcredential SET access_token = %s WHERE id = %s",
                ["of another key", credential.pk],
            )


@pytest.fixture
def setup(transactional_db: None, sandbox: SandboxServer) -> Iterator[Setup]:
    made = Setup(sandbox)
    yield made
    made.apply_migration()


@pytest.mark.long(seconds=75)
def test_each_broken_setup_is_named_mailed_once_and_said_to_be_well_again(
    environment: dict[str, str], setup: Setup, tmp_path: Path
) -> None:
    """A fault that is not reported stays unnoticed, and one that is mailed ten times is ignored."""
    environment |= {"GITHUB_API_URL": setup.sandbox.url, "CLOCK_SPEEDUP": SPEEDUP}
    environment |= {"BASE_URL": ADDRESS, "NOTIFY_EMAILS": "ops@acme.example"}
    environment["METRICS_TOKEN"] = "short"
    setup.break_it()

    with open_mailbox() as (url, mails):
        environment["EMAIL_URL"] = url
        with Procfile(environment, tmp_path) as service:
            service.start(*PROCESSES)
            wait_until(lambda: all(count(mails, "WRONG")[name] for name in SAID))
            wait_until(lambda: ask_doctor(service) == set(SAID))
            wait_for_rounds(service, 2)
            setup.mend_it()
            service.environment["METRICS_TOKEN"] = "long enough to be no guess"
            for name in ("worker", "merges"):
                service.kill(name)
            wait_until(lambda: all(count(mails, "WELL AGAIN")[name] for name in SAID))
            wait_for_rounds(service, 2)

    assert count(mails, "WRONG") == dict.fromkeys(SAID, 1)
    assert count(mails, "WELL AGAIN") == dict.fromkeys(SAID, 1)


def count(mails: list[str], beginning: str) -> dict[str, int]:
    """Count for each fault the lines of all mails that begin so and name it."""
    lines = [line for mail in mails for line in mail.splitlines() if line.startswith(beginning)]
    return {name: sum(said in line for line in lines) for name, said in SAID.items()}


def ask_doctor(service: Procfile) -> set[str]:
    """Return the faults that the command finds, each with its remedy."""
    done = subprocess.run(
        [*MANAGE, "doctor", "--json"],
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    findings = json.loads(done.stdout)["findings"]
    wrong = [finding["text"] for finding in findings if finding["advice"]]
    return {name for name, said in SAID.items() if any(said in text for text in wrong)}
