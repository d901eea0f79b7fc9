"""Sends a bounded number of requests at a fixed rate: `python -m tests.benchmarks.load`."""

import asyncio
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import aiohttp

from metrics_sync.sandbox import Recording, build_pull_request_event, make_recording, sign
from metrics_sync.sandbox.payloads import build_check_run_event, build_pull_request_review_event
from metrics_sync.sandbox.posting import make_guid

REPOSITORY = "bench/load"
#: Connections at once, as many as GitHub opens; the wait for one counts in a request's time.
CONNECTIONS = 50

#: The values of a pull request before its merge.
OPEN = {"state": "open", "merged": False, "merged_at": None, "closed_at": None}


def build_opened(recording: Recording, number: int) -> dict[str, Any]:
    event = build_pull_request_event(recording, "opened")
    event["pull_request"] |= OPEN | {"updated_at": "2020-01-01T00:00:00Z"}
    return _renumber(event, number)


def build_push(recording: Recording, number: int) -> dict[str, Any]:
    event = build_pull_request_event(recording, "synchronize")
    event["pull_request"] |= OPEN | {"updated_at": "2020-01-02T00:00:00Z"}
    return _renumber(event, number)


def build_check_run(recording: Recording, number: int) -> dict[str, Any]:
    event = build_check_run_event(recording, {**recording.check_runs[0], "id": number})
    event["check_run"]["head_sha"] = f"{number:040x}"
    return event


def build_later_check_run(recording: Recording, number: int) -> dict[str, Any]:
    event = build_check_run(recording, number)
    event["check_run"]["name"] = "a later one"
    return event


def build_review(recording: Recording, number: int) -> dict[str, Any]:
    review = {**recording.reviews[0], "id": 9_000_000_000 + number}
    event = build_pull_request_review_event(recording, review)
    event["pull_request"] |= {name: value for name, value in OPEN.items() if name != "merged"}
    return _renumber(event, number)


def build_merge(recording: Recording, number: int) -> dict[str, Any]:
    return _renumber(build_pull_request_event(recording, "closed"), number)


def _renumber(event: dict[str, Any], number: int) -> dict[str, Any]:
    """Give the event another pull request, with its own number, id and head."""
    pull = event["pull_request"]
    if "number" in event:
        event["number"] = number
    pull |= {"number": number, "id": 7_000_000_000 + number}
    pull["head"]["sha"] = f"{number:040x}"
    return event


#: Each kind's event, and the function that builds its payload for a pull request's number.
KINDS: Mapping[str, tuple[str, Callable[[Recording, int], dict[str, Any]]]] = {
    "opened": ("pull_request", build_opened),
    "push": ("pull_request", build_push),
    "check run": ("check_run", build_check_run),
    "review": ("pull_request_review", build_review),
    "merge": ("pull_request", build_merge),
    "check run after the merge": ("check_run", build_later_check_run),
}


async def send(options: Namespace) -> list[float]:
    """Return the seconds of each request from the moment that it was due to its answer.

    The clock does not wait for the server: one that stalls is late for all that come meanwhile.
    """
    bodies = [*_make_bodies(options)] if options.post else [b""] * options.amount
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        loop = asyncio.get_running_loop()
        start = loop.time() + 0.2

        async def send_one(number: int, body: bytes) -> float:
            due = start + number / options.rate
            await asyncio.sleep(due - loop.time())
            method, url = ("POST", options.post) if options.post else ("GET", options.get)
            headers = _make_headers(body, options) if body else {}
            async with session.request(method, url, data=body, headers=headers) as answer:
                await answer.read()
                answer.raise_for_status()
            return loop.time() - due

        return await asyncio.gather(*(send_one(n, body) for n, body in enumerate(bodies)))


def _make_bodies(options: Namespace) -> Iterator[bytes]:
    """Yield one delivery for each of `amount` pull requests."""
    recording = make_recording(REPOSITORY, 1)
    _, build = KINDS[options.kind]
    for number in range(options.first, options.first + options.amount):
        yield json.dumps(build(recording, number), separators=(",", ":")).encode()


def _make_headers(body: bytes, options: Namespace) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "X-GitHub-Delivery": make_guid(),
        "X-GitHub-Event": KINDS[options.kind][0],
        "X-Hub-Signature-256": sign(body, options.secret),
    }


def _parse_options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.benchmarks.load", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--post", metavar="URL", help="send deliveries")
    where.add_argument("--get", metavar="URL")
    parser.add_argument("--kind", choices=KINDS, default="merge")
    parser.add_argument("--secret", default="")
    parser.add_argument("--first", type=int, default=1, help="number of the first pull request")
    parser.add_argument("amount", type=int)
    parser.add_argument("rate", type=float, help="requests a second")
    return parser.parse_args()


if __name__ == "__main__":
    json.dump(asyncio.run(send(_parse_options())), sys.stdout)
