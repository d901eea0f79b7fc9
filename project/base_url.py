"""Reads the service's own address."""

from urllib.parse import urlsplit


def read_base_url(text: str) -> str:
    """Return the address without a slash at its end; empty if there is none.

    Raises ValueError for anything but a scheme and a host, perhaps with a port: allowed hosts,
    trusted origins and the printed addresses of webhooks follow from it.
    """
    url = urlsplit(text)
    is_address = url.scheme in {"http", "https"} and url.hostname and url.path in {"", "/"}
    if text and (not is_address or url.query or url.fragment or url.username):
        raise ValueError(f"{text!r} is no address such as https://sync.example")
    return text.rstrip("/")
