"""A network that takes everything and lets nothing through, as a firewall that forgot does."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread


class Network:
    """Leads connections on to a server; while `is_dead` is set, what is sent is lost."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.is_dead = Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.sockets = [self.listener]

    def accept(self) -> None:
        with suppress(OSError):  # the listener is closed: the end
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    Thread(target=self.pump, args=(source, sink), daemon=True).start()

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
