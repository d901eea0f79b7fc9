"""Decides which addresses may be API roots, because tokens are sent there; pure."""

import ipaddress
import re
from urllib.parse import urlsplit

#: Stricter than a URL has to be: what two libraries could read differently is refused.
_ROOT = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?(/[\w.-]+)*/?",
    re.ASCII | re.IGNORECASE,
)

#: Addresses of the machine itself or its cloud, in addition to those that `ipaddress` recognizes.
_OWN = [
    ipaddress.ip_network(network)
    for network in (
        # Alibaba Cloud
        "100.100.100.200/32",
        # Azure: https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16
        "168.63.129.16/32",
        # Oracle Cloud's older machines are at 192.0.0.192; no site is in this block.
        # https://www.iana.org/assignments/iana-ipv4-special-registry
        "192.0.0.0/24",
        # AWS: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
        "fd00:ec2::/32",
        # Google Cloud, Oracle Cloud and Scaleway by IPv6
        "fd20:ce::254/128",
        "fd00:c1::a9fe:a9fe/128",
        "fd00:42::42/128",
    )
]
#: Networks of IPv6 whose addresses end in one of IPv4: https://datatracker.ietf.org/doc/html/rfc6052
_TRANSLATED = [ipaddress.IPv6Network(one) for one in ("64:ff9b::/96", "64:ff9b:1::/48")]
#: Names that clouds and `/etc/hosts` give to such addresses.
_OWN_NAMES = {
    "api.metadata.cloud.ibm.com",
    "instance-data",
    "instance-data.ec2.internal",
    "ip6-localhost",
    "ip6-loopback",
    "localhost",
    "localhost.localdomain",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.tencentyun.com",
    "rancher-metadata",
}


def find_fault(url: str, *, is_development: bool) -> str:
    """Say why an address cannot be an API root; empty when it can.

    Only in development may it be plain HTTP, or this machine. Private networks are allowed,
    because GitHub Enterprise may be there; addresses at which only the machine itself or its
    cloud's metadata service answers are not. Names are not resolved: TLS vouches for the host
    behind a name.
    """
    match = _ROOT.fullmatch(url)
    if match is None or int(match["port"] or 443) > 65535:
        return "it must look like https://HOST/api/v3, with no user, query or fragment"
    if is_development:
        return ""
    if match["scheme"].lower() != "https":
        return "it must start with https://, as the token is sent there"
    if is_local(match["host"]):
        return "it must not be an address of this machine, its network link or its metadata service"
    return ""


def is_local(host: str) -> bool:
    """Whether a host, by name or number, is this machine, its network link or its cloud's service.

    Names are not resolved.
    """
    host = host.lower().strip("[]").rstrip(".")
    return host in _OWN_NAMES or host.endswith(".localhost") or _is_local_number(host)


def _is_local_number(host: str) -> bool:
    """Whether a host is a numeric address that only this machine or its network link can have.

    Odd ways to write a number (127.1, 0x7f000001) count as local: nobody needs them.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2]) is not None
    mapped = _find_inner(address) or address
    return (
        any(mapped in network for network in _OWN)
        or mapped.is_loopback
        or mapped.is_link_local
        or mapped.is_unspecified
        or mapped.is_multicast
        or mapped.is_reserved
        or getattr(mapped, "is_site_local", False)
    )


def _find_inner(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that routers translate an IPv6 address into, if there is one."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def serves_host(api_root: str, host: str) -> bool:
    """Whether pages at this host (`github.com`) are of the GitHub that has this API root.

    An API root on plain HTTP is a pretend GitHub, which stands for any.
    """
    root = urlsplit(api_root)
    own = (root.hostname or "").lower()
    hosts = {own, own.removeprefix("api.")}
    return not host or root.scheme == "http" or host.removeprefix("www.") in hosts
