"""The app's URLs. The pages and the API each need an extra of the package."""

from importlib.util import find_spec

from django.apps import apps
from django.urls import URLPattern, URLResolver, include, path
from django.views.decorators.http import require_GET
from django.views.generic import RedirectView

from metrics_sync.ingest import views
from metrics_sync.operate import probes

app_name = "metrics_sync"
urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", probes.healthz, name="healthz"),
    path("readyz", probes.readyz, name="readyz"),
    path("metrics", probes.metrics, name="metrics"),
    path("webhooks/github/", views.receive_shared_delivery, name="webhook"),
    path(
        "webhooks/github/<uuid:uuid>/",
        views.receive_integration_delivery,
        name="webhook-integration",
    ),
]

if apps.is_installed("django.contrib.admin") and apps.is_installed("unfold"):
    from metrics_sync.admin import files, live, reviewers, waiting

    urlpatterns += [
        path("", require_GET(RedirectView.as_view(pattern_name="admin:index")), name="home"),
        path("dashboard/live/", live.show_dashboard, name="dashboard-live"),
        path("dashboard/reconcile/", live.reconcile, name="dashboard-reconcile"),
        path("dashboard/compare.csv", files.send_comparison, name="compare-csv"),
        path("dashboard/trend.csv", files.send_trend, name="trend-csv"),
        path("waiting/", waiting.show_waiting, name="waiting"),
        path("reviewers/", reviewers.show_reviewers, name="reviewers"),
        path("pull-requests/<int:pk>/live/", live.show_pull_request, name="pull-request-live"),
    ]

if find_spec("ninja"):
    from metrics_sync import api

    urlpatterns.append(path("api/v1/", include((api.urlpatterns, "api"))))
