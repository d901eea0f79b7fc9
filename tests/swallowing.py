"""A network that takes everything and lets nothing through, as a firewall that forgot does."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any


class Network:
    """Leads connections on to a server; while `is_dead` is set, what is sent is lost."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.is_dead = Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.sockets = [self.listener]
        #: Of each connection, in the order in which they came, whether its client has closed it.
        self.closed: list[Event] = []

    def accept(self) -> None:
        with suppress(OSError):  # the listener is closed: the end
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.sockets += [client, server]
                self.closed.append(Event())
                self.start(self.lead, client, server, self.closed[-1])
                self.start(self.pump, server, client)

    def start(self, work: Callable[..., None], *arguments: Any) -> None:
        Thread(target=work, args=arguments, daemon=True).start()

    def lead(self, client: socket.socket, server: socket.socket, closed: Event) -> None:
        self.pump(client, server)
        closed.set()

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.is_dead.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in self.sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def open_network(host: str, port: int) -> Iterator[Network]:
    """Lead to a server until the end of the block."""
    network = Network(host, port)
    thread = Thread(target=network.accept, daemon=True)
    thread.start()
    try:
        yield network
    finally:
        network.close()
        thread.join()
