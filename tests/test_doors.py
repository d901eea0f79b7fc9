"""Every address of the admin, opened by somebody of another team, or with hostile input."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from redis import Redis

from metrics_sync.models import PullRequest, Team
from tests import factories
from tests.teams import make_rows

REGISTERED = list(admin.site._registry)
OURS = [model for model in REGISTERED if model._meta.app_label == "metrics_sync"]
SCRIPT = "<script>alert(1)</script>"


def walk(patterns: Any, *, within: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield the name of every address, and what has to be filled in."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            namespace = f"{within}{pattern.namespace}:" if pattern.namespace else within
            yield from walk(pattern.url_patterns, within=namespace)
        elif isinstance(pattern, URLPattern) and pattern.name:
            yield f"{within}{pattern.name}", set(pattern.pattern.converters)


ADDRESSES = [
    (name, wanted)
    for name, wanted in walk(get_resolver().url_patterns)
    if name.startswith("admin:") or name.endswith(("-live", "dashboard-reconcile"))
]


def fill(name: str, wanted: set[str], rows: dict[type[Model], Any]) -> str:
    """Return the address that leads to one of the rows."""
    model = next((m for m in rows if f"_{m._meta.model_name}_" in f"{name}_"), PullRequest)
    key = rows[model].pk
    values = {
        "object_id": key,
        "pk": key,
        "id": 1,
        "app_label": "metrics_sync",
        "content_type_id": ContentType.objects.get_for_model(model).pk,
    }
    return reverse(name, kwargs={part: values[part] for part in wanted if part in values})


@pytest.fixture
def rows(db: None) -> dict[type[Model], Any]:
    return make_rows("forge")


@pytest.fixture
def foreign_rows(db: None) -> dict[type[Model], Any]:
    return make_rows("vault")


@pytest.fixture
def mighty(client: Client, rows: dict[type[Model], Any]) -> User:
    """Somebody of one team with every permission there is on what teams have, signed in."""
    user = factories.UserFactory()
    rows[Team].members.add(user)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="metrics_sync"))
    client.force_login(user)
    return user


def dump(rows: dict[type[Model], Any]) -> list[dict[str, Any]]:
    return [model._default_manager.filter(pk=row.pk).values().get() for model, row in rows.items()]


def test_walk_comes_to_every_page() -> None:
    """A walk that misses a door proves nothing."""
    names = {name for name, _ in ADDRESSES}
    pages = ("changelist", "add", "change", "delete", "history")

    assert {
        f"admin:{model._meta.label_lower.replace('.', '_')}_{page}"
        for model in REGISTERED
        for page in pages
    } <= names
    assert {
        "admin:index", "admin:autocomplete", "admin:metrics_sync_pullrequest_fetch_one_again",
        "metrics_sync:dashboard-live", "metrics_sync:pull-request-live",
    } <= names  # fmt: skip


@pytest.mark.parametrize(("name", "wanted"), ADDRESSES, ids=[name for name, _ in ADDRESSES])
def test_no_address_shows_or_changes_what_another_team_has(
    client: Client,
    redis: Redis,
    mighty: User,
    foreign_rows: dict[type[Model], Any],
    name: str,
    wanted: set[str],
) -> None:
    """Every permission is one on the rows of one's own teams."""
    address = fill(name, wanted, foreign_rows)
    before = dump(foreign_rows)
    keys = [row.pk for row in foreign_rows.values()]
    posts = [
        {"action": action, "_selected_action": keys, "post": "yes", "_form_submitted": "on"}
        for action in ("delete_selected", "revoke", "fetch_selected_again")
    ]

    answers = [client.get(address, follow=True), *(client.post(address, data) for data in posts)]

    client.force_login(mighty)
    answers.append(client.get(reverse("admin:index")))
    assert not any(b"vault" in answer.content for answer in answers)
    assert dump(foreign_rows) == before


@pytest.mark.parametrize("field", ["team", "integration", "credential", "pull_request", "members"])
@pytest.mark.parametrize("model", OURS)
def test_autocomplete_tells_nothing_of_another_team(
    client: Client,
    mighty: User,
    foreign_rows: dict[type[Model], Any],
    model: type[Model],
    field: str,
) -> None:
    """It answers letter by letter to who guesses."""
    query = {"app_label": "metrics_sync", "model_name": model._meta.model_name}

    answer = client.get(
        reverse("admin:autocomplete"), {**query, "field_name": field, "term": "vault"}
    )

    assert b"vault" not in answer.content
