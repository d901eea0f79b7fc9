"""The few names that all of GitHub's addresses have in the metrics."""

import pytest

from metrics_sync.github.endpoints import name_endpoint


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/repos/acme/anvil", "repository"),
        ("/repos/acme/anvil/pulls/7/commits?per_page=100&page=2", "repository/pulls/*/commits"),
        ("/repositories/42/pulls/7/commits?page=2", "repository/pulls/*/commits"),
        ("/repos/pulls/files/commits/main/check-runs", "repository/commits/*/check-runs"),
        ("/repos/acme/anvil/compare/a/b...c/d", "repository/compare/*/*/*"),
        ("/api/v3/repos/acme/anvil/pulls", "repository/pulls"),
        ("/rate_limit", "rate_limit"),
        ("/api/graphql", "graphql"),
        ("/app/installations/77/access_tokens", "app/installations/*/access_tokens"),
        ("/somewhere/else", "other"),
    ],
)
def test_name_says_what_was_asked_and_not_of_whom(path: str, name: str) -> None:
    """A series for each repository would be without end, and would tell who works on what."""
    assert name_endpoint(f"https://api.example{path}") == name
