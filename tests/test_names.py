"""Which names of repositories may become part of an address."""

import pytest
from django.db import IntegrityError, transaction

from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.names import RepositoryName, read_address
from metrics_sync.snapshot import read_pull_request, read_repository
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

GOOD = ["acme/anvil", "acme/.github", "a-b_c/D.e_f-1", "acme/..."]
BAD = [
    *("../user", "a b/c", "no-slash", "acme/..", "acme/.", "/anvil", "acme/", "acme/anvil/pulls"),
    *("acme/anvil\n", ".acme/anvil", "acme/anvil?x=1", "acme/änvil", "acme/%2e%2e", "", None, 7),
    "a" * 200 + "/" + "b" * 100,
]


@pytest.mark.parametrize("name", GOOD)
def test_names_that_github_gives_are_names(name: str) -> None:
    """Many accounts have a repository called `.github`."""
    assert RepositoryName(name) == name


@pytest.mark.parametrize("name", BAD)
def test_everything_else_is_refused(name: object) -> None:
    """Otherwise it would be requested with the team's token."""
    with pytest.raises(ValueError, match="OWNER/NAME"):
        RepositoryName(name)


def test_name_in_an_answer_is_checked() -> None:
    """Rows store what a proxy or another server answers, too."""
    with pytest.raises(ValueError, match="OWNER/NAME"):
        read_repository({"id": 1, "full_name": "../user"})


def test_pull_request_is_not_moved_to_a_malformed_name() -> None:
    """A redirected answer names the repository that its rows follow."""
    value = {
        "id": 5,
        "number": 7,
        "state": "open",
        "base": {"repo": {"id": 1, "full_name": "../user"}},
    }

    assert read_pull_request(value, github_repo="acme/anvil").base_repo == ""


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["../user", "a b/c", "no-slash", "acme/..", "acme/anvil\n"])
def test_database_takes_no_other_name(name: str) -> None:
    """The constraint also covers scripts and bulk statements."""
    repository = TrackedRepositoryFactory(full_name="acme/anvil")
    row = PullRequestFactory(team=repository.team, github_repo="acme/anvil")

    with pytest.raises(IntegrityError), transaction.atomic():
        TrackedRepository.objects.update(full_name=name)
    with pytest.raises(IntegrityError), transaction.atomic():
        PullRequest.objects.filter(pk=row.pk).update(github_repo=name)


@pytest.mark.parametrize(
    ("pasted", "number", "host"),
    [
        ("acme/anvil", None, ""),
        ("  acme/anvil\n", None, ""),
        ("acme/anvil/", None, ""),
        ("acme/anvil.git", None, ""),
        ("acme/anvil#7", 7, ""),
        ("acme/anvil/pull/7", 7, ""),
        ("github.com/acme/anvil", None, "github.com"),
        ("https://GitHub.com/acme/anvil", None, "github.com"),
        ("https://github.com/acme/anvil?tab=readme", None, "github.com"),
        ("https://github.com/acme/anvil#readme", None, "github.com"),
        ("https://github.com/acme/anvil/tree/main/docs", None, "github.com"),
        ("https://github.com/acme/anvil/pull/7/files#r1", 7, "github.com"),
        ("https://github.com/acme/anvil/pulls", None, "github.com"),
        ("https://api.github.com/repos/acme/anvil/pulls/7", 7, "api.github.com"),
        ("https://ghe.acme.com/api/v3/repos/acme/anvil", None, "ghe.acme.com"),
        ("https://x:ghp_secret@github.com/acme/anvil.git", None, "github.com"),
        ("git@github.com:acme/anvil.git", None, "github.com"),
        ("ssh://git@github.com:22/acme/anvil.git", None, "github.com"),
    ],
)
def test_pasted_address_names_the_repository(pasted: str, number: int | None, host: str) -> None:
    """People paste what the browser or Git shows."""
    assert read_address(pasted) == ("acme/anvil", number, host)


@pytest.mark.parametrize(
    "pasted",
    [
        *("acme", "", "acme/..", "acme/anvil/hammer", "acme/anvil#readme", "a b/c", "ghp_secret"),
        *("https://github.com/acme", "https://github.com/../..", "acme.com/anvil"),
    ],
)
def test_what_is_no_repository_is_refused_and_not_repeated(pasted: str) -> None:
    """The text may be a token in the wrong place."""
    with pytest.raises(ValueError, match=r"^Write the repository as OWNER/NAME, or paste its"):
        read_address(pasted)
