"""What may stand where a repository's name becomes part of an address."""

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
    """`.github` is a repository that many have."""
    assert RepositoryName(name) == name


@pytest.mark.parametrize("name", BAD)
def test_everything_else_is_none(name: object) -> None:
    """It would be asked for with the team's token."""
    with pytest.raises(ValueError, match="OWNER/NAME"):
        RepositoryName(name)


def test_name_in_an_answer_is_looked_at() -> None:
    """What a proxy or a server of somebody else answers goes into rows, too."""
    with pytest.raises(ValueError, match="OWNER/NAME"):
        read_repository({"id": 1, "full_name": "../user"})


def test_pull_request_is_not_moved_to_what_is_no_name() -> None:
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
    """Whatever writes, a script or a bulk statement, passes this door."""
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
    """It may be a token in the wrong place."""
    with pytest.raises(ValueError, match=r"^Write the repository as OWNER/NAME, or paste its"):
        read_address(pasted)
