"""Addresses of the app."""

from django.urls import include, path

from metrics_sync import views
from metrics_sync.api import api

app_name = "metrics_sync"
urlpatterns = [
    path("", views.home, name="home"),
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
