"""Leads from a figure to the list of the pull requests behind it, and back.

The filters of the list mean what the selection of the dashboard means; they are named above the
list as chips, and each can be taken away on its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.views.main import PAGE_VAR
from django.http import HttpRequest, QueryDict
from django.urls import reverse
from django.utils.dateparse import parse_datetime

from metrics_sync.admin.labels import show_moment
from metrics_sync.models import Team

#: The parameter that has the query of the dashboard's address.
BACK = "back"
FROM, BEFORE = "merged_at__gte", "merged_at__lt"
TEAM, STATE, STATUS = "team__id__exact", "state__exact", "sync_status__exact"
#: The narrowing whose name in the address is another one.
_PARAMETERS = {"state": STATE, "sync_status": STATUS}
_NARROWING = {
    "answered_by", "author", "known", "review", "reviewer", "state", "sync_status", "took",
}  # fmt: skip


def link_to_list(
    *,
    team: Team | None = None,
    repository: str = "",
    merged_from: datetime | None = None,
    merged_before: datetime | None = None,
    bots: str = "",
    back: str = "",
    **narrowing: Any,
) -> str:
    """Return the address of the list of the pull requests behind a figure.

    They are merged, unless `state` says otherwise, since `merged_from` and before `merged_before`,
    both with a time zone. `bots` is empty for all authors, as completeness is counted, `without`
    for figures of reviews, or `only`. `back` is the query of the dashboard's address, to which the
    list leads back. Any of these narrows further:

    - `author`: a login, as GitHub writes it
    - `reviewer`: the id of an account at GitHub, which a renamed one keeps
    - `answered_by`: the same, for those whose first review by that account is an answer
    - `known`: a metric, whose value is known and counts; the largest come first
    - `took`: times to complete: the place of a class in the chart, of which the last is "not yet";
      `within-` or `late-` with a promised time in seconds; or `known`, of which the longest come
      first
    - `review="without"`: merged without a review, or `"with"`
    - `sync_status`, `state`: one of their values
    """
    chosen = {
        STATE: "merged",
        TEAM: team.pk if team else "",
        "repository": repository,
        FROM: merged_from.isoformat() if merged_from else "",
        BEFORE: merged_before.isoformat() if merged_before else "",
        "bots": bots,
        BACK: back,
        **_name_parameters(narrowing),
    }
    query = {name: value for name, value in chosen.items() if value not in {"", None}}
    return f"{reverse('admin:metrics_sync_pullrequest_changelist')}?{urlencode(query)}"


def narrow(url: str, **narrowing: Any) -> str:
    """Narrow the address of a list further; in a long table that is cheaper than to make each."""
    return f"{url}&{urlencode(_name_parameters(narrowing))}"


def _name_parameters(narrowing: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the address. Raises TypeError for a narrowing that is unknown."""
    if unknown := narrowing.keys() - _NARROWING:
        raise TypeError(f"A list of pull requests is not narrowed by {min(unknown)}.")
    return {_PARAMETERS.get(name, name): value for name, value in narrowing.items()}


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is in force, in words, and the address of the list without it."""

    text: str
    url: str


def list_chips(changelist: Any) -> Iterator[Chip]:
    """Yield a chip for each filter of a list that is in force."""
    for spec in changelist.filter_specs:
        names = [name for name in spec.used_parameters if changelist.params.get(name) is not None]
        if names and (text := _describe(spec, changelist)):
            yield Chip(text, _without(changelist, names))
    for names, text in _describe_days(changelist.params):
        yield Chip(text, _without(changelist, names))


def find_way_back(request: HttpRequest) -> str:
    """Return the address of the dashboard that the list was reached from; empty without one."""
    query = QueryDict(request.GET.get(BACK, ""), mutable=True)
    query.pop("seen", None)
    return f"{reverse('admin:index')}?{query.urlencode()}" if query else ""


def _without(changelist: Any, names: list[str]) -> str:
    query: str = changelist.get_query_string(remove=[*names, PAGE_VAR])
    return query


def _describe(spec: Any, changelist: Any) -> str:
    """Say what a filter keeps, as it offers it; a value that it takes and does not offer, as is."""
    if hasattr(spec, "describe"):
        text: str = spec.describe()
        return text
    chosen = [str(text) for text in _list_selected(spec, changelist)] or _list_values(spec)
    return f"{spec.title}: {', '.join(chosen)}" if any(chosen) else ""


def _list_selected(spec: Any, changelist: Any) -> Iterator[Any]:
    """Yield the texts of the selected choices: links, or the options of a form."""
    for choice in spec.choices(changelist):
        if "form" in choice:
            form = choice["form"]
            for name, field in form.fields.items():
                value = form.data.get(name) or ""
                yield from (text for key, text in field.choices if key and str(key) == str(value))
        elif choice["selected"]:
            yield choice["display"]


def _list_values(spec: Any) -> list[str]:
    """Return the values that a filter found in the address, which has several of some."""
    values = spec.used_parameters.values()
    return [str(one) for value in values for one in (value if isinstance(value, list) else [value])]


def _describe_days(params: dict[str, Any]) -> Iterator[tuple[list[str], str]]:
    for name, word in ((FROM, "since"), (BEFORE, "before")):
        if value := params.get(name):
            yield [name], f"merged {word} {_show_limit(str(value))}"
    parts = [name for name in _DAY_PARTS if params.get(name)]
    if parts:
        yield parts, f"merged in {'-'.join(f'{int(params[name]):02}' for name in parts)}"


_DAY_PARTS = ("merged_at__year", "merged_at__month", "merged_at__day")


def _show_limit(value: str) -> str:
    moment = parse_datetime(value)
    if moment is None or moment.tzinfo is None:
        return value
    moment = moment.astimezone(UTC)
    if moment.time() == time():
        return f"{moment:%Y-%m-%d}"
    return f"{show_moment(moment)} UTC"
