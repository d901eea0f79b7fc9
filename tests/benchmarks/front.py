"""Serves TLS in front of the pretend GitHub: `python -m tests.benchmarks.front`."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from signal import SIG_BLOCK, SIGTERM, pthread_sigmask, sigwait

from tests.http2 import serve_http2


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.benchmarks.front", description=__doc__)
    parser.add_argument("upstream", metavar="URL")
    parser.add_argument("folder", type=Path, help="where the certificate goes, and `url`")
    parser.add_argument("protocols", nargs="+", metavar="PROTOCOL", help="h2 or http/1.1")
    options = parser.parse_args()
    # Set before the threads start, which inherit it.
    pthread_sigmask(SIG_BLOCK, {SIGTERM})
    serving = serve_http2(options.upstream, folder=options.folder, protocols=options.protocols)
    with serving as front:
        (options.folder / "url").write_text(front.url)
        sigwait({SIGTERM})


if __name__ == "__main__":
    sys.exit(main())
