"""Registered domains. The owner of a domain may have any number of hosts below it."""

from __future__ import annotations

from functools import cache, lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from publicsuffixlist import PublicSuffixList

#: Hosts whose domains are remembered.
REMEMBERED_HOSTS = 4096
#: Providers of connections give a customer a network of at least this size. Bits.
IPV6_CUSTOMER_BITS = 64


@lru_cache(REMEMBERED_HOSTS)
def registered_domain(host: str) -> str:
    """Return the registered domain of a host, such as `example.co.uk` for `a.b.example.co.uk:443`.

    An IPv4 address is its own domain. IPv6 addresses of one customer's network share a domain. Text
    that is no host is its own domain, too. The list of public suffixes is part of the installed
    package, so nothing is downloaded.

    Args:
        host: a name or an address, with or without a port.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host
    try:
        address = ip_address(name)
    except ValueError:
        return _suffixes().privatesuffix(name) or name
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, IPV6_CUSTOMER_BITS), strict=False))
    return name


@cache
def _suffixes() -> PublicSuffixList:
    """Read the list at its first use. It takes some megabytes, and not every process needs it."""
    return PublicSuffixList()
