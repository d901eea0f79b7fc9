"""Addresses of the app."""

from django.urls import include, path

from metrics_sync import views
from metrics_sync.admin import live
from metrics_sync.api import api

app_name = "metrics_sync"
urlpatterns = [
    path("", views.home, name="home"),
    path("dashboard/live/", live.show_news, name="dashboard-live"),
    path("dashboard/reconcile/", live.reconcile, name="dashboard-reconcile"),
    path("pull-requests/<int:pk>/live/", live.show_pull_request, name="pull-request-live"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("api/v1/", include((api.urls[0], "api"))),
    path("metrics", views.metrics, name="metrics"),
    path("webhooks/github/", views.receive_shared_delivery, name="webhook"),
    path(
        "webhooks/github/<uuid:uuid>/",
        views.receive_integration_delivery,
        name="webhook-integration",
    ),
]
