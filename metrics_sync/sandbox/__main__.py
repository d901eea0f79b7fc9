"""Serve a pretend GitHub: `python -m metrics_sync.sandbox`."""

import sys
from argparse import ArgumentParser, Namespace
from signal import SIG_BLOCK, SIGINT, SIGTERM, pthread_sigmask, sigwait

from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, Token, World, make_samples


def main() -> None:
    options = _parse_options()
    # Blocked before threads start and inherit it: otherwise a signal would end the server's thread.
    pthread_sigmask(SIG_BLOCK, {SIGINT, SIGTERM})
    token = Token(options.token, limit_per_window=options.limit)
    try:
        if options.load:
            world = World.load(options.load, tokens=[token])
        else:
            world = World(make_samples(), tokens=[token])
        server = SandboxServer(world, port=options.port, latency_ms=options.latency_ms).start()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(f"GITHUB_API_URL={server.url} GITHUB_TOKEN={token.value}")  # noqa: T201
    for recording in world.recordings():
        print(f"  {recording.repo} {recording.number}")  # noqa: T201
    sys.stdout.flush()
    sigwait({SIGINT, SIGTERM})
    server.stop()


def _parse_options() -> Namespace:
    parser = ArgumentParser(prog="python -m metrics_sync.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--load", metavar="DIR", help="serve recorded pull requests, one a file")
    parser.add_argument("--latency-ms", type=float, default=0, help="added to every answer")
    parser.add_argument("--token", default=DEFAULT_TOKEN, help="the one that is accepted")
    parser.add_argument("--limit", type=int, default=5000, help="requests an hour")
    return parser.parse_args()


if __name__ == "__main__":
    main()
