"""The admin: which rows each user sees and may change, and that no page shows a secret."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.templatetags.admin_list import result_headers
from django.contrib.auth.models import Group, Permission, User
from django.contrib.messages import get_messages
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings
from redis import Redis
from rq import Queue

from metrics_sync import models
from metrics_sync.admin.header import find_web_root
from metrics_sync.admin.labels import UNKNOWN
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    PullRequest,
    Team,
    TrackedRepository,
)
from metrics_sync.work.queueing import BULK, MERGES
from tests import factories
from tests.teams import make_rows

OURS = [model for model in admin.site._registry if model._meta.app_label == "metrics_sync"]
PAGES = ["change", "history", "delete"]


def url_of(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def pages_of(model: type[Model]) -> list[str]:
    """Return the addresses of a row's pages; records of events have no page to delete them."""
    return [page for page in PAGES if (model, page) != (models.AuditEntry, "delete")]


@pytest.fixture
def rows(db: None) -> dict[type[Model], Any]:
    return make_rows("forge")


@pytest.fixture
def foreign_rows(db: None) -> dict[type[Model], Any]:
    return make_rows("vault")


@pytest.fixture
def member(rows: dict[type[Model], Any]) -> User:
    user = factories.UserFactory()
    rows[Team].members.add(user)
    return user


@pytest.fixture
def member_client(client: Client, member: User) -> Client:
    client.force_login(member)
    return client


def allow(user: User, *codenames: str) -> None:
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


