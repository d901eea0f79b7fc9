"""The models that githubkit generates from GitHub's description, by operation."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from githubkit_schemas.v2022_11_28 import models
from pydantic import TypeAdapter

from tests.contract.describing import find_template

REPOSITORY = "/repos/{owner}/{repo}"
COMMIT = f"{REPOSITORY}/commits/{{ref}}"
PULL = f"{REPOSITORY}/pulls/{{pull_number}}"
ISSUE = f"{REPOSITORY}/issues/{{issue_number}}"
HOOK = f"{REPOSITORY}/hooks/{{hook_id}}"

#: What a successful answer of each operation is.
MODELS: dict[str, Any] = {
    "/user": models.PublicUser,
    "/rate_limit": models.RateLimitOverview,
    "/app/hook/deliveries": list[models.HookDeliveryItem],
    "/app/installations/{installation_id}": models.Installation,
    "/app/installations/{installation_id}/access_tokens": models.InstallationToken,
    "/installation/repositories": models.InstallationRepositoriesGetResponse200,
    "/orgs/{org}/installation": models.Installation,
    "/users/{username}/installation": models.Installation,
    REPOSITORY: models.FullRepository,
    f"{REPOSITORY}/installation": models.Installation,
    f"{REPOSITORY}/commits": list[models.Commit],
    f"{COMMIT}/check-runs": models.ReposOwnerRepoCommitsRefCheckRunsGetResponse200,
    f"{COMMIT}/status": models.CombinedCommitStatus,
    f"{REPOSITORY}/compare/{{basehead}}": models.CommitComparison,
    # The list, and the one that was created.
    f"{REPOSITORY}/hooks": list[models.Hook] | models.Hook,
    HOOK: models.Hook,
    f"{HOOK}/deliveries": list[models.HookDeliveryItem],
    f"{REPOSITORY}/issues/comments": list[models.IssueComment],
    f"{ISSUE}/comments": list[models.IssueComment],
    f"{REPOSITORY}/pulls": list[models.PullRequestSimple],
    PULL: models.PullRequest,
    f"{PULL}/comments": list[models.PullRequestReviewComment],
    f"{PULL}/commits": list[models.Commit],
    f"{PULL}/files": list[models.DiffEntry],
    f"{PULL}/reviews": list[models.PullRequestReview],
}

TIMELINE = f"{ISSUE}/timeline"
#: The description tells events of the timeline apart by their shape only; these we read.
EVENTS: dict[str, Any] = {
    "commented": models.TimelineCommentEvent,
    "committed": models.TimelineCommittedEvent,
    "reviewed": models.TimelineReviewedEvent,
    "review_dismissed": models.ReviewDismissedIssueEvent,
    "review_requested": models.ReviewRequestedIssueEvent,
    "review_request_removed": models.ReviewRequestRemovedIssueEvent,
}
#: `ready_for_review`, `convert_to_draft`, `head_ref_force_pushed` and all that only change a state.
ANY_EVENT = models.StateChangeIssueEvent

#: Operations that answer with an object without anything in it.
EMPTY = ("/attempts",)


def find_faults(path: str, body: Any, paths: Sequence[str]) -> str:
    """Say what of a successful answer is not as GitHub describes it; empty when it is.

    `paths` are those of the description. Raises KeyError for an operation without a model.
    """
    template = find_template(dict.fromkeys(paths), path) or path
    if template.endswith(EMPTY):
        return ""
    try:
        if template == TIMELINE:
            for event in body:
                _validate(EVENTS.get(event["event"], ANY_EVENT), event)
        else:
            _validate(MODELS[template], body)
    except ValueError as error:
        return f"{path}: {error}"
    return ""


def _validate(model: Any, body: Any) -> None:
    """Raise ValueError when JSON is not of the model; a number in quotes is no number."""
    _make_adapter(model).validate_json(json.dumps(body), strict=True)


@cache
def _make_adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)
