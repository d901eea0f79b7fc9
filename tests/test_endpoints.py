"""The few names that the metrics use for GitHub's addresses."""

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
def test_name_has_the_endpoint_without_the_repository(path: str, name: str) -> None:
    """A series for each repository would grow without end, and reveal who works on what."""
    assert name_endpoint(f"https://api.example{path}") == name
