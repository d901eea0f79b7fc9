"""The worker process: it builds what is slow to build once, before it forks for each job."""

from typing import Any

from django.conf import settings
from rq import Worker

from metrics_sync.github import prepare_api
from metrics_sync.models import GitHubIntegration


class FetchWorker(Worker):
    """An RQ worker that has the GitHub client ready before the first job."""

    def work(self, *args: Any, **options: Any) -> bool:
        roots = {integration.get_api_root() for integration in _list_integrations()}
        for api_url in {settings.GITHUB_API_URL, *roots}:
            prepare_api(api_url)
        return super().work(*args, **options)


def _list_integrations() -> Any:
    return GitHubIntegration.objects.only("api_url")
