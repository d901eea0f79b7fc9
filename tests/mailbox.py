"""A mail server that keeps every mail that it does not refuse."""

import email
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.policy import default
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

#: What it answers; everything else is fine, too.
ANSWERS = {b"DATA": b"354 go on", b"QUIT": b"221 bye"}


class Session(StreamRequestHandler):
    """One connection, as far as smtplib uses SMTP (RFC 5321)."""

    received: list[str]
    greetings: list[bytes]
    refusals: list[bytes]

    def handle(self) -> None:
        self._say(self.greetings.pop(0) if self.greetings else b"220 ready")
        while line := self.rfile.readline():
            command = line.strip().upper()[:4]
            if command == b"MAIL" and self.refusals:
                if refusal := self.refusals.pop(0):
                    self._say(refusal)
                return
            self._say(ANSWERS.get(command, b"250 fine"))
            if command == b"DATA":
                self._take()
                self._say(b"250 taken")
            if command == b"QUIT":
                return

    def _take(self) -> None:
        lines = iter(self.rfile.readline, b".\r\n")
        message = email.message_from_bytes(b"".join(lines), policy=default)
        self.received.append(f"{message['subject']}\n{message.get_content()}")

    def _say(self, answer: bytes) -> None:
        self.wfile.write(answer + b"\r\n")


@contextmanager
def open_mailbox(
    *, refusals: Sequence[bytes] = (), greetings: Sequence[bytes] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Yield a value for EMAIL_URL, and the list of subjects and texts that were taken.

    The first mails are answered with `refusals`, an empty one not at all, and the connection is
    closed; the first connections are answered with `greetings`.
    """
    texts: list[str] = []
    scripts = {"greetings": list(greetings), "refusals": list(refusals)}
    handler = type("Handler", (Session,), {"received": texts, **scripts})
    with ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"smtp://127.0.0.1:{server.server_address[1]}", texts
        finally:
            server.shutdown()
