"""The service and the sandbox, against what GitHub publishes of its API and its webhooks."""

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
from django.conf import settings
from django.test import Client
from githubkit import webhooks as models_of_events

from metrics_sync import github
from metrics_sync.github import prepare_api
from metrics_sync.ingest.events import HANDLERS
from metrics_sync.models import GitHubIntegration
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    SandboxServer,
    Token,
    World,
    make_samples,
)
from metrics_sync.sandbox.posting import sign
from tests.contract.asking import Watched, ask_everything, fetch, watch_answers
from tests.contract.describing import find_template
from tests.contract.models import find_faults
from tests.contract.reducing import list_changes, load_used, name_operations
from tests.contract.telling import list_deliveries, read_deliveries
from tests.factories import TrackedRepositoryFactory

#: In place of a value that is not there at all.
GONE = object()

#: Faults in which GitHub still answers JSON of its own: older, shorter, or a refusal.
FAULTS = [
    pytest.param(fault, id=name, marks=pytest.mark.long(seconds=2))
    for name, fault in {
        "an older answer": {"kind": FaultKind.STALE, "items": 1},
        "from before the merge": {"kind": FaultKind.STALE, "unmerged": True},
        "a short list": {"kind": FaultKind.SHORT_LIST},
        "a slow answer": {"kind": FaultKind.SLOW},
    }.items()
]
REFUSALS = [
    *(
        pytest.param({"kind": FaultKind.STATUS, "status": code}, id=str(code))
        for code in (404, 422)
    ),
    pytest.param({"kind": FaultKind.PERMISSION}, id="no permission"),
    pytest.param({"kind": FaultKind.PRIMARY_LIMIT}, id="the primary limit"),
    pytest.param({"kind": FaultKind.SECONDARY_LIMIT}, id="a secondary limit"),
]


@pytest.fixture(scope="module")
def used() -> dict[str, Any]:
    return load_used()


@pytest.fixture(scope="module")
def paths(used: dict[str, Any]) -> Sequence[str]:
    """The paths of the operations that the service uses."""
    return sorted({name.partition(" ")[2] for name in used["rest"]})


@pytest.fixture(scope="module")
def asked(app_keys: tuple[str, str]) -> Iterator[tuple[SandboxServer, Watched]]:
    """A sandbox that was asked everything, once."""
    with SandboxServer() as server:
        yield server, ask_everything(server, app_keys)


def test_every_request_is_one_that_github_describes(
    asked: tuple[SandboxServer, Watched], used: dict[str, Any], paths: Sequence[str]
) -> None:
    """The sandbox takes what we send, whether or not GitHub would."""
    assert any("filter=all" in request.query for request in asked[0].requests)
    for request in asked[0].requests:
        template = find_template(dict.fromkeys(paths), request.path)
        operation = used["rest"][f"{request.method} {template}"]
        for name, values in parse_qs(request.query).items():
            described = operation["parameters"][name]
            assert set(values) <= set(described.get("values", values)), f"{template} {name}"


def test_every_operation_that_the_code_names_was_asked(
    asked: tuple[SandboxServer, Watched], used: dict[str, Any]
) -> None:
    """What is held against no description is held against nothing but ourselves."""
    api = prepare_api(asked[0].url)
    code = "\n".join(path.read_text() for path in Path(github.__file__).parent.glob("*.py"))
    called = {
        f"{operation.verb} {operation.path}"
        for group, name in set(re.findall(r"\b(\w+)\.(\w+)", code))
        if (operation := getattr(getattr(api, group, None), name, None)) is not None
        if hasattr(operation, "verb")
    }

    assert len(called) > 20
    assert called <= used["rest"].keys()


def test_every_field_that_is_read_is_one_that_github_describes(
    asked: tuple[SandboxServer, Watched], used: dict[str, Any], paths: Sequence[str]
) -> None:
    """A field of the sandbox's own invention is empty at GitHub, and nobody notices."""
    for name, fields in name_operations(dict.fromkeys(paths), asked[1].reads).items():
        described = {field for field, what in used["rest"][name]["fields"].items() if what}
        assert fields <= described, name


def test_used_description_names_nothing_that_github_lacks(used: dict[str, Any]) -> None:
    """`make contract` writes null for what it does not find."""
    for part in used.values():
        for name, operation in part.items():
            assert operation is not None, name
            assert None not in operation["fields"].values(), name


def test_every_answer_to_what_we_ask_is_one_that_github_could_give(
    asked: tuple[SandboxServer, Watched], paths: Sequence[str]
) -> None:
    """A misunderstanding of ours would be the sandbox's, too."""
    faults = [
        find_faults(answer.path, answer.body, paths)
        for answer in asked[1].answers
        if answer.status < 400
    ]
    assert set(faults) == {""}


@pytest.fixture(scope="module")
def samples() -> Iterator[SandboxServer]:
    """A sandbox with a pull request of every kind that we know of."""
    with SandboxServer(World(make_samples(), tokens=[Token(DEFAULT_TOKEN)])) as server:
        yield server


@pytest.mark.parametrize("fault", [pytest.param(None, id="nothing wrong"), *FAULTS])
def test_every_answer_about_every_sample_is_one_that_github_could_give(
    samples: SandboxServer, paths: Sequence[str], fault: dict[str, Any] | None
) -> None:
    """Also with something wrong: an older answer is still an answer of GitHub's."""
    if fault is not None:
        samples.faults.add(Fault(**fault))
    with watch_answers() as watched:
        for recording in samples.world.recordings():
            fetch(samples, recording.repo, recording.number)
    samples.faults.clear()

    given = [answer for answer in watched.answers if answer.status < 400]
    assert given
    assert {find_faults(answer.path, answer.body, paths) for answer in given} == {""}


