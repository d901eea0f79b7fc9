"""Which filters an address of the admin may name, and what other addresses show."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils.http import urlencode

from metrics_sync.models import (
    ApiToken,
    GitHubIntegration,
    IntegrationCredential,
    PullRequest,
    Team,
    TrackedRepository,
    WebhookDelivery,
)
from tests.teams import make_rows

REFUSED = "Nothing is shown"


@pytest.fixture
def rows(db: None) -> dict[type[Model], Any]:
    return make_rows("forge")


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")


@pytest.mark.parametrize(
    ("model", "lookup"),
    [
        pytest.param(IntegrationCredential, "access_token__startswith", id="stored token"),
        pytest.param(GitHubIntegration, "webhook_secret__regex", id="webhook secret"),
        pytest.param(GitHubIntegration, "credential__access_token__gt", id="of a joined row"),
        pytest.param(ApiToken, "token_hash__startswith", id="hash of a token"),
        pytest.param(WebhookDelivery, "payload__contains", id="payload"),
        pytest.param(TrackedRepository, "integration__webhook_secret", id="exact"),
        pytest.param(User, "password__startswith", id="hash of a password"),
        pytest.param(Team, "members__username__startswith", id="names of users"),
    ],
)
def test_address_reads_no_field_letter_by_letter(
    admin_client: Client, rows: dict[type[Model], Any], model: type[Model], lookup: str
) -> None:
    """A list that gets shorter reveals how a hidden field begins."""
    pages = [
        admin_client.get(f"{list_of(model)}?{lookup}={value}", follow=True)
        for value in ("gAAAA", "zzzz", "")
    ]

    assert all(REFUSED in page.content.decode() for page in pages)
    assert len({page.context["cl"].result_count for page in pages}) == 1


@pytest.mark.parametrize(
    "query",
    [
        "q=forge&%00=1", "q=%00", "merged_at__year=9999", "merged_at__year=9999999999999999999",
        "merged_at__gte=abc", "title__regex=(", "nonsense=1", "o=1&merged_at__month=%00",
    ],
)  # fmt: skip
def test_address_that_cannot_be_followed_shows_nothing_and_says_why(
    admin_client: Client, rows: dict[type[Model], Any], query: str
) -> None:
    """The reader would take all rows for the filtered ones."""
    page = admin_client.get(f"{list_of(PullRequest)}?{query}")

    assert page.status_code == 200
    assert REFUSED in page.content.decode()
    assert page.context["cl"].result_count == 0


def test_address_names_the_filter_that_does_not_exist(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """The reader can then correct the name."""
    page = admin_client.get(f"{list_of(PullRequest)}?state__exact=open&colour=red")

    assert "This list has no filter “colour”." in page.content.decode()


@pytest.mark.parametrize("key", ["abc", "\0", "9" * 30, ""])
def test_selection_that_is_no_row_does_nothing(
    admin_client: Client, rows: dict[type[Model], Any], key: str
) -> None:
    """The valid rows of the same form are left alone, too."""
    keys = [rows[PullRequest].pk, key]
    data = {"action": "delete_selected", "_selected_action": keys, "post": "yes"}

    page = admin_client.post(list_of(PullRequest), data, follow=True)

    assert "no row of this list" in page.content.decode()
    assert PullRequest.objects.count() == 1


@pytest.mark.parametrize("term", ["%00forge", "forge" + "%20a" * 900])
def test_choices_are_searched_with_anything(
    admin_client: Client, admin_user: User, term: str
) -> None:
    """The page searches with each letter that a user types or pastes."""
    query = f"app_label=metrics_sync&model_name=team&field_name=members&term={term}"

    assert admin_client.get(f"{reverse('admin:autocomplete')}?{query}").status_code == 200


def test_address_fills_in_no_form(admin_client: Client, rows: dict[type[Model], Any]) -> None:
    """A link in a mail could fill in the form, and the user would only press the button."""
    url = reverse("admin:metrics_sync_integrationcredential_add")

    page = admin_client.get(f"{url}?api_url=https://ghe.evil.example&team=abc").content.decode()

    assert "evil" not in page


def test_every_admin_of_ours_is_guarded() -> None:
    """This includes admins that are added later."""
    open_ones = [
        model._meta.label
        for model, one in admin.site._registry.items()
        if "metrics_sync.admin.guarding" not in {base.__module__ for base in type(one).__mro__}
    ]

    assert open_ones == []


def list_choices(changelist: Any) -> Iterator[str]:
    """Yield the query of each choice that the filters of a list offer, as links or in forms."""
    for spec in changelist.filter_specs:
        for choice in spec.choices(changelist):
            if "form" not in choice:
                yield choice["query_string"]
                continue
            for name, field in choice["form"].fields.items():
                yield from (f"?{urlencode({name: value})}" for value, _ in field.choices)


def test_every_choice_of_every_filter_opens(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """A new kind of filter must not break its list."""
    failed, texts = [], set()
    admin_client.raise_request_exception = False
    for model in admin.site._registry:
        url = list_of(model)
        for query in list_choices(admin_client.get(url).context["cl"]):
            page = admin_client.get(f"{url}{query}")
            if page.status_code != 200 or REFUSED in page.content.decode():
                failed.append(f"{url}{query}")
            else:
                texts |= {chip.text for chip in page.context["chips"]}

    assert failed == []
    assert {"is active: Yes", "is bot: No", "event: pull_request", "team: Team forge"} <= texts
