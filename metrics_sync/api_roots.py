"""Which addresses may stand in front of API paths, as tokens are sent there; pure."""

import ipaddress
import re

#: Stricter than a URL has to be: what two libraries could read differently is refused.
_ROOT = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?(/[\w.-]+)*/?",
    re.ASCII | re.IGNORECASE,
)


#: Where clouds tell their machines secrets, beside the link-local addresses.
#: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
_METADATA = {"fd00:ec2::254", "100.100.100.200", "metadata.google.internal"}


def find_fault(url: str, *, is_development: bool) -> str:
    """Say why an address cannot be an API root; empty when it can.

    Only in development may it be plain HTTP, or this machine. Private networks are where
    GitHub Enterprise lives, so they are allowed; what only a machine itself, or its cloud's
    metadata service, answers at is not. Names are not resolved: behind a name, TLS vouches for
    the host.
    """
    match = _ROOT.fullmatch(url)
    if match is None or int(match["port"] or 443) > 65535:
        return "it must look like https://HOST/api/v3, with no user, query or fragment"
    if is_development:
        return ""
    if match["scheme"].lower() != "https":
        return "it must start with https://, as the token is sent there"
    host = match["host"].lower().strip("[]").rstrip(".")
    if host in {"localhost", *_METADATA} or host.endswith(".localhost") or _is_local(host):
        return "it must not be an address of this machine, its network link or its metadata service"
    return ""


def _is_local(host: str) -> bool:
    """Whether a host is written as a number that is nobody's but this machine's or link's.

    Odd ways to write a number (127.1, 0x7f000001) count as local: nobody needs them.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2]) is not None
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    mapped = inner or address
    return (
        str(mapped) in _METADATA
        or mapped.is_loopback
        or mapped.is_link_local
        or mapped.is_unspecified
        or mapped.is_multicast
        or mapped.is_reserved
        or getattr(mapped, "is_site_local", False)
    )
