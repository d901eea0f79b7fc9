"""The updates of open pages, and the button that reconciles."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from metrics_sync.admin.dashboard import build_content, read_current
from metrics_sync.admin.header import build_header
from metrics_sync.admin.scoping import keep_visible
from metrics_sync.admin.selecting import SelectionForm
from metrics_sync.dashboard import IN_TROUBLE, UNDER_WAY, Selection
from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.heal.finding import Reason, Scope, find_dropped
from metrics_sync.heal.reconcile import Report, choose, requeue
from metrics_sync.models import PullRequest

#: One request must not run for minutes; the button can be pressed again for the rest.
RECONCILED_AT_ONCE = 500


@never_cache
@require_GET
def show_dashboard(request: HttpRequest) -> HttpResponse:
    """Answer with the content of the dashboard; 204 when the page shows it already (`seen`)."""
    if not admin.site.has_permission(request):
        return _reload()
    form = SelectionForm(request)
    current = read_current(request, form)
    if request.GET.get("seen") == current.fingerprint:
        return HttpResponse(status=204)
    context = build_content(request, form, current)
    return render(request, "metrics_sync/dashboard_content.html", context)


@never_cache
@require_GET
def show_pull_request(request: HttpRequest, pk: int) -> HttpResponse:
    """Answer with the status of a pull request being fetched; 204 when the page shows it (`seen`).

    After the fetch the whole page is loaded again: its lists and metrics may have changed.
    """
    if not admin.site.has_permission(request):
        return _reload()
    row = get_object_or_404(_find_pull_requests(request), pk=pk)
    if row.sync_status not in UNDER_WAY:
        return _reload()
    if request.GET.get("seen") == row.sync_status:
        return HttpResponse(status=204)
    return render(request, "metrics_sync/pull_request_header.html", build_header(row))


def _find_pull_requests(request: HttpRequest) -> QuerySet[PullRequest]:
    return keep_visible(PullRequest.objects.select_related("team"), request)


def _reload() -> HttpResponse:
    # htmx reloads the page, which leads a user who is signed out to the login.
    return HttpResponse(headers={"HX-Refresh": "true"})


@admin.site.admin_view
@require_POST
def reconcile(request: HttpRequest) -> HttpResponse:
    """Queue the selected merges that failed or are partial, and report how many were queued."""
    form, report = SelectionForm(request), Report()
    if form.refusal:
        messages.error(request, form.refusal)
        return redirect(f"{reverse('admin:index')}?{request.GET.urlencode()}")
    try:
        _reconcile(form.select(), report)
    except QueueUnavailableError as error:
        report.errors.append(str(error))
    if report.requeued or not (report.skipped or report.errors):
        messages.success(request, f"Queued to be fetched again: {report.requeued}.")
    for reason, count in report.skipped.items():
        messages.warning(request, f"Not queued, {reason}: {count}.")
    for what_happened in report.errors:
        messages.error(request, what_happened)
    return redirect(f"{reverse('admin:index')}?{request.GET.urlencode()}")


def _reconcile(selection: Selection, report: Report) -> None:
    rows = selection.merges.filter(sync_status__in=IN_TROUBLE).order_by()
    for slug in rows.values_list("team__slug", flat=True).distinct():
        scope = Scope(
            team=slug,
            repositories=[selection.repository] if selection.repository else [],
            since=selection.span.since,
            until=selection.span.until,
            only=[Reason.FAILED, Reason.PARTIAL],
        )
        dropped = find_dropped(scope)
        # Finding a number takes a listing of the repository, which is too slow for a page.
        named = [row for row in dropped if row.pull_request.github_pr_number is not None]
        if len(named) < len(dropped):
            report.skipped["without a number yet, which the clock will find"] += len(dropped) - len(
                named
            )
        findings = choose(named, report, limit=RECONCILED_AT_ONCE - report.requeued)
        for _ in requeue(findings, report):
            pass
