"""Writes what each webhook event tells, to the rows of the teams that it concerns."""

from collections.abc import Callable

from django.db.models import QuerySet

from metrics_sync.models import (
    GitHubIntegration,
    PullRequest,
    Team,
    TrackedRepository,
)
from metrics_sync.models.pull_request import PullRequestQuerySet
from metrics_sync.snapshot import read_pull_request, read_review
from metrics_sync.store.auditing import record_change
from metrics_sync.store.installations import save_installation, save_installation_repositories
from metrics_sync.store.snapshots import save_pull_request, save_review
from metrics_sync.webhooks import Delivery

#: Reviews whose webhook says what they are; `edited` comes without a state that can be trusted.
REVIEW_ACTIONS = {"submitted", "dismissed"}


def save_event(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Write what an event tells; False when there is nothing here to be done with it.

    `integration` is None for the shared endpoint. Safe to repeat, and in any order. Raises what
    reading and writing a payload raises that is not what its event says, and
    UnlinkedInstallationError.
    """
    handler = HANDLERS.get(delivery.event)
    return handler is not None and handler(delivery, integration)


def _list_repositories(
    delivery: Delivery, integration: GitHubIntegration | None
) -> QuerySet[TrackedRepository]:
    """Return the tracked repositories that the delivery may speak of, by GitHub's id or name."""
    # Another GitHub has other repositories under the same names and ids.
    rows = TrackedRepository.objects.filter(
        integration__api_url=integration.api_url if integration else ""
    )
    if integration is not None:
        rows = rows.filter(team=integration.team_id)
    of_name = rows.named(delivery.github_repo)
    repository_id = delivery.payload["repository"].get("id")
    return of_name | rows.filter(github_repo_id=repository_id) if repository_id else of_name


def _list_teams(delivery: Delivery, integration: GitHubIntegration | None) -> QuerySet[Team]:
    """Return the teams whose rows the delivery may write.

    At the shared endpoint these are all that track the repository at GITHUB_API_URL: who connected
    it has shown that the team's token reads it, and members cannot add one by hand.
    """
    if integration is not None:
        return Team.objects.filter(pk=integration.team_id)
    repositories = TrackedRepository.objects.filter(integration__api_url="")
    repositories = repositories.named(delivery.github_repo)
    return Team.objects.filter(pk__in=repositories.values("team"))


def _list_merged(delivery: Delivery, integration: GitHubIntegration | None) -> PullRequestQuerySet:
    rows = PullRequest.objects.merged().filter(team__in=_list_teams(delivery, integration))
    return rows.in_repositories([delivery.github_repo])


def _save_pull_request(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    if not delivery.github_repo:
        raise ValueError("repository.full_name is missing")
    item = read_pull_request(delivery.payload["pull_request"], github_repo=delivery.github_repo)
    teams = _list_teams(delivery, integration)
    for team in teams:
        save_pull_request(team, item)
    return bool(teams)


def _save_review(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Write the review at once: only its webhook says what it is before it is dismissed."""
    handled = _save_pull_request(delivery, integration)
    rows = PullRequest.objects.in_repositories([delivery.github_repo]).filter(
        team__in=_list_teams(delivery, integration),
        github_pr_id=delivery.payload["pull_request"]["id"],
    )
    if delivery.action in REVIEW_ACTIONS:
        review = read_review(delivery.payload["review"])
        for row in rows:
            save_review(row, review)
    rows.merged().note_news()
    return handled


def _note_review_comment(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    number = delivery.payload["pull_request"]["number"]
    return _list_merged(delivery, integration).filter(github_pr_number=number).note_news()


def _note_issue_comment(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Note a comment in the conversation; issues that are no pull requests have no such row."""
    number = delivery.payload["issue"]["number"]
    return _list_merged(delivery, integration).filter(github_pr_number=number).note_news()


def _note_check_run(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Note a check of the head; for forks GitHub does not say whose head it is."""
    head_sha = delivery.payload["check_run"]["head_sha"]
    return _list_merged(delivery, integration).filter(head_sha=head_sha).note_news()


def _note_status(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Note a legacy status of the head: that of an older CI."""
    head_sha = delivery.payload["sha"]
    return _list_merged(delivery, integration).filter(head_sha=head_sha).note_news()


def _save_repository(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Follow a repository to its new name, and track one no more that is deleted.

    An archived one can still be read, so it stays.
    """
    if not delivery.github_repo:
        raise ValueError("it names no repository")
    repositories = list(_list_repositories(delivery, integration))
    for repository in repositories:
        if delivery.action in {"renamed", "transferred"}:
            change = f"{delivery.action}: from {repository} to {delivery.github_repo}"
            repository.rename(delivery.github_repo)
        elif delivery.action == "deleted":
            change = f"tracked no more: {repository} is deleted at GitHub"
            repository.deactivate()
        else:
            return False
        actor = f"webhook delivery {delivery.guid}"
        record_change(actor=actor, subject=repository, change=change)
    return bool(repositories)


HANDLERS: dict[str, Callable[[Delivery, GitHubIntegration | None], bool]] = {
    "pull_request": _save_pull_request,
    "pull_request_review": _save_review,
    "pull_request_review_comment": _note_review_comment,
    "issue_comment": _note_issue_comment,
    "check_run": _note_check_run,
    "status": _note_status,
    "repository": _save_repository,
    "installation": save_installation,
    "installation_repositories": save_installation_repositories,
}