def read(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200, url
    return response.content.decode()


@pytest.mark.parametrize("model", OURS)
def test_no_page_shows_a_secret(
    admin_client: Client, rows: dict[type[Model], Any], model: type[Model]
) -> None:
    """Pages are cached, shared and photographed; this test opens every page of every row."""
    listed = read(admin_client, url_of(model, "changelist"))
    pages = [read(admin_client, url_of(model, page, rows[model].pk)) for page in pages_of(model)]

    assert f"/{rows[model].pk}/change/" in listed
    for text in [listed, *pages]:
        assert "ghp_forge" not in text
        assert "hook_forge" not in text


@pytest.mark.parametrize("model", [User, Group])
def test_accounts_have_the_theme(admin_client: Client, model: type[Model]) -> None:
    """Django's own pages for users and groups would look different from all others."""
    for page in ("changelist", "add"):
        assert "unfold/css/styles.css" in read(admin_client, url_of(model, page))


def test_password_of_a_user_can_be_set(admin_client: Client, admin_user: User) -> None:
    """The theme has its own form for passwords."""
    read(admin_client, reverse("admin:auth_user_password_change", args=[admin_user.pk]))


@pytest.mark.parametrize("model", OURS)
def test_member_sees_rows_of_own_teams_only(
    member_client: Client,
    rows: dict[type[Model], Any],
    foreign_rows: dict[type[Model], Any],
    model: type[Model],
) -> None:
    """Teams of one installation must not see each other's rows in lists, filters or searches."""
    factories.TeamFactory(name="Second").members.add(*rows[Team].members.all())

    page = read(member_client, url_of(model, "changelist"))
    found = read(member_client, url_of(model, "changelist") + "?q=vault")

    assert f"/{rows[model].pk}/change/" in page
    assert "vault" not in page
    assert f"/{foreign_rows[model].pk}/change/" not in found
    read(member_client, url_of(model, "change", rows[model].pk))


@pytest.mark.parametrize("model", OURS)
def test_pages_of_other_teams_are_not_found(
    member_client: Client,
    member: User,
    foreign_rows: dict[type[Model], Any],
    model: type[Model],
) -> None:
    """A guessed key in an address shows nothing, even to a user with every permission."""
    member.user_permissions.set(Permission.objects.all())

    for page in pages_of(model):
        response = member_client.get(url_of(model, page, foreign_rows[model].pk))

        if response.status_code == 302:
            assert response["Location"] == reverse("admin:index")
        else:
            assert response.status_code in {403, 404}
        # Messages are shown by the next page, whichever it is.
        told = [str(message) for message in get_messages(response.wsgi_request)]
        assert "vault" not in f"{response.content.decode()} {told}"


def test_summary_is_of_own_teams_only(
    member_client: Client, foreign_rows: dict[type[Model], Any]
) -> None:
    """The first page names pull requests, teams and tokens."""
    foreign_rows[IntegrationCredential].mark_revoked()
    PullRequest.objects.update(merged_at=timezone.now(), sync_status="failed")

    page = read(member_client, reverse("admin:index"))

    assert "forge/anvil" in page
    assert "vault" not in page


def test_delivery_of_no_team_is_for_superusers(member_client: Client) -> None:
    """A delivery to the shared endpoint may hold any team's data."""
    delivery = factories.WebhookDeliveryFactory(github_repo="nobody/knows")

    page = read(member_client, url_of(type(delivery), "changelist"))

    assert "nobody/knows" not in page


def test_choices_of_a_form_are_of_own_teams(
    member_client: Client, member: User, foreign_rows: dict[type[Model], Any]
) -> None:
    """A form must offer only rows that the user may see."""
    allow(member, "add_githubintegration", "add_integrationcredential")

    for model in (GitHubIntegration, IntegrationCredential):
        page = read(member_client, url_of(model, "add"))
        assert "Team forge" in page
        assert "vault" not in page


def test_credential_of_another_team_is_refused(
    admin_client: Client, rows: dict[type[Model], Any], foreign_rows: dict[type[Model], Any]
) -> None:
    """Otherwise one team could use the token of another."""
    data = {
        "team": rows[Team].pk,
        "credential": foreign_rows[IntegrationCredential].pk,
        "organization_slug": "new",
        "secret": "hook",
    }

    response = admin_client.post(url_of(GitHubIntegration, "add"), data)

    assert "This belongs to another team." in response.content.decode()
    assert not GitHubIntegration.objects.filter(organization_slug="new").exists()


def test_only_viewers_of_users_choose_members(
    member_client: Client, member: User, rows: dict[type[Model], Any]
) -> None:
    """Otherwise a guessed id would reveal a user's name on the page, in the log or in a URL."""
    allow(member, "add_team", "change_team")
    stranger = factories.UserFactory(username="zoe")
    data = {"name": "Team forge", "slug": "forge", "members": [member.pk, stranger.pk]}
    url = url_of(Team, "change", rows[Team].pk)

    pages = [
        member_client.post(url, data, follow=True),
        member_client.post(url, {**data, "name": ""}),
        member_client.post(url_of(Team, "add"), {**data, "slug": ""}),
        member_client.get(f"{url_of(Team, 'add')}?members={stranger.pk}"),
        member_client.get(url_of(models.AuditEntry, "changelist")),
    ]

    assert not any(b"zoe" in page.content for page in pages)
    assert list(rows[Team].members.all()) == [member]


def test_only_viewers_of_users_search_for_members(member_client: Client, member: User) -> None:
    """The search would reveal the names of other teams' members."""
    allow(member, "change_team")

    query = {"app_label": "metrics_sync", "model_name": "team", "field_name": "members"}
    response = member_client.get(reverse("admin:autocomplete"), query)

    assert response.status_code == 403


@pytest.mark.parametrize("model", [model for model in OURS if model is not models.WeeklyDigest])
def test_member_changes_nothing_without_permission(
    member_client: Client, rows: dict[type[Model], Any], model: type[Model]
) -> None:
    """Membership lets a user read; members decide only about their own mail."""
    for url in (url_of(model, "add"), url_of(model, "delete", rows[model].pk)):
        assert member_client.get(url).status_code == 403
    assert member_client.post(url_of(model, "change", rows[model].pk)).status_code == 403


@pytest.mark.parametrize(
    "model",
    [
        PullRequest, models.Commit, models.PRFile, models.PRCheckRun, models.PRComment,
        models.PRReview, models.FetchRun, models.WebhookDelivery, models.TeamMember,
        models.AuditEntry,
    ],
)  # fmt: skip
def test_fetched_data_are_read_only(
    admin_client: Client, rows: dict[type[Model], Any], model: type[Model]
) -> None:
    """A number edited by hand would make the metrics wrong."""
    assert admin_client.get(url_of(model, "add")).status_code == 403
    assert admin_client.post(url_of(model, "change", rows[model].pk)).status_code == 403


def test_secret_that_cannot_be_decrypted_breaks_no_page(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """After a key is lost, operators store new secrets in the admin."""
    for table, column in (
        ("integrationcredential", "access_token"),
        ("githubintegration", "webhook_secret"),
    ):
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE metrics_sync_{table} SET {column} = 'of a lost key'")  # noqa: S608

    for model in OURS:
        read(admin_client, url_of(model, "changelist"))
        for page in pages_of(model):
            read(admin_client, url_of(model, page, rows[model].pk))
    read(admin_client, reverse("admin:index"))


@pytest.fixture
def credential(rows: dict[type[Model], Any]) -> IntegrationCredential:
    rows[IntegrationCredential].mark_revoked()
    return rows[IntegrationCredential]


@pytest.mark.parametrize(
    ("secret", "stored", "is_revoked"),
    [
        pytest.param("", "ghp_forge", True, id="left empty"),
        pytest.param("ghp_new", "ghp_new", False, id="a new one"),
    ],
)
def test_token_is_replaced_when_one_is_given(
    admin_client: Client,
    credential: IntegrationCredential,
    secret: str,
    stored: str,
    is_revoked: bool,
) -> None:
    """Saving another field keeps the token; a new token ends the refusal of the old one."""
    data = {"kind": "token", "secret": secret}

    response = admin_client.post(url_of(IntegrationCredential, "change", credential.pk), data)

    assert response.status_code == 302
    credential = IntegrationCredential.objects.get()
    assert credential.access_token == stored
    assert (credential.revoked_at is not None) == is_revoked
    assert "ghp_" not in LogEntry.objects.get().change_message


def test_new_token_releases_waiting_pull_requests(
    admin_client: Client,
    credential: IntegrationCredential,
    redis: Redis,
    django_capture_on_commit_callbacks: Any,
) -> None:
    """A token stored in the admin has the same effect as one stored with `connect`."""
    PullRequest.objects.filter(team=credential.team).update(sync_status="queued", sync_job_id="job")
    later = timezone.now().timestamp() + 3000
    redis.zadd(f"rq:scheduled:{MERGES}", {"job": later})
    data = {"kind": "token", "secret": "ghp_new"}

    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post(url_of(IntegrationCredential, "change", credential.pk), data)

    assert redis.zscore(f"rq:scheduled:{MERGES}", "job") < later


@pytest.mark.parametrize(
    ("secret", "stored"),
    [pytest.param("", "hook_forge", id="left empty"), pytest.param("new", "new", id="a new one")],
)
def test_webhook_secret_is_replaced_when_one_is_given(
    admin_client: Client, rows: dict[type[Model], Any], secret: str, stored: str
) -> None:
    """Deliveries are verified with it, so a corrected name must not erase it."""
    integration = rows[GitHubIntegration]
    data = {"credential": integration.credential_id, "organization_slug": "b", "secret": secret}

    response = admin_client.post(url_of(GitHubIntegration, "change", integration.pk), data)

    assert response.status_code == 302
    integration = GitHubIntegration.objects.get()
    assert (integration.organization_slug, integration.webhook_secret) == ("b", stored)


@pytest.mark.parametrize("model", [IntegrationCredential, GitHubIntegration])
def test_new_row_needs_its_secret(
    admin_client: Client, rows: dict[type[Model], Any], model: type[Model]
) -> None:
    """Without a token GitHub cannot be asked, and GitHub cannot know a secret that we generate."""
    data = {
        "team": rows[Team].pk,
        "kind": "token",
        "credential": rows[IntegrationCredential].pk,
        "organization_slug": "new",
    }

    admin_client.post(url_of(model, "add"), data)
    assert model._default_manager.count() == 1
    admin_client.post(url_of(model, "add"), {**data, "secret": "first"})
    assert model._default_manager.count() == 2


def test_refused_token_is_seen_in_the_list(
    member_client: Client, credential: IntegrationCredential
) -> None:
    """Its pull requests wait until an operator notices."""
    assert "revoked" in read(member_client, url_of(IntegrationCredential, "changelist"))


def fetch_again(client: Client, pull_request: PullRequest) -> str:
    """Press the page's button and return the text of the page that follows."""
    url = url_of(PullRequest, "fetch_one_again", pull_request.pk)
    response = client.post(url, {"_form_submitted": "on"})
    return read(client, response.headers["HX-Redirect"])


def fetch_selected_again(client: Client, *pull_requests: PullRequest) -> str:
    data = {
        "action": "fetch_selected_again",
        "_selected_action": [row.pk for row in pull_requests],
    }
    response = client.post(url_of(PullRequest, "changelist"), data, follow=True)
    return response.content.decode()


def test_member_fetches_one_again(
    member_client: Client, rows: dict[type[Model], Any], redis: Redis
) -> None:
    """The job goes to the bulk queue, so no merge waits for it."""
    page = fetch_again(member_client, rows[PullRequest])

    assert "Queued to be fetched again: 1." in page
    assert (Queue(BULK, connection=redis).count, Queue(MERGES, connection=redis).count) == (1, 0)


@pytest.mark.parametrize("status", ["queued", "running"])
def test_row_whose_job_is_gone_is_fetched_again(
    member_client: Client, rows: dict[type[Model], Any], redis: Redis, status: str
) -> None:
    """The button once refused such a row for ever, because the job's hash said `queued`."""
    moment = timezone.now() - timedelta(minutes=3)
    PullRequest.objects.update(sync_status=status, sync_job_id="gone", queued_at=moment)

    page = fetch_again(member_client, rows[PullRequest])

    assert "Queued to be fetched again: 1." in page


def test_fetch_again_fetches_all_lists(
    member_client: Client, rows: dict[type[Model], Any], redis: Redis
) -> None:
    """A user who presses the button doubts the stored data, so “unchanged” is no answer."""
    receipt = {"files": {"stated": 2, "stored": 2, "result": "verified"}}
    PullRequest.objects.update(etags={"files": []}, receipt=receipt, sync_status="partial")

    fetch_again(member_client, rows[PullRequest])

    row = PullRequest.objects.get(pk=rows[PullRequest].pk)
    assert (row.etags, row.receipt["files"]["result"]) == ({}, "outdated")


def test_opening_the_dialog_queues_nothing(
    member_client: Client, rows: dict[type[Model], Any], redis: Redis
) -> None:
    """A link in a mail must not be enough to queue a job."""
    page = read(member_client, url_of(PullRequest, "fetch_one_again", rows[PullRequest].pk))

    assert "Fetch again?" in page
    assert Queue(MERGES, connection=redis).count == 0


def test_selected_are_fetched_again_in_bulk(
    admin_client: Client,
    rows: dict[type[Model], Any],
    foreign_rows: dict[type[Model], Any],
    redis: Redis,
) -> None:
    """Fetching a whole page of rows must not delay the next merge."""
    page = fetch_selected_again(admin_client, rows[PullRequest], foreign_rows[PullRequest])

    assert "Queued to be fetched again: 2." in page
    assert Queue(BULK, connection=redis).count == 2


def test_pull_requests_of_other_teams_are_not_fetched_again(
    member_client: Client, foreign_rows: dict[type[Model], Any], redis: Redis
) -> None:
    """Each request would cost the other team's budget."""
    row = foreign_rows[PullRequest]

    fetch_selected_again(member_client, row)
    response = member_client.post(
        url_of(PullRequest, "fetch_one_again", row.pk), {"_form_submitted": "on"}
    )

    assert response.status_code == 404
    assert Queue(BULK, connection=redis).count == Queue(MERGES, connection=redis).count == 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"state": "open", "sync_status": "idle"}, "not merged", id="open"),
        pytest.param({"sync_status": "queued"}, "already queued", id="queued"),
        pytest.param({"sync_status": "running"}, "already queued or running: 1", id="running"),
        pytest.param({"github_pr_number": None}, "without a number", id="without number"),
        pytest.param({"repository": None}, "does not track", id="untracked"),
    ],
)
def test_pull_request_that_cannot_be_fetched_is_left_as_it_is(
    admin_client: Client,
    rows: dict[type[Model], Any],
    redis: Redis,
    values: dict[str, Any],
    reason: str,
) -> None:
    """The page says why; a second job would only get in the way of the first."""
    now = timezone.now()
    PullRequest.objects.update(queued_at=now, heartbeat_at=now, **values)

    page = fetch_again(admin_client, rows[PullRequest])

    assert reason in page
    assert PullRequest.objects.filter(**values).exists()
    assert Queue(MERGES, connection=redis).count == 0


