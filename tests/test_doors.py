"""Every address of the admin, opened by a user of another team, or with hostile input."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import CharField, Model, TextField, URLField
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from redis import Redis

from metrics_sync.fields import EncryptedTextField
from metrics_sync.models import PullRequest, Team, TrackedRepository
from tests import factories
from tests.teams import make_rows

REGISTERED = list(admin.site._registry)
OURS = [model for model in REGISTERED if model._meta.app_label == "metrics_sync"]
SCRIPT = "<script>alert(1)</script>"
#: What pages look rows up by.
KEPT = {"slug", "state", "sync_status", "status", "comment_type", "sync_job_id"}
#: Where the database takes nothing but the name of a repository.
NAMES = {(TrackedRepository, "full_name"), (PullRequest, "github_repo")}
#: What addresses may hold: first what pages give to the database.
PARAMETERS = [
    "q", "term", "team__id__exact", "merged_at__year", "event", "page", "o", "p", "e", "all", "s",
    "_to_field", "_popup", "_facets", "_changelist_filters", "_selected_action", "action", "seen",
    "team", "weeks", "repository", "members", "credential", "sync_status__exact", "name", "slug",
    "username", "full_name", "organization_slug", "secret", "api_url", "groups", "\0",
    "author", "reviewer", "known", "took", "review", "merged_from", "merged_before", "bots", "by",
    "trend", "from", "to", "asked", "back", "pull_request", "sort",
]  # fmt: skip


def walk(patterns: Any, *, within: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield the name of every address, and its parameters."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            namespace = f"{within}{pattern.namespace}:" if pattern.namespace else within
            yield from walk(pattern.url_patterns, within=namespace)
        elif isinstance(pattern, URLPattern) and pattern.name:
            yield f"{within}{pattern.name}", set(pattern.pattern.regex.groupindex)


#: The pages and files beside those of the admin.
PAGES = {
    *("dashboard-live", "dashboard-reconcile", "pull-request-live"),
    *("compare-csv", "trend-csv", "waiting", "reviewers"),
}
ADDRESSES = [
    (name, wanted)
    for name, wanted in walk(get_resolver().url_patterns)
    if name.startswith("admin:") or name.removeprefix("metrics_sync:") in PAGES
]


def list_addresses(rows: dict[type[Model], Any]) -> list[tuple[str, str]]:
    """Return each name with an address that leads to one of the rows."""
    return [(name, fill(name, wanted, rows)) for name, wanted in ADDRESSES]


def fill(name: str, wanted: set[str], rows: dict[type[Model], Any]) -> str:
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
    """A signed-in user of one team with every permission on the rows of teams."""
    user = factories.UserFactory()
    rows[Team].members.add(user)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="metrics_sync"))
    client.force_login(user)
    return user


def dump(rows: dict[type[Model], Any]) -> list[dict[str, Any]]:
    return [model._default_manager.filter(pk=row.pk).values().get() for model, row in rows.items()]


def test_walk_comes_to_every_page() -> None:
    """A walk that misses a page proves nothing about it."""
    names = {name for name, _ in ADDRESSES}
    pages = ("changelist", "add", "change", "delete", "history")

    assert {
        f"admin:{model._meta.label_lower.replace('.', '_')}_{page}"
        for model in REGISTERED
        for page in pages
    } <= names
    ours = {"admin:index", "admin:autocomplete", "admin:metrics_sync_pullrequest_fetch_one_again"}
    assert ours | {f"metrics_sync:{page}" for page in PAGES} <= names


@pytest.mark.long(seconds=10)
def test_no_address_shows_or_changes_what_another_team_has(
    client: Client, redis: Redis, mighty: User, foreign_rows: dict[type[Model], Any]
) -> None:
    """A permission covers only the rows of the user's own teams."""
    before = dump(foreign_rows)
    keys = [row.pk for row in foreign_rows.values()]
    actions = ["delete_selected", "revoke", "fetch_selected_again"]
    wanted = {"_selected_action": keys, "post": "yes", "_form_submitted": "on"}
    told = []

    for name, address in list_addresses(foreign_rows):
        answers = [client.get(address)]
        tried = actions if name.endswith("changelist") else actions[:1]
        answers += [client.post(address, {**wanted, "action": action}) for action in tried]
        client.force_login(mighty)
        # Messages are shown by the next page, whichever it is; this one is cheap.
        answers.append(client.get(reverse("admin:password_change")))
        told += [name for answer in answers if "vault" in answer.headers.get("Location", "")]
        told += [name for answer in answers if b"vault" in b"".join(answer)]

    assert told == []
    assert dump(foreign_rows) == before


@pytest.mark.long(seconds=3)
def test_choices_tell_nothing_of_another_team(
    client: Client, mighty: User, foreign_rows: dict[type[Model], Any]
) -> None:
    """A user who guesses letter by letter could read names."""
    told = []
    for model in OURS:
        for field in (*model._meta.fields, *model._meta.many_to_many):
            query = {"model_name": model._meta.model_name, "field_name": field.name}
            query |= {"app_label": "metrics_sync", "term": "vault"}
            answer = client.get(reverse("admin:autocomplete"), query)
            told += [(model, field) for _ in range(b"vault" in answer.content)]

    assert told == []


@pytest.mark.long(seconds=3)
def test_no_input_causes_a_500(
    admin_client: Client, redis: Redis, rows: dict[type[Model], Any]
) -> None:
    """Error reports about edited addresses would hide the important ones."""
    admin_client.raise_request_exception = False
    query = "&".join(f"{parameter}=%00" for parameter in PARAMETERS)
    form = dict.fromkeys(PARAMETERS, "\0")
    failed = []

    for name, address in list_addresses(rows):
        if name != "admin:logout":
            answers = [admin_client.get(f"{address}?{query}"), admin_client.post(address, form)]
            failed += [name for answer in answers if answer.status_code >= 500]

    assert failed == []


@pytest.mark.long(seconds=3)
def test_text_of_others_is_text_on_every_page(
    admin_client: Client, redis: Redis, rows: dict[type[Model], Any]
) -> None:
    """Everybody who may open a pull request chooses its title, files, branches and comments."""
    for model in OURS:
        fields = [field for field in model._meta.concrete_fields if is_free_text(field)]
        texts = {field.name: SCRIPT[: field.max_length] for field in fields}
        model._default_manager.update(**texts)

    answers = {name: admin_client.get(address) for name, address in list_addresses(rows)}
    files = {name for name, answer in answers.items() if answer.streaming}
    pages = {name: answers[name].content.decode() for name in answers.keys() - files}

    assert {answers[name].headers["Content-Type"] for name in files} == {"text/csv; charset=utf-8"}
    assert [name for name, page in pages.items() if SCRIPT in page] == []
    shown = [name for name, page in pages.items() if "&lt;script&gt;" in page]
    assert {f"admin:metrics_sync_{model._meta.model_name}_changelist" for model in OURS} <= {*shown}


def is_free_text(field: Any) -> bool:
    if field.choices or field.unique or isinstance(field, EncryptedTextField | URLField):
        return False
    if (field.model, field.name) in NAMES:
        return False
    return isinstance(field, CharField | TextField) and field.name not in KEPT
