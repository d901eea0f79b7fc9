"""The list of pull requests as a file for spreadsheets."""

import csv
from io import StringIO

from django.test import Client
from django.urls import reverse

from tests.factories import PullRequestFactory, TeamFactory, UserFactory

URL = reverse("admin:metrics_sync_pullrequest_csv")


def read(client: Client, query: str = "") -> list[dict[str, str]]:
    response = client.get(f"{URL}{query}")
    assert response.status_code == 200
    text = b"".join(response.streaming_content).decode()  # type: ignore[arg-type]
    return list(csv.DictReader(StringIO(text)))


def test_file_has_the_rows_of_the_list(admin_client: Client, db: None) -> None:
    """Under its filters, on all of its pages and in its order."""
    for number in range(60):
        PullRequestFactory(merged=True, github_pr_number=number + 1, cycle_time_hours=number)
    PullRequestFactory(github_pr_number=100)
    PullRequestFactory(merged=True, title="Other")

    rows = read(admin_client, "?state__exact=merged&q=heavier&known=cycle_time_hours")

    assert [row["github_pr_number"] for row in rows] == [str(n) for n in range(60, 0, -1)]
    assert rows[0]["merged_at"] == "2026-03-02T12:00:00+00:00"


def test_file_has_rows_of_own_teams_only(client: Client, db: None) -> None:
    """Whatever the address names."""
    mine, theirs = PullRequestFactory(), PullRequestFactory(team=TeamFactory())
    mine.team.members.add(user := UserFactory())
    client.force_login(user)

    assert [row["team"] for row in read(client)] == [mine.team.slug]
    refused = client.get(f"{URL}?team__id__exact={theirs.team.pk}")
    assert refused.status_code == 400
    assert "has no choice" in refused.content.decode()


def test_file_is_for_who_is_signed_in(client: Client, db: None) -> None:
    """Its address alone gives nothing away."""
    assert client.get(URL).status_code == 302


def test_no_title_is_a_formula(admin_client: Client, db: None) -> None:
    """Anybody may open a pull request; a spreadsheet computes what begins so."""
    PullRequestFactory(title="=HYPERLINK(1)", author_login="@mona")

    [row] = read(admin_client)

    assert (row["title"], row["author_login"]) == ("'=HYPERLINK(1)", "'@mona")