def test_page_says_that_redis_is_down(
    admin_client: Client, rows: dict[type[Model], Any], redis_down: None
) -> None:
    """Users press a button again that seems to do nothing."""
    page = fetch_again(admin_client, rows[PullRequest])

    assert "Redis does not answer" in page
    assert PullRequest.objects.get().sync_status == "pending"


def test_receipt_is_a_table_of_every_section(
    member_client: Client, rows: dict[type[Model], Any]
) -> None:
    """The receipt proves completeness; an unknown number is a dash, not a zero."""
    PullRequest.objects.update(
        receipt={
            "files": {"stated": 3050, "stored": 3000, "result": "capped"},
            "reviews": {"stated": None, "stored": 2, "result": "the reason why"},
        }
    )

    page = read(member_client, url_of(PullRequest, "change", rows[PullRequest].pk))

    cells = [cell.strip() for cell in re.split(r"<[^>]*>", page) if cell.strip()]
    for section, following in {
        "files": ["3050", "3000"],
        "reviews": [UNKNOWN, "2", "the reason why"],
        "commits": [UNKNOWN, UNKNOWN, UNKNOWN],
    }.items():
        row = cells[cells.index(section) + 1 :]
        assert row[: len(following)] == following
    assert "capped" in cells


def test_files_of_a_large_pull_request_come_in_pages(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """GitHub lists up to 3,000 files; the list behind the page shows all of them in its order."""
    row = rows[PullRequest]
    for _ in range(30):
        factories.PRFileFactory(pull_request=row)
    factories.PRFileFactory()

    page = read(admin_client, url_of(PullRequest, "change", row.pk))

    # `forge.py` comes first.
    assert page.count("src/anvil_") == 19
    [files] = re.findall(r'href="([^"]*/prfile/[^"]*)"[^>]*>All 31 files', page)
    found = admin_client.get(unescape(files)).context
    names = [file.filename for file in found["cl"].result_list]
    assert names == sorted(names)
    assert len(names) == 31
    assert [chip.text for chip in found["chips"]] == [f"of {row}"]


def test_lists_behind_a_pull_request_are_of_own_teams(
    member_client: Client, foreign_rows: dict[type[Model], Any]
) -> None:
    """The address of a list holds the pull request's key, which anybody can guess."""
    theirs = foreign_rows[PullRequest]

    page = read(member_client, f"{url_of(models.Commit, 'changelist')}?pull_request={theirs.pk}")

    assert "You have no pull request with the key" in page
    assert str(theirs) not in page


def test_large_pull_request_has_a_small_page(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """The timeline and the lists once took 800 KB."""
    row = rows[PullRequest]
    PullRequest.objects.filter(pk=row.pk).update(pr_created_at=factories.MERGED_AT)
    factories.CommitFactory.create_batch(
        300, pull_request=row, committed_at=factories.MERGED_AT, message="Heat it " * 30
    )
    factories.PRCommentFactory.create_batch(500, pull_request=row, body="Is it hot? " * 50)

    page = read(admin_client, url_of(PullRequest, "change", row.pk))

    assert len(page) < 200_000


@pytest.mark.parametrize(
    ("api_root", "web_root"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://code.acme.example/api/v3", "https://code.acme.example"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com"),
    ],
)
def test_web_root_follows_from_the_api_root(api_root: str, web_root: str) -> None:
    """The pages for people are at another address than the API."""
    assert find_web_root(api_root) == web_root


def test_page_leads_to_github(admin_client: Client, rows: dict[type[Model], Any]) -> None:
    """The page at GitHub shows what is not stored here."""
    factories.move_to_github(rows[GitHubIntegration], "https://code.acme.example/api/v3")
    row = rows[PullRequest]

    page = read(admin_client, url_of(PullRequest, "change", row.pk))

    assert f"https://code.acme.example/forge/anvil/pull/{row.github_pr_number}" in page


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("repository=forge/anvil", True),
        ("repository=forge/old", False),
        ("sync_status__exact=pending", True),
        ("sync_status__exact=failed", False),
        ("q=Forge", True),
        ("q=nothing", False),
        ("merged_at__year=2026", True),
        ("merged_at__year=2025", False),
    ],
)
def test_pull_requests_are_narrowed_down(
    member_client: Client, rows: dict[type[Model], Any], query: str, is_found: bool
) -> None:
    """A team has thousands of pull requests."""
    page = read(member_client, f"{url_of(PullRequest, 'changelist')}?{query}")

    assert (f"/{rows[PullRequest].pk}/change/" in page) == is_found


