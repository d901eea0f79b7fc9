"""A row of each model for one team, so that two teams can be told apart on every page."""

from typing import Any

from django.db.models import Model

from tests import factories


def make_rows(word: str) -> dict[type[Model], Any]:
    """Make a row of each model for one team, each with the word in what people read of it."""
    team = factories.TeamFactory(name=f"Team {word}", slug=word)
    repository = factories.TrackedRepositoryFactory(
        team=team,
        full_name=f"{word}/anvil",
        integration__organization_slug=word,
        integration__credential__access_token=f"ghp_{word}",
        integration__webhook_secret=f"hook_{word}",
    )
    pull_request = factories.PullRequestFactory(
        merged=True, team=team, github_repo=f"{word}/anvil", title=f"Forge {word}"
    )
    mine = {"pull_request": pull_request}
    rows = [
        team, repository, repository.integration, repository.integration.credential, pull_request,
        factories.TeamMemberFactory(team=team, login=f"{word}-mona"),
        factories.ApiTokenFactory(team=team, name=f"charts {word}"),
        factories.CommitFactory(message=f"Heat {word}", **mine),
        factories.PRFileFactory(filename=f"{word}.py", **mine),
        factories.PRCheckRunFactory(name=f"test {word}", **mine),
        factories.PRCommentFactory(body=f"Why {word}?", **mine),
        factories.PRReviewFactory(body=f"Not {word}!", **mine),
        factories.PRTimelineEventFactory(actor_login=f"{word}-mona", **mine),
        factories.PRCommitStatusFactory(context=f"ci/{word}", **mine),
        factories.FetchRunFactory(errors=[f"files: {word} is gone"], **mine),
        factories.WebhookDeliveryFactory(team=team, github_repo=f"{word}/anvil"),
        factories.TeamGoalFactory(team=team),
        factories.WeeklyDigestFactory(team=team, user__username=f"{word}-lead"),
        factories.AuditEntryFactory(team=team, subject=f"integration {word}"),
    ]  # fmt: skip
    return {type(row): row for row in rows}
