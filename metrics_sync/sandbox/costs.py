"""Counts what a GraphQL query costs and how many nodes it may ask for, as GitHub does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
)

#: https://docs.github.com/en/graphql/overview/rate-limits-and-node-limits-for-the-graphql-api
MAX_NODES = 500_000
MAX_PER_PAGE = 100


class RefusedQueryError(Exception):
    """A query that GitHub refuses to answer; `kind` is GitHub's name for the reason."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class Cost:
    """What a query may need: requests inside GitHub, one for each list, and the items in them."""

    requests: int = 0
    nodes: int = 0

    @property
    def points(self) -> int:
        return max(1, round(self.requests / 100))


def count_cost(document: DocumentNode, schema: GraphQLSchema, variables: Mapping[str, Any]) -> Cost:
    """Add up all lists as if each was as long as asked for. Raises RefusedQueryError."""
    fragments = {
        part.name.value: part
        for part in document.definitions
        if isinstance(part, FragmentDefinitionNode)
    }
    counter = _Counter(schema, fragments, variables)
    for part in document.definitions:
        if isinstance(part, OperationDefinitionNode):
            counter.walk(part.selection_set, "Query", parents=1)
    if counter.cost.nodes > MAX_NODES:
        raise RefusedQueryError(
            "MAX_NODE_LIMIT_EXCEEDED",
            f"This query requests up to {counter.cost.nodes:,} possible nodes which exceeds the "
            f"maximum limit of {MAX_NODES:,}.",
        )
    return counter.cost


class _Counter:
    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        variables: Mapping[str, Any],
    ) -> None:
        self.cost = Cost()
        self._schema, self._fragments, self._variables = schema, fragments, variables

    def walk(self, selections: SelectionSetNode, type_name: str, *, parents: int) -> None:
        """Count what is below `parents` objects of a type."""
        for field, owner in self._list_fields(selections, type_name):
            definition = getattr(self._schema.type_map[owner], "fields", {}).get(field.name.value)
            if definition is None or field.selection_set is None:
                continue
            below, name = parents, get_named_type(definition.type).name
            if name.endswith("Connection"):
                below = parents * self._read_size(field)
                self.cost.requests += parents
                self.cost.nodes += below
            self.walk(field.selection_set, name, parents=below)

    def _list_fields(
        self, selections: SelectionSetNode, type_name: str
    ) -> Iterator[tuple[FieldNode, str]]:
        """Yield the fields, those of fragments too, each with the type that it is a field of."""
        for part in selections.selections:
            if isinstance(part, FieldNode):
                yield part, type_name
            elif isinstance(part, FragmentSpreadNode):
                fragment = self._fragments[part.name.value]
                yield from self._list_fields(
                    fragment.selection_set, fragment.type_condition.name.value
                )
            elif isinstance(part, InlineFragmentNode):
                on = part.type_condition.name.value if part.type_condition else type_name
                yield from self._list_fields(part.selection_set, on)

    def _read_size(self, field: FieldNode) -> int:
        name = field.name.value
        for argument in field.arguments or ():
            if argument.name.value in {"first", "last"}:
                size = self._read_value(argument.value)
                if not 1 <= size <= MAX_PER_PAGE:
                    raise RefusedQueryError(
                        "EXCESSIVE_PAGINATION",
                        f"Requesting {size} records on the `{name}` connection exceeds the "
                        f"`{argument.name.value}` limit of {MAX_PER_PAGE} records.",
                    )
                return size
        raise RefusedQueryError(
            "MISSING_PAGINATION_BOUNDARIES",
            "You must provide a `first` or `last` value to properly paginate the "
            f"`{name}` connection.",
        )

    def _read_value(self, value: Any) -> int:
        if isinstance(value, VariableNode):
            return int(self._variables[value.name.value])
        return int(value.value) if isinstance(value, IntValueNode) else 0