@pytest.mark.parametrize("model", OURS)
def test_queries_of_a_list_do_not_grow_with_its_rows(
    admin_client: Client, rows: dict[type[Model], Any], model: type[Model]
) -> None:
    """A hundred rows must not cause a hundred queries for their teams."""
    read(admin_client, url_of(model, "changelist"))
    with CaptureQueriesContext(
        connection,
    ) as few:
        read(admin_client, url_of(model, "changelist"))
    make_rows("more")

    with CaptureQueriesContext(connection) as many:
        read(admin_client, url_of(model, "changelist"))

    assert len(many) == len(few)


@pytest.mark.parametrize("name", ["django_rq:home", "django_rq:home_json"])
def test_queues_are_for_superusers(
    client: Client, admin_client: Client, name: str, redis: Redis
) -> None:
    """The jobs name the pull requests of all teams."""
    url = reverse(name)

    assert admin_client.get(url).status_code == 200
    assert client.get(url).headers["Location"].startswith(reverse("admin:login"))
    client.force_login(factories.UserFactory())
    assert client.get(url).status_code == 403


def test_menu_shows_queues_to_superusers_only(
    client: Client, admin_client: Client, db: None
) -> None:
    """A menu entry that leads to a refusal looks broken."""
    client.force_login(factories.UserFactory())

    assert reverse("django_rq:home") in read(admin_client, reverse("admin:index"))
    assert reverse("django_rq:home") not in read(client, reverse("admin:index"))


