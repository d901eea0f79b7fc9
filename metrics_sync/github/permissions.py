"""Finds out what a token may not read, before a pull request needs it."""

from metrics_sync.exceptions import (
    CredentialRejectedError,
    GitHubError,
    PermissionMissingError,
    RateLimitedError,
)
from metrics_sync.github.client import GitHub

#: Without these nothing of worth comes.
NEEDED = ("pull_requests", "issues")
#: What is not there without the others. A fine-grained token cannot be given `checks`:
#: https://github.com/github/rest-api-description/issues/4290
OPTIONAL = {
    "checks": "check runs are not read, and pull requests that have some stay partial",
    "contents": "of more than 250 commits only the first 250 are had",
    "statuses": "statuses of CI that knows no check runs are missing",
}


async def list_missing_permissions(github: GitHub, full_name: str) -> dict[str, str]:
    """Ask for one item of each kind; return the kinds that the token may not read, and why.

    The names are those of GitHub's permissions. What is not there, as in a repository without
    a commit, is no permission that is missing. Raises CredentialRejectedError or
    RateLimitedError.
    https://docs.github.com/en/rest/authentication/permissions-required-for-fine-grained-personal-access-tokens
    """
    api = github.api
    operations = {
        "pull_requests": (api.pulls.list,),
        "issues": (api.issues.list_comments_for_repo,),
        "contents": (api.repos.list_commits,),
        "checks": (api.checks.list_for_ref, "HEAD"),
        "statuses": (api.repos.get_combined_status_for_ref, "HEAD"),
    }
    missing = {}
    for name, (operation, *rest) in operations.items():
        try:
            await github.call(operation, *full_name.split("/"), *rest, per_page=1)
        except PermissionMissingError as error:
            missing[name] = str(error)
        except (CredentialRejectedError, RateLimitedError):
            raise
        except GitHubError:
            # 404, 409 and 422 are what a repository without a commit answers.
            continue
    return missing
