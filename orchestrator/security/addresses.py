"""Which hosts are private, judged by how they are written: names are not resolved here."""

from __future__ import annotations

from ipaddress import ip_address
from socket import inet_aton
from urllib.parse import urlsplit


def is_private(host: str) -> bool:
    """Whether a host is an address that is not public, or a name that means this machine."""
    name = host.rstrip(".").lower()
    try:
        return not ip_address(name).is_global
    except ValueError:
        pass
    try:
        return not ip_address(inet_aton(name)).is_global  # 127.1, 0x7f000001, 2130706433
    except OSError:
        return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))


def callback_refusal(url: str, *, public: bool = False, longest: int | None = None) -> str | None:
    """Why a provider that takes HTTPS callbacks would refuse `url`, or None.

    Args:
        url: where it would call.
        public: it refuses private and loopback hosts.
        longest: the longest URL it takes, characters.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return "only https:// is taken"
    if public and is_private(parts.hostname or ""):
        return "a private or loopback host is refused"
    if longest and len(url) > longest:
        return f"at most {longest} characters are taken"
    return None