def test_address_alone_leads_to_the_login(client: Client, db: None) -> None:
    """Users need to remember no other address, and no page is public."""
    response = client.get("/", follow=True)

    assert response.redirect_chain[-1][0].startswith(reverse("admin:login"))


def test_user_who_is_not_staff_sees_nothing(client: Client, rows: dict[type[Model], Any]) -> None:
    """Host projects have users who are not team members."""
    user = factories.UserFactory(is_staff=False)
    rows[Team].members.add(user)
    client.force_login(user)

    assert client.get(url_of(PullRequest, "changelist")).status_code == 302


def test_api_token_is_shown_once(admin_client: Client, rows: dict[type[Model], Any]) -> None:
    """The user who creates the token copies it; later pages do not show it."""
    data = {"team": rows[Team].pk, "name": "weekly report"}

    response = admin_client.post(url_of(models.ApiToken, "add"), data, follow=True)

    assert "no-store" in response.headers["Cache-Control"]
    shown = re.findall(r"msync_[\w-]{43}", response.content.decode())
    row = models.ApiToken.objects.get(name="weekly report")
    assert [models.ApiToken.objects.of(token).get() for token in shown] == [row]
    for page in (url_of(models.ApiToken, "changelist"), url_of(models.ApiToken, "change", row.pk)):
        assert shown[0] not in read(admin_client, page)
        assert row.token_hash not in read(admin_client, page)


