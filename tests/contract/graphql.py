"""Reduces GitHub's published GraphQL schema to what the sandbox answers, and compares the two.

`tests/contract/used.graphql` is taken from @octokit/graphql-schema (MIT), by `WRITE=1 make
contract`. The tables that ghapi ships are another description of the same API.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from graphql import GraphQLSchema, build_schema, parse, validate

from metrics_sync.github.queries import (
    FETCHED,
    LISTING,
    LISTS,
    NextPage,
    build_fetch,
    build_next,
)
from metrics_sync.sandbox.graphql_route import read_schema
from metrics_sync.snapshot import Section

USED = Path(__file__).with_name("used.graphql")
HEAD = "# Reduced from @octokit/graphql-schema (MIT) by `WRITE=1 make contract`.\n"

#: What is always there, and the sandbox's own scalar for what GitHub declares as Int.
BUILT_IN = {"Boolean", "Float", "ID", "Int", "String"}
WIDE = "WideInt"

#: A page of each list that goes on.
PAGES = [
    NextPage(number, section, 'c"1', 40)
    for number, section in enumerate(LISTS, start=1)
    if section is not Section.COMMIT_STATUSES
]
#: Every query that the service sends, under what it is for.
QUERIES = {
    "list": LISTING,
    "fetch": build_fetch(FETCHED),
    "next pages": build_next(PAGES),
    **{f"without {one}": build_fetch(1, without=frozenset({one})) for one in LISTS},
}


def list_refusals(schema: GraphQLSchema) -> list[str]:
    """Say what of our queries a schema does not take, each thing once."""
    return sorted(
        {error.message for query in QUERIES.values() for error in validate(schema, parse(query))}
    )


def read_tables(tables: dict[str, Any]) -> GraphQLSchema:
    """Make a schema of ghapi's tables (`gqlspec`), in which nothing is deprecated."""
    types: dict[str, Any] = tables["types"]
    interfaces = {name: spec for name, spec in types.items() if spec["kind"] == "INTERFACE"}
    parts = [
        _write_table(name, spec, interfaces)
        for name, spec in types.items()
        if name not in BUILT_IN and name != tables["mutation"]
    ]
    return build_schema("\n".join(parts), assume_valid=True)


def _write_table(name: str, spec: dict[str, Any], interfaces: dict[str, Any]) -> str:
    """Write a type in GraphQL's own language; the tables do not say what implements what."""
    match spec["kind"]:
        case "SCALAR":
            return f"scalar {name}"
        case "ENUM":
            return f"enum {name} {{ {' '.join(spec['values']) or 'GONE'} }}"
        case "UNION":
            return f"union {name} = {' | '.join(spec['of'])}"
        case "INPUT_OBJECT":
            fields = (f"{key}: {field['type']}" for key, field in spec["fields"].items())
            return f"input {name} {{ {' '.join(fields)} }}"
    kind = "interface" if spec["kind"] == "INTERFACE" else "type"
    is_like = [
        other
        for other, fields in interfaces.items()
        if kind == "type" and set() < fields["fields"].keys() <= spec["fields"].keys()
    ]
    implements = f" implements {' & '.join(is_like)}" if is_like else ""
    fields = _write_table_fields(spec["fields"].items())
    return f"{kind} {name}{implements} {f'{{ {fields} }}' if fields else ''}"


def _write_table_fields(fields: Iterable[tuple[str, dict[str, Any]]]) -> str:
    written = []
    for name, field in fields:
        arguments = " ".join(f"{key}: {kind}" for key, (kind, *_) in field["args"].items())
        written.append(f"{name}{f'({arguments})' if arguments else ''}: {field['type']}")
    return " ".join(written)


def reduce_schema(published: GraphQLSchema) -> str:
    """Write those types, fields, arguments and values of a schema that the sandbox has.

    What the published schema lacks, or declares in another way, is lacking here, or other.
    """
    parts = [
        written
        for name, ours in sorted(read_schema().type_map.items())
        if name not in BUILT_IN | {WIDE} and not name.startswith("__")
        if (theirs := published.type_map.get(name)) is not None
        if (written := _write_type(name, theirs, ours, published))
    ]
    return HEAD + "\n" + "\n\n".join(parts) + "\n"


def _write_type(name: str, theirs: Any, ours: Any, published: GraphQLSchema) -> str:
    kind = type(theirs).__name__.removeprefix("GraphQL").removesuffix("Type")
    match kind:
        case "Scalar":
            return f"scalar {name}"
        case "Enum":
            return f"enum {name} {{ {' '.join(sorted(set(theirs.values) & set(ours.values)))} }}"
        case "Union":
            known = {member.name for member in ours.types}
            members = sorted(member.name for member in theirs.types if member.name in known)
            return f"union {name} = {' | '.join(members)}"
    shared = [field for field in sorted(ours.fields) if field in theirs.fields]
    lines = [f"  {field}{_write_field(theirs.fields[field], ours, field)}" for field in shared]
    word = {"InputObject": "input", "Interface": "interface"}.get(kind, "type")
    known = {one.name for one in getattr(ours, "interfaces", ())}
    interfaces = [one.name for one in getattr(theirs, "interfaces", ()) if one.name in known]
    implements = f" implements {' & '.join(sorted(interfaces))}" if interfaces else ""
    return "\n".join([f"{word} {name}{implements} {{", *lines, "}"])


def _write_field(theirs: Any, ours: Any, field: str) -> str:
    arguments = getattr(theirs, "args", {})
    shared = sorted(set(arguments) & set(getattr(ours.fields[field], "args", {})))
    # An argument without which GitHub does not take the field is written in any case.
    needed = [name for name, one in sorted(arguments.items()) if str(one.type).endswith("!")]
    names = [*shared, *(name for name in needed if name not in shared)]
    written = ", ".join(f"{name}: {arguments[name].type}" for name in names)
    return f"({written}): {theirs.type}" if written else f": {theirs.type}"


def load_used() -> GraphQLSchema:
    return build_schema(USED.read_text())


def list_differences(published: GraphQLSchema, sandbox: GraphQLSchema) -> list[str]:
    """Name what the sandbox takes or answers and GitHub does not, or not in that way."""
    return sorted(set(_list_facts(sandbox)) - set(_list_facts(published)))


def list_changes(used: GraphQLSchema, newest: GraphQLSchema) -> list[str]:
    """Say in words what differs between two reduced schemas; no line where nothing does."""
    old, new = set(_list_facts(used)), set(_list_facts(newest))
    return [f"gone: {fact}" for fact in sorted(old - new)] + [
        f"new: {fact}" for fact in sorted(new - old)
    ]


def _list_facts(schema: GraphQLSchema) -> Iterator[str]:
    """Say of everything in a schema what it is, so that two schemas can be compared."""
    for name, kind in schema.type_map.items():
        if name.startswith("__") or name in BUILT_IN | {WIDE}:
            continue
        yield f"{name} is {type(kind).__name__}"
        for value in getattr(kind, "values", ()):
            yield f"{name} has the value {value}"
        for other in (*getattr(kind, "interfaces", ()), *getattr(kind, "types", ())):
            yield f"{name} goes with {other.name}"
        for field, definition in getattr(kind, "fields", {}).items():
            yield f"{name}.{field}: {str(definition.type).replace(WIDE, 'Int')}"
            for argument, one in getattr(definition, "args", {}).items():
                yield f"{name}.{field}({argument}: {one.type})"
