"""`manage.py export`: metrics and provenance, for spreadsheets and warehouses."""

import csv
import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from metrics_sync.models import PullRequest
from tests.factories import MERGED_AT, PullRequestFactory, TeamFactory


def add(**values: Any) -> PullRequest:
    row = PullRequestFactory(merged=True)
    PullRequest.objects.filter(pk=row.pk).update(**values)
    return PullRequest.objects.get(pk=row.pk)


def export(
    capsys: pytest.CaptureFixture[str], *arguments: str, form: str = "jsonl"
) -> list[dict[str, Any]]:
    call_command("export", "--format", form, *arguments)
    text = capsys.readouterr().out
    if form == "csv":
        return list(csv.DictReader(io.StringIO(text)))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.django_db
def test_record_says_what_is_known_and_how(capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown is null, and each record has its provenance."""
    known = {"provenance": {"missing": ["events"]}, "disagreeing": ["reviews"]}
    row = add(review_rounds=2, avg_fix_response_hours="1.25", **known)

    [record] = export(capsys)

    assert (record["team"], record["github_repo"]) == (row.team.slug, row.github_repo)
    assert record["merged_at"] == "2026-03-02T12:00:00Z"
    assert (record["review_rounds"], record["avg_fix_response_hours"]) == (2, 1.25)
    assert (record["ready_at"], record["provenance"]) == (None, {"missing": ["events"]})
    assert (record["truncated"], record["disagreeing"]) == ([], ["reviews"])


@pytest.mark.django_db
def test_csv_has_the_same_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Spreadsheets read a header, empty cells and JSON in a cell."""
    add(review_rounds=2, provenance={"missing": []})

    [record] = export(capsys, form="csv")

    assert list(record) == list(export(capsys)[0])
    assert (record["review_rounds"], record["ready_at"]) == ("2", "")
    assert json.loads(record["provenance"]) == {"missing": []}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "title",
    [
        "=HYPERLINK(1)", "+1", "-1", "@cell",
        # Full-width and small signs, which spreadsheets read as the usual ones.
        "\uff1d1", "\uff0b1", "\uff0d1", "\uff20cell", "\ufe661",
        # Behind what spreadsheets skip, or take for the end of a cell.
        "\n=1", "\r=1", "\t=1", " =1", "\u00a0=1", "\u200b=1", "\ufeff\uff1d1", "\ttext", "\ntext",
    ],
)  # fmt: skip
def test_title_is_no_formula(capsys: pytest.CaptureFixture[str], title: str) -> None:
    """Anybody can open a pull request, and a team lead opens the spreadsheet."""
    add(title=title)

    [record] = export(capsys, form="csv")

    assert record["title"] == f"'{title}"


@pytest.mark.django_db
@pytest.mark.parametrize("title", ["Make it heavier", "a = b", "", " ", "²", "\u20131"])
def test_other_titles_stay_as_they_are(capsys: pytest.CaptureFixture[str], title: str) -> None:
    """A quote before every title would disturb readers."""
    add(title=title)

    [record] = export(capsys, form="csv")

    assert record["title"] == title


@pytest.mark.django_db
def test_scope_narrows_the_export(capsys: pytest.CaptureFixture[str]) -> None:
    """A team's export holds no other team's rows."""
    team = TeamFactory()
    mine = add(team=team, merged_at=MERGED_AT)
    add(merged_at=MERGED_AT)
    add(team=team, merged_at="2025-01-01T00:00:00Z")

    records = export(capsys, "--team", team.slug, "--since", "2026-01-01")

    assert [record["github_pr_number"] for record in records] == [mine.github_pr_number]


@pytest.mark.django_db
def test_oldest_merge_comes_first_in_a_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """The stream needs one query and constant memory; a second query counts the rest."""
    for day in (3, 1, 2):
        add(merged_at=f"2026-03-0{day}T00:00:00Z")

    with CaptureQueriesContext(connection) as queries:
        records = export(capsys)

    assert [record["merged_at"][9] for record in records] == ["1", "2", "3"]
    assert len([query for query in queries if "SELECT" in query["sql"]]) == 2


@pytest.mark.django_db
def test_pull_requests_by_bots_are_left_out_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bots merge within minutes, and would be half of many spreadsheets."""
    add(is_by_bot=True, title="Bump")
    add(title="Think")

    call_command("export", "--format", "jsonl")

    told = capsys.readouterr()
    assert [json.loads(line)["title"] for line in told.out.splitlines()] == ["Think"]
    assert told.err == "Left out pull requests by bots: 1. Add --with-bots to include them.\n"
    assert [record["is_by_bot"] for record in export(capsys, "--with-bots")] == [True, False]


@pytest.mark.django_db
def test_unknown_team_is_wrong_usage() -> None:
    """An empty file would look like a team without merges."""
    with pytest.raises(CommandError, match="no team 'nobody'"):
        call_command("export", "--format", "csv", "--team", "nobody")
