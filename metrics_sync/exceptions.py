"""Every error this app raises on purpose, named for what the caller can do about it."""

from datetime import datetime
from typing import Self


class MetricsSyncError(Exception):
    """The base of them all; its text is fit to be shown to an operator."""


class DecryptionError(MetricsSyncError):
    """A stored secret was not encrypted with any key of TOKEN_ENCRYPTION_KEYS."""


class InvalidSignatureError(MetricsSyncError):
    """A delivery is not signed with the secret of its endpoint: answer 401, write nothing."""


class MalformedDeliveryError(MetricsSyncError):
    """A signed delivery cannot be read as the event that it claims to be: answer 400."""


class UnsupportedContentTypeError(MetricsSyncError):
    """A delivery is neither JSON nor a form: answer 415."""


class UnlinkedInstallationError(MetricsSyncError):
    """A delivery names an installation that no operator linked to a team: ignore it."""


class UnsafeAddressError(MetricsSyncError):
    """An API root must not be asked: the operator must correct it."""


class QueueUnavailableError(MetricsSyncError):
    """Redis does not answer: nothing was queued, the row is as it was before."""


class RefusedByDatabaseError(MetricsSyncError):
    """The database does not accept a value: its list stays as it was; a person must look at it."""


class GitHubError(MetricsSyncError):
    """GitHub did not give what was asked for; the subclasses say what to do next."""


class RetrySoonError(GitHubError):
    """A passing fault (5xx, timeout, reset, unreadable body, lists that do not add up)."""


class NameReusedError(RetrySoonError):
    """The name is another repository's now: GitHub is asked for the right one's, then again."""


class DisagreementError(RetrySoonError):
    """A list is not as long as GitHub states, or lacks an item that another list names."""


class RateLimitedError(GitHubError):
    """GitHub asks us to wait; nothing may be sent for this token before `until`."""

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class BudgetSpentError(RateLimitedError):
    """The same, before GitHub refuses: by its last statement, too few requests are left."""

    @classmethod
    def of(cls, until: datetime, *, is_reserve_left: bool = False) -> Self:
        """Make one with a text; `is_reserve_left` for bulk work, which leaves the reserve."""
        what = "the rate limit is used up"
        if is_reserve_left:
            what = "only the reserve for merges is left"
        return cls(f"{what} until {until:%Y-%m-%d %H:%M} UTC", until=until)


class SecondaryLimitError(RateLimitedError):
    """The same, because we asked too much at once rather than too much in an hour."""


class AppUnavailableError(GitHubError):
    """GitHub does not accept us as the App: the operator must correct its id, key or the clock."""


class CredentialRejectedError(GitHubError):
    """GitHub does not accept the token (401): a new one must be stored."""


class PermissionMissingError(GitHubError):
    """The token may not read this (403); the message names the permission that is missing."""


class GoneError(GitHubError):
    """GitHub has no such thing, or not for this token (404, 410, 451)."""


class NumberReusedError(GoneError):
    """GitHub has another pull request under this number: the right one must be found by its id."""


class AmbiguousTeamError(MetricsSyncError):
    """It is not clear which team's repository is meant; the message says how to name the team."""


class NarrowTokenError(MetricsSyncError):
    """A new token cannot read repositories that would depend on it; nothing was stored."""


class BadInputError(MetricsSyncError):
    """What a user of the admin typed or sent is not valid: say so, and show the list."""
