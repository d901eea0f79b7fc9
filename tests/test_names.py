"""What may stand where a repository's name becomes part of an address."""

import pytest
from django.db import IntegrityError, transaction

from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.names import RepositoryName
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
