"""Addresses: the app's own, the admin, and django-rq's dashboard."""

from typing import Any

from csp.constants import UNSAFE_INLINE
from csp.decorators import csp_update
from django.contrib import admin
from django.contrib.auth.decorators import user_passes_test
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.templatetags.static import static
from django.urls import URLPattern, include, path
from django.views.decorators.cache import never_cache
from django.views.generic import RedirectView
from django_rq.urls import urlpatterns as queue_pages

from project.faults import show_not_found


def _is_superuser(user: Any) -> bool:
    """Whether the user may see the queues of all teams; others who signed in are refused."""
    if user.is_authenticated and not user.is_superuser:
        raise PermissionDenied
    return bool(user.is_superuser)


def _for_superusers(page: URLPattern) -> URLPattern:
    # django-rq itself lets in all staff, and has scripts inside its pages.
    view = never_cache(user_passes_test(_is_superuser)(page.callback))
    view = csp_update({"script-src": [UNSAFE_INLINE]})(view)
    return URLPattern(page.pattern, view, page.default_args, page.name)


handler403 = "project.faults.show_forbidden"
handler404 = "project.faults.show_not_found"
handler500 = "project.faults.show_fault"
urlpatterns = [
    # Browsers request this file if a page names no icon.
    path("favicon.ico", RedirectView.as_view(url=static("project/icon.svg"))),
    path("", include("metrics_sync.urls")),
    # The theme's search, which our pages do not offer, fails if `page` is not a number.
    path("admin/search/", show_not_found, {"exception": Http404()}),
    path("admin/", admin.site.urls),
    path("django-rq/", include(([_for_superusers(page) for page in queue_pages], "django_rq"))),
]
