"""Finds, or makes, the row of a pull request that somebody names by hand."""

import os
from functools import partial

from django.conf import settings

from metrics_sync.access import Access
from metrics_sync.exceptions import AmbiguousTeamError
from metrics_sync.github import fetch_pull_request
from metrics_sync.models import PullRequest, Team, TrackedRepository

#: Whose rows pull requests of untracked repositories become.
LOCAL_TEAM = "local"


def find_access(full_name: str, *, team_slug: str = "") -> tuple[Team, Access]:
    """Return the team and the access for a repository.

    Without a tracked repository: the team `local`, made if needed, with GITHUB_TOKEN or no
    token. Raises AmbiguousTeamError when several teams track it, or the named one does not;
    DecryptionError when its token cannot be read.
    """
    repositories = TrackedRepository.objects.active().named(full_name)
    if team_slug:
        repositories = repositories.filter(team__slug=team_slug)
    repositories = repositories.select_related("team", "integration__credential")
    secrets = ("integration__webhook_secret", "integration__credential__access_token")
    found = list(repositories.defer(*secrets)[:2])
    if len(found) > 1:
        raise AmbiguousTeamError(f"Several teams track {full_name}; say which with --team.")
    if found:
        return found[0].team, Access.of(found[0], is_bulk=False)
    if team_slug and team_slug != LOCAL_TEAM:
        raise AmbiguousTeamError(
            f"The team {team_slug} does not track {full_name}; `manage.py connect` adds it."
        )
    team, _ = Team.objects.get_or_create(slug=LOCAL_TEAM, defaults={"name": "Local"})
    token = os.environ.get("GITHUB_TOKEN", "").strip()
    return team, Access(api_url=settings.GITHUB_API_URL, token=token)


def get_pull_request(
    team: Team, access: Access, full_name: str, number: int
) -> tuple[PullRequest, int]:
    """Return the team's row, and how many requests it took to find it.

    GitHub is asked, once, for the id of one that we do not have.

    A new row is bare until it is fetched, and written past the signal: the caller is about to
    fetch it. Raises GitHubError when GitHub does not have it either.
    """
    rows = PullRequest.objects.filter(team=team).in_repositories([full_name])
    row, requests_made = rows.filter(github_pr_number=number).first(), 0
    if row is None:
        question = partial(fetch_pull_request, full_name=full_name, number=number)
        item, requests_made = access.ask(question), 1
        new = PullRequest(
            team=team,
            github_repo=full_name,
            github_pr_id=item.github_pr_id,
            github_pr_number=number,
            title=item.title,
        )
        PullRequest.objects.bulk_create(
            [new],
            update_conflicts=True,
            unique_fields=["team", "github_repo", "github_pr_id"],
            update_fields=["github_pr_number"],
        )
        row = rows.get(github_pr_number=number)
    return row, requests_made
