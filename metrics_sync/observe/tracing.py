"""What this process is working on, so that its log lines can say it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_ids: ContextVar[Mapping[str, str]] = ContextVar("_ids", default={})  # noqa: B039  (never changed)


@contextmanager
def trace(**ids: str) -> Iterator[None]:
    """Have every log line of the block carry these ids (`delivery_id`); empty ones are left out.

    Threads and tasks that asyncio starts inside the block inherit them.
    """
    token = _ids.set({**_ids.get(), **{name: value for name, value in ids.items() if value}})
    try:
        yield
    finally:
        _ids.reset(token)


def get_trace() -> dict[str, str]:
    """Return the ids, to be passed on to another process that continues the work."""
    return dict(_ids.get())


class TraceFilter(logging.Filter):
    """Adds the ids to the log records of every logger; lets all records pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _ids.get().items():
            setattr(record, name, value)
        return True
