"""Sign-in: logs every attempt, and locks out a user who fails too often."""

import ipaddress
import logging
from typing import Any

from axes.signals import user_locked_out
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core.exceptions import ValidationError
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from unfold.forms import AuthenticationForm

logger = logging.getLogger(__name__)


def find_client_address(request: HttpRequest) -> str | None:
    """Return the address of the client; None if the server does not know it.

    `X-Forwarded-For` is used only if it comes from a proxy of TRUSTED_PROXIES, and is read from its
    end: the client may have written everything before the first address that is not such a proxy.
    """
    hops = [
        *request.headers.get("X-Forwarded-For", "").split(","),
        request.META.get("REMOTE_ADDR", ""),
    ]
    found = None
    for hop in reversed(hops):
        try:
            address = ipaddress.ip_address(hop.strip())
        except ValueError:
            break
        found = str(address)
        if not any(address in network for network in settings.TRUSTED_PROXIES):
            break
    return found


def find_client_network(request: HttpRequest) -> str | None:
    """Return the address under which failures are counted: with IPv6 the /64 of one machine."""
    address = find_client_address(request)
    if address is None or ":" not in address:
        return address
    return str(ipaddress.IPv6Network(f"{address}/64", strict=False).network_address)


def show_lockout(
    request: HttpRequest, _original: HttpResponse | None = None, _credentials: Any = None
) -> HttpResponse:
    """Answer 429 with the time to wait and the way out."""
    context = {
        **admin.site.each_context(request),
        "title": "Sign-in is locked",
        "minutes": int(settings.AXES_COOLOFF_TIME.total_seconds() // 60),
    }
    answer = render(request, "project/locked_out.html", context, status=429)
    answer["Retry-After"] = str(int(settings.AXES_COOLOFF_TIME.total_seconds()))
    answer["Cache-Control"] = "no-store"
    return answer


class SignInForm(AuthenticationForm):  # type: ignore[misc]  # the theme has no types
    """Tells a wrong password from an account that has no access."""

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": "The username or the password is wrong. Both are case-sensitive.",
        "no_access": "This account has no access to these pages. Ask an administrator to give it"
        " staff status.",
    }

    def confirm_login_allowed(self, user: Any) -> None:
        """Refuse a user who is not staff. Raises ValidationError."""
        if not user.is_staff:
            raise ValidationError(self.error_messages["no_access"], code="no_access")
        super().confirm_login_allowed(user)


@receiver(user_login_failed)
def log_failure(credentials: dict[str, Any], request: HttpRequest | None, **_: Any) -> None:
    # With %r, because a name may contain line breaks.
    address = find_client_address(request) if request else None
    logger.warning("Sign-in as %r from %s failed", credentials.get("username"), address)


@receiver(user_locked_out)
def log_lockout(request: HttpRequest, username: str, **_: Any) -> None:
    address = find_client_address(request)
    logger.warning("Sign-in as %r from %s is locked", username, address)


@receiver(user_logged_in)
def log_success(request: HttpRequest, user: Any, **_: Any) -> None:
    logger.info("%r signed in from %s", user.get_username(), find_client_address(request))
