"""Sends a bounded number of requests at a fixed rate: `python -m tests.benchmarks.load`."""

import asyncio
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

import aiohttp

from metrics_sync.sandbox import build_pull_request_event, make_recording, sign
from metrics_sync.sandbox.webhooks import make_guid

REPOSITORY = "bench/load"
#: As GitHub opens them; a request beyond these waits, and its time runs on.
CONNECTIONS = 50


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
            headers = _make_headers(body, options.secret) if body else {}
            async with session.request(method, url, data=body, headers=headers) as answer:
                await answer.read()
                answer.raise_for_status()
            return loop.time() - due

        return await asyncio.gather(*(send_one(n, body) for n, body in enumerate(bodies)))


def _make_bodies(options: Namespace) -> Iterator[bytes]:
    """Yield merges of as many pull requests, which differ in number and id."""
    event = build_pull_request_event(make_recording(REPOSITORY, 1), "closed")
    for number in range(options.first, options.first + options.amount):
        event["number"] = event["pull_request"]["number"] = number
        event["pull_request"]["id"] = 7_000_000_000 + number
        yield json.dumps(event, separators=(",", ":")).encode()


def _make_headers(body: bytes, secret: str) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "X-GitHub-Delivery": make_guid(),
        "X-GitHub-Event": "pull_request",
        "X-Hub-Signature-256": sign(body, secret),
    }


def _parse_options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.benchmarks.load", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--post", metavar="URL", help="send merges")
    where.add_argument("--get", metavar="URL")
    parser.add_argument("--secret", default="")
    parser.add_argument("--first", type=int, default=1, help="number of the first pull request")
    parser.add_argument("amount", type=int)
    parser.add_argument("rate", type=float, help="requests a second")
    return parser.parse_args()


if __name__ == "__main__":
    json.dump(asyncio.run(send(_parse_options())), sys.stdout)
