"""Puts HTTP/2 over TLS in front of the pretend GitHub, which speaks HTTP/1.1 itself."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypercorn.asyncio import serve
from hypercorn.config import Config

HOST = "127.0.0.1"
END_SECONDS = 10
#: The headers that are forwarded to the API, and those of its answer that are returned.
PASSED_ON = {"authorization", "if-none-match"}
PASSED_BACK = {"content-type", "etag", "link", "location", "x-ratelimit-limit"}
PASSED_BACK |= {"x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-used"}


@dataclass(slots=True)
class Front:
    """The server's address and certificate, and its clients' connections and HTTP versions."""

    url: str
    certificate: Path
    connections: set[Any] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)


@contextmanager
def serve_http2(
    upstream: str,
    *,
    folder: Path,
    protocols: Sequence[str] = ("h2", "http/1.1"),
    idle_seconds: float = 5,
) -> Iterator[Front]:
    """Serve an API over TLS until the end of the block, with the first protocol the client accepts.

    Connections are closed when they have been idle for `idle_seconds`.
    """
    listening = socket.create_server((HOST, 0))
    front = Front(f"https://{HOST}:{listening.getsockname()[1]}", folder / "certificate.pem")
    _write_certificate(front.certificate, folder / "key.pem")
    config = Config()
    # Clients that connect before hypercorn is ready wait in this socket's queue.
    config.bind, config.errorlog = [f"fd://{listening.detach()}"], None
    config.alpn_protocols, config.keep_alive_timeout = list(protocols), idle_seconds
    config.certfile, config.keyfile = str(front.certificate), str(folder / "key.pem")
    loop, ending = asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        async with httpx2.AsyncClient(base_url=upstream, timeout=60) as client:
            app = _make_app(front, client, upstream)
            await serve(app, config, shutdown_trigger=ending.wait)

    thread = threading.Thread(target=loop.run_until_complete, args=[run()], daemon=True)
    thread.start()
    try:
        yield front
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(END_SECONDS)
        loop.close()


def _make_app(front: Front, client: httpx2.AsyncClient, upstream: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        front.connections.add(scope["client"])
        front.versions.add(scope["http_version"])
        url = scope["raw_path"].decode() + "?" + scope["query_string"].decode()
        headers = {k.decode(): v.decode() for k, v in scope["headers"] if k.decode() in PASSED_ON}
        answer = await client.request(scope["method"], url, headers=headers)
        passed = [
            (name.encode(), value.replace(upstream, front.url).encode())
            for name, value in answer.headers.items()
            if name in PASSED_BACK
        ]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": passed})
        await send({"type": "http.response.body", "body": answer.content})

    return app


def _write_certificate(path: Path, key_path: Path) -> None:
    """Write a self-signed certificate for this host."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
