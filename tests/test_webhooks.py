"""Reading deliveries: GitHub's own examples, and malformed ones."""

import hmac
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_sync.exceptions import (
    InvalidSignatureError,
    MalformedDeliveryError,
    UnsupportedContentTypeError,
)
from metrics_sync.ingest.webhooks import SUBJECTS, Delivery, parse_delivery, verify_signature

# https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
SECRET, BODY = "It's a Secret to Everybody", b"Hello, World!"
SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

HEADERS = {
    "Content-Type": "application/json",
    "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "X-GitHub-Event": "pull_request",
}
PAYLOAD = {"action": "closed", "repository": {"full_name": "acme/anvil"}, "number": 7}


def parse(payload: Any = None, *, body: bytes | None = None, **headers: str) -> Delivery:
    """Parse a delivery with some headers changed, e.g. `content_type`."""
    changed = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    named = {name: changed.get(name.lower(), value) for name, value in HEADERS.items()}
    return parse_delivery(named, json.dumps(payload).encode() if body is None else body)


def test_githubs_own_example_is_accepted() -> None:
    """GitHub's documentation gives a body, a secret and the right signature."""
    verify_signature(BODY, secret=SECRET, signature=SIGNATURE)


@pytest.mark.parametrize(
    ("secret", "signature"),
    [
        pytest.param(SECRET, None, id="no signature"),
        pytest.param(SECRET, "", id="empty signature"),
        pytest.param("another secret", SIGNATURE, id="another secret"),
        pytest.param(SECRET, SIGNATURE.removeprefix("sha256="), id="no prefix"),
        pytest.param(SECRET, SIGNATURE.replace("sha256", "sha1"), id="another algorithm"),
        pytest.param(SECRET, SIGNATURE[:-1], id="cut off"),
        pytest.param(SECRET, f"{SIGNATURE}0", id="too long"),
        pytest.param(SECRET, f"{SIGNATURE[:-1]}é", id="not ASCII"),
        pytest.param(SECRET, f"{SIGNATURE[:-1]}\udc80", id="half a pair"),
        pytest.param(
            "", f"sha256={hmac.new(b'', BODY, 'sha256').hexdigest()}", id="no secret is no key"
        ),
    ],
)
def test_wrong_signature_is_refused(secret: str, signature: str | None) -> None:
    """Anybody can post to a webhook's address."""
    with pytest.raises(InvalidSignatureError):
        verify_signature(BODY, secret=secret, signature=signature)


def test_changed_body_is_refused() -> None:
    """A valid signature must not cover another body."""
    with pytest.raises(InvalidSignatureError):
        verify_signature(BODY + b" ", secret=SECRET, signature=SIGNATURE)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The duration of a plain comparison reveals how many characters are right."""
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: compared.append(pair) or True)

    verify_signature(BODY, secret=SECRET, signature="sha256=guess")

    assert compared == [(SIGNATURE.encode(), b"sha256=guess")]


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", " Application/JSON ;charset=UTF-8"],
)
def test_json_delivery_is_read(content_type: str) -> None:
    """Proxies rewrite the content type, whose case has no meaning."""
    delivery = parse(PAYLOAD, content_type=content_type)

    assert delivery == Delivery(
        guid=HEADERS["X-GitHub-Delivery"],
        event="pull_request",
        action="closed",
        github_repo="acme/anvil",
        payload=PAYLOAD,
        text=json.dumps(PAYLOAD),
    )


def test_form_delivery_is_the_same_as_a_json_delivery() -> None:
    """GitHub preselects `application/x-www-form-urlencoded` for a new webhook."""
    body = urlencode({"payload": json.dumps(PAYLOAD)}).encode()

    form = parse(body=body, content_type="application/x-www-form-urlencoded")

    assert form == parse(PAYLOAD)


@pytest.mark.parametrize("payload", [{}, {"repository": None}, {"repository": []}, {"action": ""}])
def test_payload_may_lack_what_an_event_does_not_have(payload: dict[str, Any]) -> None:
    """An app's ping names neither an action nor a repository."""
    delivery = parse(payload)

    assert (delivery.action, delivery.github_repo) == ("", "")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/xml", "json"])
def test_other_content_type_is_refused_with_what_to_set(content_type: str) -> None:
    """The message is what the operator sees in GitHub's list of deliveries."""
    with pytest.raises(UnsupportedContentTypeError, match="application/json"):
        parse(PAYLOAD, content_type=content_type)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff{}", id="not UTF-8"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"a": NaN}', id="not a number"),
        pytest.param(b'{"a": -Infinity}', id="infinity"),
        pytest.param(b'{"a": "\x00"}', id="a raw NUL"),
        pytest.param(b'{"a": ' + b"[" * 200_000, id="deeply nested"),
        pytest.param(b'{"a": ' + b"9" * 5_000 + b"}", id="a number of 5,000 digits"),
        pytest.param(b'{"action": "\\u0000"}', id="an escaped NUL"),
        pytest.param(b'{"action": {"is": "closed"}}', id="action is an object"),
        pytest.param(b'{"action": 7}', id="action is a number"),
        pytest.param(b'{"repository": {"full_name": 7}}', id="name is a number"),
        pytest.param(b'{"repository": {"full_name": "a/\\ud800"}}', id="half a pair"),
        pytest.param(b'{"repository": {"full_name": "%s"}}' % (b"a" * 256), id="long name"),
    ],
)
def test_malformed_body_is_refused(body: bytes) -> None:
    """A signature proves who sent the body, not that it is readable."""
    with pytest.raises(MalformedDeliveryError):
        parse(body=body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="JSON"),
        pytest.param(b"load=%7B%7D", id="no payload"),
        pytest.param(b"payload=%7B%22a%22:%22%ED%A0%80%22%7D", id="not UTF-8 when unquoted"),
        pytest.param(b"payload=%7B%00%7D", id="a NUL when unquoted"),
        pytest.param(b"payload=%7B%7D&payload=%7B%7D", id="two fields"),
        pytest.param(b'{"body": "a=1&payload=%7B%7D&b=2"}', id="JSON that holds a form"),
    ],
)
def test_malformed_form_is_refused(body: bytes) -> None:
    """The content type is not signed, so a commenter could choose what a signature covers."""
    with pytest.raises(MalformedDeliveryError):
        parse(body=body, content_type="application/x-www-form-urlencoded")