@pytest.mark.parametrize("fault", REFUSALS)
def test_every_refusal_has_the_shape_that_github_gives_it(
    samples: SandboxServer, fault: dict[str, Any]
) -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api"""
    samples.faults.add(Fault(**fault))
    recording = samples.world.recordings()[0]
    with watch_answers() as watched:
        fetch(samples, recording.repo, recording.number)
    samples.faults.clear()

    refused = [answer.body for answer in watched.answers if answer.status >= 400]
    assert refused
    for body in refused:
        assert isinstance(body["message"], str)
        assert isinstance(body.get("documentation_url", ""), str)


def test_answer_with_a_wrong_type_or_a_renamed_field_is_noticed(
    asked: tuple[SandboxServer, Watched], paths: Sequence[str]
) -> None:
    """What cannot fail proves nothing."""
    [answer, *_] = [a for a in asked[1].answers if a.path.endswith("/reviews")]
    renamed, wrong = copy.deepcopy(answer.body), copy.deepcopy(answer.body)
    renamed[0]["condition"] = renamed[0].pop("state")
    wrong[0]["id"] = str(wrong[0]["id"])

    assert "state" in find_faults(answer.path, renamed, paths)
    assert "id" in find_faults(answer.path, wrong, paths)


def test_change_of_the_description_is_told(used: dict[str, Any]) -> None:
    """This is what `make contract` prints when GitHub changes something that we use."""
    name = "GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews"
    newer = copy.deepcopy(used["rest"])
    newer[name]["fields"]["*.state"] = None
    newer[name]["parameters"]["cursor"] = {"types": ["string"]}

    gone, new = sorted(list_changes(used["rest"], newer))

    assert gone.startswith(f"gone: {name} fields *.state")
    assert new.startswith(f"new: {name} parameters cursor")


@pytest.mark.long(seconds=10)
def test_every_delivery_of_the_sandbox_is_one_that_github_could_send(
    sandbox: SandboxServer,
) -> None:
    """And each event that we handle is among them."""
    deliveries = list(list_deliveries(sandbox))

    for event, payload in deliveries:
        model = type(models_of_events.parse_obj(event, payload))
        model.model_validate_json(json.dumps(payload), strict=True)
    assert {event for event, _ in deliveries} - {"ping"} == set(HANDLERS)


@pytest.mark.django_db
def test_every_field_that_is_read_of_a_delivery_is_one_that_github_describes(
    sandbox: SandboxServer, used: dict[str, Any]
) -> None:
    """An event without a field that we wait for would be refused with 400."""
    for name, fields in read_deliveries(list_deliveries(sandbox)).items():
        described = {field for field, what in used["webhooks"][name]["fields"].items() if what}
        assert fields <= described, name


#: Each spoils some hundreds of deliveries, one after another.
SECONDS = pytest.mark.long(seconds=5)
#: What is wrong with one value of a payload that was signed rightly.
SPOILED = [
    pytest.param(GONE, id="removed"),
    pytest.param(None, id="null", marks=SECONDS),
    pytest.param([], id="a list", marks=SECONDS),
    pytest.param({}, id="an object", marks=SECONDS),
    pytest.param("", id="an empty text", marks=SECONDS),
    pytest.param("\0\ud800", id="NUL and half a surrogate", marks=SECONDS),
    pytest.param(2**63, id="a number over 2^63", marks=SECONDS),
    pytest.param(-1.5, id="a negative fraction", marks=SECONDS),
    pytest.param("x" * 70_000, id="a long text", marks=SECONDS),
]


@pytest.mark.django_db
@pytest.mark.parametrize("value", SPOILED)
def test_delivery_with_one_spoiled_value_is_answered_as_documented(
    sandbox: SandboxServer, used: dict[str, Any], client: Client, value: Any
) -> None:
    """GitHub's own examples break its description; none may answer 500, or stop the others."""
    hook = TrackedRepositoryFactory(full_name="acme/anvil").integration
    answers = Counter[int]()
    for event, payload in list_deliveries(sandbox):
        name = f"{event}.{payload['action']}" if payload.get("action") else event
        fields = used["webhooks"].get(name, {"fields": {}})["fields"]
        of_app = event.startswith("installation")
        for field in fields:
            spoiled = spoil(payload, field, value)
            answers[post(client, None if of_app else hook, event, spoiled)] += 1

    assert set(answers) <= {202, 400}
    assert answers[202]


def spoil(payload: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """Return a copy of a payload in which one value is another."""
    copied = copy.deepcopy(payload)
    *parents, key = field.split(".")
    place: Any = copied
    for parent in parents:
        place = place[0] if parent == "*" else place.get(parent)
        if not place:
            return copied
    if isinstance(place, list):
        place[0] = None if value is GONE else value
    elif value is GONE:
        place.pop(key, None)
    else:
        place[key] = value
    return copied


def post(
    client: Client, hook: GitHubIntegration | None, event: str, payload: dict[str, Any]
) -> int:
    body = json.dumps(payload).encode()
    secret = hook.webhook_secret if hook else settings.METRICS_SYNC_GITHUB_WEBHOOK_SECRET
    return client.post(
        hook.get_webhook_path() if hook else "/webhooks/github/",
        body,
        content_type="application/json",
        headers={
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": str(uuid4()),
            "X-Hub-Signature-256": sign(body, secret),
        },
    ).status_code
