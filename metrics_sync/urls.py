"""Addresses of the app."""

from django.urls import include, path
from django.views.decorators.http import require_GET
from django.views.generic import RedirectView

from metrics_sync.admin import live
from metrics_sync.api import api
from metrics_sync.ingest import views
from metrics_sync.operate import probes

app_name = "metrics_sync"
urlpatterns = [
    path("", require_GET(RedirectView.as_view(pattern_name="admin:index")), name="home"),
    path("dashboard/live/", live.show_news, name="dashboard-live"),
    path("dashboard/reconcile/", live.reconcile, name="dashboard-reconcile"),
    path("pull-requests/<int:pk>/live/", live.show_pull_request, name="pull-request-live"),
    path("healthz", probes.healthz, name="healthz"),
    path("readyz", probes.readyz, name="readyz"),
    path("api/v1/", include((api.urls[0], "api"))),
    path("metrics", probes.metrics, name="metrics"),
    path("webhooks/github/", views.receive_shared_delivery, name="webhook"),
    path(
        "webhooks/github/<uuid:uuid>/",
        views.receive_integration_delivery,
        name="webhook-integration",
    ),
]
