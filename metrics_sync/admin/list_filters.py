"""The filters of the list of pull requests, which refuse a value that does not fit."""

from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import DropdownFilter

from metrics_sync.admin.definitions import DEFINITIONS
from metrics_sync.admin.drill_down import BACK
from metrics_sync.admin.figures import CLASS_NAMES
from metrics_sync.admin.scoping import keep_visible, list_teams
from metrics_sync.dashboard.narrowing import (
    BY_PEOPLE,
    KNOWN,
    LATE,
    METRIC_NAMES,
    WITH_REVIEW,
    WITHIN,
    WITHOUT_REVIEW,
    is_answered_by,
    is_known,
    is_reviewed_by,
    keep_times,
    list_people,
)
from metrics_sync.exceptions import BadInputError
from metrics_sync.models import PullRequest, TeamMember, TrackedRepository

Rows = QuerySet[PullRequest]
#: The parameter of lists of what belongs to a pull request.
PULL_REQUEST = "pull_request"
#: What no id at GitHub reaches: the first number that the database cannot compare one with.
MOST_ID = 2**63


class RepositoryFilter(DropdownFilter):
    """Offers tracked repositories: to list the names of all pull requests would read them all."""

    title = "repository"
    parameter_name = "repository"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = keep_visible(TrackedRepository.objects.all(), request)
        names = rows.order_by("full_name").values_list("full_name", flat=True).distinct()
        return [(name, name) for name in names]

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        name = self.value()
        if not name:
            return queryset
        named = PullRequest.objects.in_repositories([name])
        offered = {offer.lower() for offer, _ in self.lookup_choices}
        if name.lower() not in offered and not keep_visible(named, request).exists():
            raise BadInputError(f"None of your pull requests is of the repository “{name}”.")
        return queryset.filter(pk__in=named)


class ConditionFilter(DropdownFilter):
    """Offers conditions, each under its value in the address and a name."""

    conditions: ClassVar[dict[str, tuple[str, Q]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, name) for value, (name, _) in self.conditions.items()]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        value = self.value()
        if not value:
            return queryset
        if value not in self.conditions:
            raise BadInputError(f"The filter “{self.title}” has no choice “{value}”.")
        return queryset.filter(self.conditions[value][1])


class BotsFilter(ConditionFilter):
    title = "author is a bot"
    parameter_name = "bots"
    conditions: ClassVar = {"without": ("no", BY_PEOPLE), "only": ("yes", ~BY_PEOPLE)}


class ReviewFilter(ConditionFilter):
    title = "review before the merge"
    parameter_name = "review"
    conditions: ClassVar = {"with": ("with", WITH_REVIEW), "without": ("without", WITHOUT_REVIEW)}


class AddressFilter(SimpleListFilter):
    """A filter that only addresses name, and that a chip above the list takes away."""

    template = "metrics_sync/address_filter.html"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return bool(self.value())

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield {"name": self.parameter_name, "value": self.value()}

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return self.narrow(queryset, self.value() or "")

    def narrow(self, rows: Rows, value: str) -> Rows:
        raise NotImplementedError

    def describe(self) -> str:
        """Say what the filter keeps; empty for no chip."""
        return f"{self.title}: {self.value()}"


class AuthorFilter(AddressFilter):
    title = "author"
    parameter_name = "author"

    def narrow(self, rows: Rows, value: str) -> Rows:
        return rows.filter(author_login=value)


class ReviewerFilter(AddressFilter):
    """Keeps merges with a counted review by one account, where it is no bot of the team.

    It is named by GitHub's id, or by its login, which addresses from before had.
    """

    title = "reviewed by"
    parameter_name = "reviewer"
    login = ""

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        key = self.value() or ""
        if not key:
            return queryset
        account = _find_account(keep_visible(TeamMember.objects.all(), request), key)
        if account is None:
            raise BadInputError(f"You know no reviewer with the id or login “{key}”.")
        self.login = account.login
        people = list_people(list_teams(request), account.github_id)
        return self.keep_reviewed(queryset, people)

    def keep_reviewed(self, rows: Rows, people: list[int]) -> Rows:
        return rows.filter(is_reviewed_by(people))

    def describe(self) -> str:
        return f"{self.title}: {self.login}"


class AnswerFilter(ReviewerFilter):
    """Keeps the merges of a reviewer whose first review is an answer, as *Reviewers* counts it."""

    title = "answered by"
    parameter_name = "answered_by"

    def keep_reviewed(self, rows: Rows, people: list[int]) -> Rows:
        return rows.filter(is_answered_by(people))


def _find_account(known: QuerySet[TeamMember], key: str) -> TeamMember | None:
    """Return the newest row of an account; a login of digits alone is taken for an id first."""
    newest = known.order_by("-pk")
    fits = key.isdecimal() and int(key) < MOST_ID
    by_id = newest.filter(github_id=int(key)).first() if fits else None
    return by_id or newest.filter(login__iexact=key).first()


class KnownFilter(AddressFilter):
    title = "known"
    parameter_name = "known"

    def narrow(self, rows: Rows, value: str) -> Rows:
        if value not in METRIC_NAMES:
            raise BadInputError(f"There is no metric “{value}”.")
        return rows.filter(is_known(value))

    def describe(self) -> str:
        return f"{DEFINITIONS[str(self.value())].title} known, the largest first"


class TookFilter(AddressFilter):
    title = "time to complete"
    parameter_name = "took"

    def narrow(self, rows: Rows, value: str) -> Rows:
        try:
            return keep_times(rows, value, timezone.now())
        except KeyError as error:
            raise BadInputError(f"There is no class “{value}” of times to complete.") from error

    def describe(self) -> str:
        value = str(self.value())
        if value == KNOWN:
            return "time to complete known, the longest first"
        if value.startswith(WITHIN):
            return f"complete within {value.removeprefix(WITHIN)} seconds"
        if value.startswith(LATE):
            return f"not complete within {value.removeprefix(LATE)} seconds"
        return f"time to complete: {CLASS_NAMES[int(value)]}"


class PullRequestFilter(AddressFilter):
    """Keeps what belongs to one pull request."""

    title = "of"
    parameter_name = PULL_REQUEST
    row: PullRequest | None = None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        key = self.value() or ""
        mine = keep_visible(PullRequest.objects.only("github_repo", "github_pr_number"), request)
        self.row = mine.filter(pk=key).first() if key.isdecimal() else None
        if self.row is None:
            raise BadInputError(f"You have no pull request with the key “{key}”.")
        return queryset.filter(pull_request=self.row)

    def describe(self) -> str:
        return f"of {self.row}"


class WayBack(AddressFilter):
    """Narrows nothing: it keeps in the address which dashboard the list was reached from."""

    title = "dashboard"
    parameter_name = BACK

    def narrow(self, rows: Rows, value: str) -> Rows:
        return rows

    def describe(self) -> str:
        return ""
