"""Classifies hosts and addresses as they are written. Names are not resolved here."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import inet_aton
from urllib.parse import urlsplit

IpAddress = IPv4Address | IPv6Address

#: Hosts of which it is remembered whether they are an address. Each call asks several times.
LITERALS_REMEMBERED = 1000


class Kind(StrEnum):
    """The kind of an address."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    #: Private networks, and addresses reserved for tests and documents.
    PRIVATE = "private"
    LINK_LOCAL = "link-local"
    #: Metadata services of clouds, which give a machine's credentials to its processes.
    METADATA = "metadata"
    #: Multicast, broadcast, unspecified and unassigned addresses.
    SPECIAL = "special"


_METADATA = frozenset(
    ip_address(text)
    for text in (
        *("169.254.169.254", "fd00:ec2::254", "fe80::a9fe:a9fe"),  # AWS, GCP, Azure, OpenStack
        *("169.254.170.2", "169.254.170.23", "fd00:ec2::23"),  # containers at AWS
        *("100.100.100.200", "192.0.0.192", "168.63.129.16"),  # Alibaba, Oracle, Azure
        *("169.254.42.42", "fd00:42::42", "fd20:ce::254"),  # Scaleway, GCP by IPv6
    )
)
# Older versions of Python call these networks public.
_PRIVATE = tuple(
    ip_network(text)
    for text in (
        *("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10", "198.18.0.0/15"),
        *("2001::/23", "3fff::/20", "fec0::/10"),
    )
)
#: Networks that embed an IPv4 address in the last 32 bits: mapped addresses and NAT64.
_EMBEDDING = (ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"))
_SIX_TO_FOUR = ip_network("2002::/16")


def kind(address: IpAddress) -> Kind:
    """Return the kind of an address. An IPv6 address with an embedded IPv4 address has its kind."""
    address = _effective(address)
    if address in _METADATA:
        return Kind.METADATA
    if address.is_loopback:
        return Kind.LOOPBACK
    if address.is_link_local:
        return Kind.LINK_LOCAL
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        return Kind.SPECIAL
    if not address.is_global or any(address in network for network in _PRIVATE):
        return Kind.PRIVATE
    return Kind.PUBLIC


def _effective(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 address leads to, if there is one."""
    if isinstance(address, IPv6Address):
        if any(address in network for network in _EMBEDDING):
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _SIX_TO_FOUR:
            return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


@lru_cache(LITERALS_REMEMBERED)
def literal(host: str) -> IpAddress | None:
    """Return the IP address that a host is written as, or None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_local_name(name: str) -> bool:
    """Return whether a name in lower case means this machine or its network."""
    return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))


def is_private(host: str) -> bool:
    """Return whether a host is a private address, or a name of this machine or its network."""
    name = host.rstrip(".").lower()
    try:
        return not ip_address(name).is_global
    except ValueError:
        pass
    try:
        return not ip_address(inet_aton(name)).is_global  # 127.1, 0x7f000001, 2130706433
    except OSError:
        return is_local_name(name)


def callback_refusal(url: str, *, public: bool = False, longest: int | None = None) -> str | None:
    """Return why a provider with HTTPS callbacks would refuse `url`, or None.

    Args:
        url: the callback URL.
        public: the provider refuses private and loopback hosts.
        longest: the longest URL that the provider accepts, characters.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return "only https:// is accepted"
    if public and is_private(parts.hostname or ""):
        return "a private or loopback host is refused"
    if longest and len(url) > longest:
        return f"at most {longest} characters are accepted"
    return None
