"""Reads REST's ids out of GraphQL's node ids."""

import base64
import binascii
import re

from metrics_sync.snapshot import Json

#: An id of the older form, as in `011:PullRequest12345`: the length of the kind goes before it.
OLDER_ID = re.compile(rb"0(?P<length>\d{1,2}):(?P<kind>[A-Za-z]+)(?P<id>\d+)")


class NodeIds:
    """Reads REST's id out of the id of a node, where GraphQL has no other id.

    An id is a kind and, packed as MessagePack, a list: 0, the repository's id, and the ids down to
    the thing's own. Older ones are a kind and the thing's own id. GitHub promises neither. So an
    id is accepted only if it has the form and the repository of the pull request's node id, and
    that one reads as the `fullDatabaseId` beside it.
    """

    def __init__(self, pull_request: Json) -> None:
        scope, own_id = unpack_node_id(pull_request["id"])
        is_right = own_id == int(pull_request["fullDatabaseId"])
        self._scope = scope if is_right else None

    def read(self, node_id: str) -> int | None:
        """Return the id that REST has; None if it is not certain."""
        scope, own_id = unpack_node_id(node_id)
        return own_id if scope is not None and scope == self._scope else None


def unpack_node_id(node_id: str) -> tuple[tuple[int, ...] | None, int | None]:
    """Return the scope of a thing (empty in an id of the older form), and its own id.

    Both are None when the id is written in some other way.
    https://github.com/msgpack/msgpack/blob/master/spec.md
    """
    _, is_newer, rest = node_id.partition("_")
    packed = rest if is_newer else node_id
    try:
        data = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    except (ValueError, binascii.Error):
        return None, None
    older = OLDER_ID.fullmatch(data)
    if older and len(older["kind"]) == int(older["length"]):
        return (), int(older["id"])
    numbers = _unpack_numbers(data)
    return (tuple(numbers[:2]), numbers[-1]) if len(numbers) > 2 else (None, None)


def _unpack_numbers(data: bytes) -> list[int]:
    numbers, at = [], 1
    while at < len(data):
        size = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(data[at], 0)
        if not size and data[at] >= 0x80:
            return []
        number = data[at + 1 : at + 1 + size] if size else data[at : at + 1]
        numbers.append(int.from_bytes(number, "big"))
        at += 1 + size
    return numbers if data[:1] == bytes([0x90 + len(numbers)]) and at == len(data) else []
