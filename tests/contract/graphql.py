"""Reduces GitHub's published GraphQL schema to what the sandbox answers, and compares the two.

`tests/contract/used.graphql` is taken from @octokit/graphql-schema (MIT), by `WRITE=1 make
contract`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graphql import GraphQLSchema, build_schema

from metrics_sync.sandbox.graphql import read_schema

USED = Path(__file__).with_name("used.graphql")
HEAD = "# Reduced from @octokit/graphql-schema (MIT) by `WRITE=1 make contract`.\n"

#: What is always there, and the sandbox's own scalar for what GitHub declares as Int.
BUILT_IN = {"Boolean", "Float", "ID", "Int", "String"}
WIDE = "WideInt"


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
