"""The error pages: 403, 404, and 500 or 503."""

import sys

from django.contrib import admin
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.defaults import server_error


def show_fault(request: HttpRequest) -> HttpResponse:
    """Answer an uncaught error with 500; one of the database with 503, so that people try again."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return JsonResponse({"message": "The database does not answer; try again."}, status=503)
    return server_error(request)


def show_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404, also for the rows of other teams."""
    text = "There is nothing at this address. It may have been deleted, or belong to another team."
    return _refuse(request, 404, "Page not found", text)


def show_forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403 to a signed-in user without the permission."""
    text = "Your account may not see this page. Ask an administrator, or sign in as somebody else."
    return _refuse(request, 403, "No access", text)


def _refuse(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": title, "text": text}
    return render(request, "project/refusal.html", context, status=status)
