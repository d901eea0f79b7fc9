"""Notes which fields of GitHub's JSON are read."""

from collections.abc import Iterator
from typing import Any

#: How a path of fields names the items of a list.
ITEM = "*"


class WatchedObject(dict[str, Any]):
    """A JSON object that notes each key that is asked for, present or not."""

    def __init__(self, value: dict[str, Any], path: str, seen: set[str]) -> None:
        super().__init__({key: watch(item, _join(path, key), seen) for key, item in value.items()})
        self._path, self._seen = path, seen

    def __getitem__(self, key: str) -> Any:
        self._seen.add(_join(self._path, key))
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:  # type: ignore[override]
        self._seen.add(_join(self._path, key))
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._seen.add(_join(self._path, str(key)))
        return super().__contains__(key)


def watch(value: Any, path: str, seen: set[str]) -> Any:
    """Return the value with every object in it watched; what is read goes into `seen`."""
    if isinstance(value, dict):
        return WatchedObject(value, path, seen)
    if isinstance(value, list):
        return [watch(item, _join(path, ITEM), seen) for item in value]
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def split(path: str) -> Iterator[str]:
    yield from filter(None, path.split("."))
