"""Holds what the service uses of GitHub against the newest descriptions; `make contract` runs it.

Needs npm and a package index. `WRITE=1` takes what is new into `used.json` and `used.graphql`.
"""

import json
import os
import runpy
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from graphql import GraphQLSchema, build_schema

from metrics_sync.ingest.events import HANDLERS
from metrics_sync.sandbox import SandboxServer
from metrics_sync.sandbox.graphql_route import read_schema
from tests.contract import graphql
from tests.contract.asking import ask_everything
from tests.contract.reducing import (
    USED,
    list_changes,
    load_used,
    name_operations,
    reduce_rest,
    reduce_webhooks,
)
from tests.contract.telling import list_deliveries, read_deliveries
from tests.test_contract import post

REST = "@octokit/openapi"
WEBHOOKS = "@octokit/openapi-webhooks"
EXAMPLES = "@octokit/webhooks-examples"
SCHEMA = "@octokit/graphql-schema"
GITHUB = "api.github.com"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tarfile.TarFile]:
    """The newest packages, by name."""
    folder = tmp_path_factory.mktemp("packages")
    return {name: _download(name, folder) for name in (REST, WEBHOOKS, EXAMPLES, SCHEMA)}


def _download(name: str, folder: Path) -> tarfile.TarFile:
    command = ["npm", "pack", "--silent", name]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return tarfile.open(folder / done.stdout.split()[-1])


def _read(package: tarfile.TarFile, server: str) -> dict[str, Any]:
    file = package.extractfile(f"package/generated/{server}.json")
    assert file is not None
    described: dict[str, Any] = json.load(file)
    return described


def _list_enterprise(package: tarfile.TarFile) -> list[str]:
    names = (Path(name) for name in package.getnames())
    return sorted(
        name.stem for name in names if name.match("ghes-*.json") and ".deref" not in name.name
    )


@pytest.mark.django_db
def test_nothing_that_we_use_has_changed(
    packages: dict[str, tarfile.TarFile],
    sandbox: SandboxServer,
    app_keys: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What GitHub takes away, renames or makes null some day is known before it hurts."""
    rest, events = (_read(packages[name], GITHUB) for name in (REST, WEBHOOKS))
    read = name_operations(rest["paths"], ask_everything(sandbox, app_keys).reads)
    told = read_deliveries(list_deliveries(sandbox))
    newest = {"rest": reduce_rest(rest, read), "webhooks": reduce_webhooks(events, told)}

    changes = list_changes(load_used(), newest)
    older = [
        f"not on {server}: {line}"
        for server in _list_enterprise(packages[REST])
        for line in list_changes(newest["rest"], reduce_rest(_read(packages[REST], server), read))
        if line.startswith("gone")
    ]
    with capsys.disabled():
        print("\n" + "\n".join(changes or ["Nothing that we use has changed."]))  # noqa: T201
        print("\n".join(older or ["Every Enterprise Server described has all of it."]))  # noqa: T201
    if os.environ.get("WRITE"):
        USED.write_text(json.dumps(newest, indent=1, sort_keys=True) + "\n")
        return
    assert changes == []


def test_nothing_that_we_ask_of_graphql_has_changed(
    packages: dict[str, tarfile.TarFile],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One field that is gone fails a whole query.

    ghapi's tables are ahead of the published schema, and tell what will be gone.
    """
    file = packages[SCHEMA].extractfile("package/schema.graphql")
    assert file is not None
    published = build_schema(file.read().decode(), assume_valid=True)
    reduced, tables = graphql.reduce_schema(published), _download_tables(tmp_path)

    changes = graphql.list_changes(graphql.load_used(), build_schema(reduced))
    faults = [
        *(f"the published schema: {fault}" for fault in graphql.list_refusals(published)),
        *(f"ghapi's tables: {fault}" for fault in graphql.list_refusals(tables)),
        *(
            f"the sandbox alone has: {fault}"
            for fault in graphql.list_differences(build_schema(reduced), read_schema())
        ),
    ]
    with capsys.disabled():
        told = changes or ["Nothing that we use of GraphQL has changed."]
        print("\n" + "\n".join(told))  # noqa: T201
        print("\n".join(faults or ["Every query is taken, and the sandbox has no more."]))  # noqa: T201
    if os.environ.get("WRITE"):
        graphql.USED.write_text(reduced)
        changes = []
    assert (changes, faults) == ([], [])


def _download_tables(folder: Path) -> GraphQLSchema:
    """Make a schema of the tables in the newest ghapi."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "ghapi"]
    subprocess.run([*command, "--only-binary", ":all:"], cwd=folder, check=True)
    [wheel] = folder.glob("ghapi-*.whl")
    tables = zipfile.ZipFile(wheel).extract("ghapi/gql_spec.py", folder)
    return graphql.read_tables(runpy.run_path(tables)["gqlspec"])


@pytest.mark.django_db
def test_every_example_of_a_webhook_is_taken(
    packages: dict[str, tarfile.TarFile], client: Client
) -> None:
    """They are recorded, of all events, and break the description here and there."""
    file = packages[EXAMPLES].extractfile(f"package/{GITHUB}/index.json")
    assert file is not None
    examples = [(event["name"], item) for event in json.load(file) for item in event["examples"]]

    answers = {
        (event, payload.get("action", "")): post(client, None, event, payload)
        for event, payload in examples
    }

    refused = {name: status for name, status in answers.items() if status not in {200, 202}}
    assert (refused, len(answers) > len(HANDLERS)) == ({}, True)
