"""What is answered when a view fails."""

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.defaults import server_error


def show_fault(request: HttpRequest) -> HttpResponse:
    """Answer what no view caught: 503 when it is the database's, so that people try again."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return JsonResponse({"message": "The database does not answer; try again."}, status=503)
    return server_error(request)
