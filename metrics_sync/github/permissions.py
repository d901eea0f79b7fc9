"""Finds out what a token may not read, before a fetch needs it."""

from metrics_sync.exceptions import (
    CredentialRejectedError,
    GitHubError,
    PermissionMissingError,
    RateLimitedError,
)
from metrics_sync.github.client import GitHub

#: Without these nothing useful can be fetched. Comments and the timeline of a pull request need
#: either `issues` or `pull_requests`:
#: https://docs.github.com/en/rest/issues/timeline
NEEDED = ("pull_requests",)
#: What is missing without each of the others. No fine-grained token can be given `checks`, though
#: GitHub's pages name it: https://github.com/cli/cli/issues/8843
OPTIONAL = {
    "checks": "check runs are not read; an App or a classic token can be allowed to, "
    "a fine-grained token cannot",
    "contents": "of more than 250 commits only the first 250 are read",
    "statuses": "results of CI that reports no check runs are missing",
}


async def list_missing_permissions(github: GitHub, full_name: str) -> dict[str, str]:
    """Ask for one item of each kind; return the kinds that the token may not read, and why.

    The names are those of GitHub's permissions. A thing that does not exist, as in a repository
    without a commit, is no missing permission. Raises CredentialRejectedError or RateLimitedError.
    https://docs.github.com/en/rest/authentication/permissions-required-for-fine-grained-personal-access-tokens
    """
    api = github.api
    operations = {
        "pull_requests": (api.pulls.list,),
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
