"""The admin: the pages of operators and teams."""

from django.apps import apps

# Without the theme, of which the pages are made, the admin of a host project is left as it is.
if apps.is_installed("unfold"):
    from metrics_sync.admin import (  # noqa: F401
        audit_log,
        child_lists,
        digests,
        goals,
        issuing,
        logs,
        members,
        owned,
        pull_request_pages,
    )
    from metrics_sync.admin.dashboard import add_dashboard_context
    from metrics_sync.admin.scoping import may_see_queues

    __all__ = ["add_dashboard_context", "may_see_queues"]
