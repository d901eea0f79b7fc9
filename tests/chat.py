"""A chat that takes messages by its incoming webhook, as Slack's does."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread


class Chat(BaseHTTPRequestHandler):
    """A chat's incoming webhook."""

    status = 200
    received: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(json.loads(body)["text"])
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def open_chat(answer: int) -> Iterator[tuple[str, list[str]]]:
    texts: list[str] = []
    handler = type("Handler", (Chat,), {"status": answer, "received": texts})
    server = HTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", texts
    finally:
        server.shutdown()
        server.server_close()