@pytest.mark.parametrize("header", ["X-GitHub-Delivery", "X-GitHub-Event"])
@pytest.mark.parametrize("value", ["", "a" * 101, "a\x00b", "a\nb"])
def test_missing_or_odd_header_is_refused(header: str, value: str) -> None:
    """Without its GUID, a delivery could not be told from its repetition."""
    with pytest.raises(MalformedDeliveryError):
        parse(PAYLOAD, **{header.replace("-", "_"): value})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=8,
)


def test_texts_of_a_delivery_can_be_stored_wherever_they_stand() -> None:
    """A NUL in an installation's login once caused a 500 for every redelivery."""
    body = b'{"installation": {"account": {"login": "a\\u0000b\\ud800"}}, "list": ["\\u0000"]}'

    payload = parse(body=body).payload

    assert payload == {"installation": {"account": {"login": "ab?"}}, "list": [""]}


payloads = st.fixed_dictionaries({}, optional={"action": json_values, "repository": json_values})
bodies = st.binary() | payloads.map(json.dumps).map(str.encode) | st.text().map(str.encode)


@settings(deadline=None)
@given(bodies, st.sampled_from(["application/json", "application/x-www-form-urlencoded"]))
def test_every_body_is_a_delivery_or_malformed(body: bytes, content_type: str) -> None:
    """Otherwise the answer would be a 500, and GitHub's list would not say why."""
    try:
        delivery = parse(body=body, content_type=content_type)
    except MalformedDeliveryError:
        return

    assert isinstance(delivery.payload, dict)
    assert len(delivery.action) <= 100
    assert "\x00" not in delivery.text + delivery.action + delivery.github_repo


@settings(deadline=None)
@given(st.binary(), st.text(min_size=1), st.text())
def test_no_guess_verifies(body: bytes, secret: str, signature: str) -> None:
    """Only the signature keeps a stranger from writing rows."""
    with pytest.raises(InvalidSignatureError):
        verify_signature(body, secret=secret, signature=signature)


SHAPES = {
    "pull_request": {"pull_request": {}, "number": 7},
    "pull_request_review": {"pull_request": {}, "review": {}},
    "pull_request_review_comment": {"pull_request": {}, "comment": {}},
    "pull_request_review_thread": {"pull_request": {}, "thread": {}},
    "issue_comment": {"issue": {}, "comment": {}},
    "check_run": {"check_run": {}},
    "repository": {},
    "repository renamed": {"changes": {}},
    "star": {"starred_at": None},
    "label": {"label": {}},
    "meta": {"hook_id": 1, "hook": {}},
    "installation": {"installation": {}, "repositories": []},
    "installation_repositories": {
        "installation": {},
        "repositories_added": [],
        "repositories_removed": [],
        "repository_selection": "all",
    },
}


@pytest.mark.parametrize("written_for", SHAPES)
@pytest.mark.parametrize("claimed", SUBJECTS)
def test_body_is_taken_only_for_the_event_that_it_was_written_for(
    claimed: str, written_for: str
) -> None:
    """The header that names the event is not signed, and many events have the action `deleted`."""
    is_of_app = written_for.startswith("installation")
    own = {} if is_of_app else {"repository": {"id": 1, "full_name": "acme/anvil"}}
    payload = {"action": "deleted", "sender": {}, **own, **SHAPES[written_for]}
    delivery = Delivery("guid", claimed, "deleted", "", payload, "{}")

    if claimed == written_for.partition(" ")[0]:
        delivery.check_shape()
    else:
        with pytest.raises(ValueError, match="not that of the event"):
            delivery.check_shape()


@pytest.mark.parametrize("name", ["../user", "a b/c", "no-slash", "acme/.."])
def test_malformed_name_is_refused(name: str) -> None:
    """The name becomes part of an address that gets the team's token."""
    with pytest.raises(MalformedDeliveryError, match="OWNER/NAME"):
        parse({**PAYLOAD, "repository": {"id": 1, "full_name": name}})


def test_same_payload_has_one_hash_in_either_form() -> None:
    """A hook's content type may be changed before a redelivery."""
    text = json.dumps(PAYLOAD)
    form = urlencode({"payload": text}).encode()

    as_form = parse(body=form, content_type="application/x-www-form-urlencoded")

    assert as_form.body_hash == parse(body=text.encode()).body_hash