@pytest.mark.parametrize("button", ["_save", "_continue", "_addanother"])
def test_api_token_is_kept_nowhere(
    admin_client: Client, rows: dict[type[Model], Any], settings: Settings, button: str
) -> None:
    """Cookies and sessions must not hold it, whatever a host project does with messages."""
    settings.MESSAGE_STORAGE = "django.contrib.messages.storage.fallback.FallbackStorage"
    data = {"team": rows[Team].pk, "name": "weekly report", button: "1"}

    page = admin_client.post(url_of(models.ApiToken, "add"), data).content.decode()

    [token] = re.findall(r"msync_[\w-]{43}", page)
    assert token not in admin_client.cookies.output()
    assert token not in str(dict(admin_client.session.items()))
    assert token not in str(
        list(LogEntry.objects.values()) + list(models.AuditEntry.objects.values())
    )


def test_renaming_an_api_token_keeps_its_secret(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """A corrected name must not lock out the program that uses the token."""
    row = rows[models.ApiToken]

    admin_client.post(url_of(models.ApiToken, "change", row.pk), {"name": "better"})

    assert models.ApiToken.objects.of(row.token).get().name == "better"


def test_member_revokes_api_tokens_of_own_teams_only(
    member_client: Client,
    member: User,
    rows: dict[type[Model], Any],
    foreign_rows: dict[type[Model], Any],
) -> None:
    """The members of a team can end a leaked token with one click."""
    allow(member, "change_apitoken")
    mine, foreign = rows[models.ApiToken], foreign_rows[models.ApiToken]
    data = {"action": "revoke", "_selected_action": [mine.pk, foreign.pk]}

    member_client.post(url_of(models.ApiToken, "changelist"), data)

    states = {row.pk: row.state for row in models.ApiToken.objects.all()}
    assert states == {mine.pk: "revoked", foreign.pk: "usable"}
    assert (f"user {member} (id {member.pk})", "revoked") in read_log()


# Who changed what.


def read_log() -> list[tuple[str, str]]:
    entries = models.AuditEntry.objects.exclude(subject__startswith="integration forge")
    return list(entries.order_by("pk").values_list("actor", "change"))


def test_new_token_is_in_the_audit_log_without_the_token(
    admin_client: Client, admin_user: User, credential: IntegrationCredential
) -> None:
    """The log says who stored the token, and its readers must not be able to use it."""
    url = url_of(IntegrationCredential, "change", credential.pk)

    admin_client.post(url, {"secret": "ghp_new"})

    actor = f"user {admin_user} (id {admin_user.pk})"
    assert read_log() == [(actor, "new access token stored")]
    page = read(admin_client, url_of(models.AuditEntry, "changelist"))
    assert "new access token stored" in page
    assert "ghp_" not in page


def test_members_are_in_the_audit_log(
    admin_client: Client, rows: dict[type[Model], Any], member: User
) -> None:
    """A new member sees all data of the team."""
    data = {"name": "Team forge", "slug": "forge", "members": [member.pk]}
    second = factories.UserFactory(username="zoe")

    admin_client.post(
        url_of(Team, "change", rows[Team].pk), {**data, "members": [member.pk, second.pk]}
    )

    [(_, change)] = read_log()
    assert change == f"members: {member} → {member}, zoe"


def test_new_credential_is_in_the_audit_log_with_its_api_root(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """The API root says which host gets the token."""
    data = {
        "team": rows[Team].pk,
        "api_url": "https://ghe.acme.example/api/v3",
        "secret": "ghp_new",
    }

    admin_client.post(url_of(IntegrationCredential, "add"), data)

    [(_, change)] = read_log()
    assert change.startswith("made; ")
    assert "api_url: none → https://ghe.acme.example/api/v3" in change
    assert "new access token stored" in change
    assert "ghp_new" not in change


@pytest.mark.parametrize("way", ["button", "action"])
def test_deletion_is_in_the_audit_log(
    admin_client: Client, rows: dict[type[Model], Any], way: str
) -> None:
    """Nobody can look at a deleted row any more."""
    pk = rows[TrackedRepository].pk
    if way == "button":
        admin_client.post(url_of(TrackedRepository, "delete", pk), {"post": "yes"})
    else:
        data = {"action": "delete_selected", "_selected_action": [pk], "post": "yes"}
        admin_client.post(url_of(TrackedRepository, "changelist"), data)

    assert not TrackedRepository.objects.exists()
    assert [change for _, change in read_log()] == ["deleted"]


def test_audit_log_is_deleted_by_nobody(admin_client: Client, rows: dict[type[Model], Any]) -> None:
    """Users whom the log mentions must not be able to delete it either."""
    entry = rows[models.AuditEntry]

    assert admin_client.get(url_of(models.AuditEntry, "delete", entry.pk)).status_code == 403
    rows[Team].delete()
    entry.refresh_from_db()
    assert (entry.team, entry.subject) == (None, "integration forge")


# Doors through which a token could leave.


def test_api_root_of_an_integration_stays(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """A changed root would send the stored token to any host."""
    integration = rows[GitHubIntegration]
    data = {
        "credential": integration.credential_id,
        "organization_slug": "b",
        "api_url": "https://evil.example",
    }

    response = admin_client.post(url_of(GitHubIntegration, "change", integration.pk), data)

    assert response.status_code == 302
    assert GitHubIntegration.objects.get().api_url == ""


@pytest.mark.parametrize(
    ("api_url", "message"),
    [
        pytest.param("http://evil.example", "https://", id="in the open"),
        pytest.param("https://169.254.169.254/", "this machine", id="metadata service"),
        pytest.param("https://localhost:9200/", "this machine", id="this machine"),
    ],
)
def test_credential_for_an_internal_address_is_refused(
    admin_client: Client, rows: dict[type[Model], Any], api_url: str, message: str
) -> None:
    """The service would send the token to a host in its own network."""
    data = {"team": rows[Team].pk, "api_url": api_url, "secret": "ghp_new"}

    page = admin_client.post(url_of(IntegrationCredential, "add"), data).content.decode()

    assert message in page
    assert IntegrationCredential.objects.count() == 1


def test_new_integration_takes_the_api_root_of_its_token(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """A user who may add integrations must not learn tokens by naming another host."""
    credential = factories.IntegrationCredentialFactory(
        team=rows[Team], api_url="https://ghe.acme.example/api/v3"
    )
    data = {
        "team": rows[Team].pk,
        "credential": credential.pk,
        "organization_slug": "new",
        "api_url": "https://evil.example",
        "secret": "webhook-secret",
    }

    admin_client.post(url_of(GitHubIntegration, "add"), data)

    assert GitHubIntegration.objects.get(organization_slug="new").api_url == credential.api_url


def test_no_sequence_of_changes_moves_a_token_to_another_root(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """Once, swapping in a spare credential let another integration send the token elsewhere."""
    integration, stored = rows[GitHubIntegration], rows[IntegrationCredential]
    spare = factories.IntegrationCredentialFactory(team=rows[Team])
    evil = factories.GitHubIntegrationFactory(team=rows[Team], api_url="https://evil.example")
    pages = []
    for row, credential in ((integration, spare), (evil, stored)):
        data = {"credential": credential.pk, "organization_slug": row.organization_slug}
        answer = admin_client.post(url_of(GitHubIntegration, "change", row.pk), data)
        pages.append(answer.content.decode())
    data = {"api_url": "https://evil.example", "secret": ""}
    admin_client.post(url_of(IntegrationCredential, "change", stored.pk), data)

    stored.refresh_from_db()
    assert "another API root" in pages[1]
    assert (list(stored.integrations.all()), stored.api_url) == ([], "")


def test_form_names_a_duplicate(admin_client: Client, rows: dict[type[Model], Any]) -> None:
    """Only the database once checked what is unique in a team, and the page answered 500."""
    integration = rows[GitHubIntegration]
    factories.GitHubIntegrationFactory(
        team=rows[Team], credential=integration.credential, organization_slug="taken"
    )
    data = {"credential": integration.credential_id, "organization_slug": "taken"}

    answer = admin_client.post(url_of(GitHubIntegration, "change", integration.pk), data)

    assert "already exists" in answer.content.decode()


def test_no_form_changes_the_installation(
    admin_client: Client, credential: IntegrationCredential
) -> None:
    """Another id would open the repositories of another organisation."""
    data = {"kind": "app", "installation_id": "6", "account_id": "6", "secret": "ghp_new"}

    admin_client.post(url_of(IntegrationCredential, "change", credential.pk), data)

    credential.refresh_from_db()
    assert (credential.kind, credential.installation_id, credential.account_id) == (
        "token",
        None,
        None,
    )


def test_form_refuses_a_token_for_an_app(
    admin_client: Client, credential: IntegrationCredential
) -> None:
    """The App's own token would overwrite it within an hour."""
    IntegrationCredential.objects.update(kind="app")

    url = url_of(IntegrationCredential, "change", credential.pk)
    page = admin_client.post(url, {"secret": "ghp_new"}).content.decode()

    assert "renewed by itself" in page


@pytest.mark.parametrize(
    ("values", "is_refused"),
    [
        pytest.param({}, False, id="switched off"),
        pytest.param({"full_name": "forge/secret"}, True, id="another name"),
        pytest.param({"github_repo_id": "7"}, True, id="another id"),
    ],
)
def test_form_only_deactivates_repositories_of_an_app(
    admin_client: Client, rows: dict[type[Model], Any], values: dict[str, str], is_refused: bool
) -> None:
    """The App's token reads the whole account, but the team may be entitled to one repository."""
    IntegrationCredential.objects.update(kind="app")
    repository = rows[TrackedRepository]
    data = {
        "integration": repository.integration_id,
        "full_name": repository.full_name,
        "github_repo_id": repository.github_repo_id,
    }

    url = url_of(TrackedRepository, "change", repository.pk)
    response = admin_client.post(url, {**data, **values})

    repository.refresh_from_db()
    assert repository.full_name == "forge/anvil"
    assert (repository.is_active, response.status_code == 200) == (is_refused, is_refused)


def test_form_adds_no_repository_to_an_installation(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """The App's token reads the whole account, but the team may be entitled to one repository."""
    IntegrationCredential.objects.update(kind="app")
    integration = rows[GitHubIntegration]
    data = {"team": integration.team_id, "integration": integration.pk, "full_name": "forge/new"}

    page = admin_client.post(url_of(TrackedRepository, "add"), data).content.decode()

    assert "connect --app" in page
    assert TrackedRepository.objects.count() == 1


def test_repository_may_be_pasted_into_the_form(
    admin_client: Client, rows: dict[type[Model], Any]
) -> None:
    """People copy the address of a page."""
    integration = rows[GitHubIntegration]
    pasted = " https://github.com/forge/new/pull/7 "
    data = {"team": integration.team_id, "integration": integration.pk, "full_name": pasted}

    admin_client.post(url_of(TrackedRepository, "add"), data)

    assert TrackedRepository.objects.filter(full_name="forge/new").exists()


def test_members_cannot_track_any_repository(
    member_client: Client, member: User, rows: dict[type[Model], Any]
) -> None:
    """The shared webhook sends a repository's deliveries to every team that tracks it."""
    allow(member, "add_trackedrepository", "change_trackedrepository")
    repository = rows[TrackedRepository]
    url = url_of(TrackedRepository, "change", repository.pk)

    added = member_client.get(url_of(TrackedRepository, "add")).status_code
    member_client.post(url, {"full_name": "vault/secrets", "is_active": ""})

    name = repository.full_name
    repository.refresh_from_db()
    assert (added, repository.full_name, repository.is_active) == (403, name, False)


def list_pull_requests(client: Client, query: str = "") -> list[PullRequest]:
    response = client.get(url_of(PullRequest, "changelist") + query)
    return list(response.context["cl"].result_list)


def test_list_begins_with_the_newest_merge(admin_client: Client) -> None:
    """PostgreSQL sorts NULL first, so the list once began with open pull requests."""
    still_open = factories.PullRequestFactory()
    older = factories.PullRequestFactory(merged=True)
    newer = factories.PullRequestFactory(
        merged=True, merged_at=factories.MERGED_AT + timedelta(hours=1)
    )

    assert list_pull_requests(admin_client) == [newer, older, still_open]
    assert list_pull_requests(admin_client, "?state__exact=open") == [still_open]


@pytest.mark.parametrize("direction", ["", "-"], ids=["upwards", "downwards"])
@pytest.mark.parametrize("title", ["First review after", "Size", "Complete after"])
def test_unknown_values_come_last(admin_client: Client, title: str, direction: str) -> None:
    """A user who sorts a column looks for values, not for a screen of dashes."""
    unknown, *known = (factories.PullRequestFactory(merged=True) for _ in range(3))
    for number, row in enumerate(known, start=1):
        PullRequest.objects.filter(pk=row.pk).update(
            review_wait_hours=number,
            additions=number,
            deletions=number,
            completed_at=row.merged_at + timedelta(seconds=number),
        )
    response = admin_client.get(url_of(PullRequest, "changelist"))
    headers = [header["text"].capitalize() for header in result_headers(response.context["cl"])]
    column = headers.index(title)

    rows = list_pull_requests(admin_client, f"?o={direction}{column}")

    hours = [row.review_wait_hours for row in rows]
    assert hours == ([1, 2, None] if direction == "" else [2, 1, None])
    assert rows[-1] == unknown


@pytest.mark.parametrize("model", OURS)
def test_no_default_order_begins_with_null(model: type[Model]) -> None:
    """PostgreSQL and SQLite sort NULL at opposite ends."""
    for item in model._meta.ordering:
        if isinstance(item, str) and item.startswith("-") and item != "-pk":
            assert not model._meta.get_field(item[1:]).null


def test_page_of_a_pull_request_speaks_to_readers(admin_client: Client) -> None:
    """The page once showed names of columns, dates in three styles, and hours as decimals."""
    row = factories.PullRequestFactory(
        merged=True, pr_created_at=factories.MERGED_AT, avg_fix_response_hours="1.50"
    )

    page = read(admin_client, url_of(PullRequest, "change", row.pk))

    for text in ("Requested changes answered in", "90 min", "Opened at", "2026-03-02 12:00"):
        assert text in page
    for text in ("Avg fix response", "Pr created at", "March 2, 2026", "Acme/anvil"):
        assert text not in page
