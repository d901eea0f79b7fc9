"""The read-only JSON API: one team's numbers, for programs that send its token."""

import logging
from collections.abc import Callable
from functools import wraps

from django.apps import apps
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, re_path
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI, Swagger
from ninja.errors import HttpError, ValidationError

from metrics_sync.api import pull_request_endpoints, repository_endpoints, summary_endpoint
from metrics_sync.api.authentication import MissingTokenError, TeamToken

__all__ = ["api", "urlpatterns"]

logger = logging.getLogger(__name__)

api = NinjaAPI(
    title="metrics_sync",
    version="1",
    urls_namespace="metrics_sync:api",
    description=(
        "One team's merged pull requests and their metrics. Read-only. Unknown is null, never 0; "
        "times are in UTC, hours have two decimals. docs/metrics.md explains each metric."
    ),
    auth=TeamToken(),
    # Without the app `ninja` the page would load its scripts from another host.
    docs_url="/docs" if apps.is_installed("ninja") else None,
    # Swagger UI would send the address of the document to a validator at another host, and put
    # links into buttons, where no keyboard finds them.
    docs=Swagger(settings={"validatorUrl": None, "deepLinking": False}),
)
# A proxy's cache would also answer clients without a token, or with the token of another team.
api.add_decorator(never_cache, mode="view")
api.add_router("/summary", summary_endpoint.router)
api.add_router("/repositories", repository_endpoints.router)
api.add_router("/pull-requests", pull_request_endpoints.router)


@api.exception_handler(MissingTokenError)
def refuse_token(request: HttpRequest, error: MissingTokenError) -> HttpResponse:
    """Say what is wrong with the token, in the header too.

    https://datatracker.ietf.org/doc/html/rfc6750#section-3
    """
    answer = _answer(request, 401, str(error))
    answer["WWW-Authenticate"] = error.challenge
    return answer


@api.exception_handler(ValidationError)
def refuse_parameters(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Name each parameter that is wrong, and why."""
    reasons = [f"{reason['loc'][-1]}: {reason['msg']}" for reason in error.errors]
    return _answer(request, 422, "; ".join(reasons))


@api.exception_handler(HttpError)
def refuse(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _answer(request, error.status_code, str(error))


@api.exception_handler(OperationalError)
@api.exception_handler(InterfaceError)
def refuse_for_now(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer 503, so that the program tries again: the database is down or too slow."""
    logger.error("The API cannot be answered: %s", error)
    return _answer(request, 503, "The database does not answer; try again.")


def _answer(request: HttpRequest, status: int, message: str) -> HttpResponse:
    return api.create_response(request, {"message": message}, status=status)


View = Callable[..., HttpResponse]


def _answer_in_json(view: View) -> View:
    """Answer an unknown path or method in JSON, as other errors; ninja itself uses plain text."""

    @wraps(view)
    def answer(request: HttpRequest, *args: object, **names: object) -> HttpResponse:
        try:
            response = view(request, *args, **names)
        except Http404:
            return _answer(request, 404, f"There is nothing at {request.path}.")
        if response.status_code != 405:
            return response
        allowed = response["Allow"]
        refusal = _answer(request, 405, f"{request.method} is not allowed here, only {allowed}.")
        refusal["Allow"] = allowed
        return refusal

    return answer


@csrf_exempt
def _find_nothing(request: HttpRequest) -> HttpResponse:
    raise Http404


urlpatterns = [
    *(
        URLPattern(page.pattern, _answer_in_json(page.callback), page.default_args, page.name)
        for page in api.urls[0]
        if isinstance(page, URLPattern)
    ),
    re_path("", _answer_in_json(_find_nothing)),
]
