"""Addresses: the app's own, the admin, and django-rq's dashboard."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("metrics_sync.urls")),
    path("admin/", admin.site.urls),
    path("django-rq/", include("django_rq.urls")),
]
