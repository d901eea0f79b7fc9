"""Looks things up in an OpenAPI description; pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.contract.watching import ITEM, split

Schema = Mapping[str, Any]

COMBINED = ("allOf", "anyOf", "oneOf")


def find_template(paths: Mapping[str, Any], path: str) -> str | None:
    """Return the description's path that an address is of, e.g. `/repos/{owner}/{repo}`.

    Of several the one with the fewest variables. Addresses by id (`/repositories/7/pulls`), to
    which GitHub itself leads in redirects and `Link`, are those of the repository's name.
    """
    path = re.sub(r"^/repositories/\d+", "/repos/owner/name", path)
    fitting = [template for template in paths if _make_pattern(template).fullmatch(path)]
    return min(fitting, key=lambda template: template.count("{"), default=None)


def _make_pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]+\})", template)
    return re.compile("".join("[^/]+" if p.startswith("{") else re.escape(p) for p in parts))


def reduce_parameters(description: Schema, operation: Schema) -> dict[str, Any]:
    """Return the query parameters of an operation, each with what values it takes."""
    found = (resolve(description, item) for item in operation.get("parameters", []))
    return {
        item["name"]: _describe(description, [item.get("schema", {})])
        for item in found
        if item["in"] == "query"
    }


def find_answer(description: Schema, operation: Schema) -> Schema | None:
    """Return the schema of the JSON that a successful call answers; None where it has no body."""
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            content = resolve(description, answer).get("content", {})
            for kind in ("application/json", "application/vnd.github+json"):
                if kind in content:
                    schema: Schema = content[kind]["schema"]
                    return schema
    return None


def describe_field(description: Schema, schema: Schema, path: str) -> dict[str, Any] | None:
    """Say what a field is (`types`, `values` of an enumeration, `required`); None if unknown.

    A field that only some alternatives of a schema have is described by those.
    """
    schemas, is_required = [schema], True
    for key in split(path):
        alternatives = [one for item in schemas for one in _expand(description, item)]
        if key == ITEM:
            schemas = [one["items"] for one in alternatives if "items" in one]
        else:
            having = [one for one in alternatives if key in one.get("properties", {})]
            is_required = all(key in one.get("required", ()) for one in having)
            schemas = [one["properties"][key] for one in having]
        if not schemas:
            return None
    return {**_describe(description, schemas), "required": is_required}


def resolve(description: Schema, item: Schema) -> Schema:
    """Follow a reference (`$ref`) to what it names."""
    while "$ref" in item:
        target: Any = description
        for part in item["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        item = target
    return item


def _expand(description: Schema, schema: Schema) -> Iterator[Schema]:
    """Yield a schema and all that it combines."""
    schema = resolve(description, schema)
    yield schema
    for combination in COMBINED:
        for part in schema.get(combination, ()):
            yield from _expand(description, part)


def _describe(description: Schema, schemas: list[Schema]) -> dict[str, Any]:
    alternatives = [one for schema in schemas for one in _expand(description, schema)]
    types: set[str] = set()
    values: set[str] = set()
    for one in alternatives:
        kind = one.get("type", [])
        types |= set([kind] if isinstance(kind, str) else kind)
        types |= {"null"} if one.get("nullable") else set()
        values |= {str(value) for value in one.get("enum", ()) if value is not None}
    described: dict[str, Any] = {"types": sorted(types)}
    if values:
        described["values"] = sorted(values)
    return described
