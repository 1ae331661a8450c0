"""The outbound proxy."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens connections with CONNECT.

    It is asked for public addresses only. A private address is connected to directly.
    """

    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read `http://[user:password@]host:port`.

        Raises:
            ValueError: the URL has another form.
        """
        parts = urlsplit(url)
        rest = parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme != "http" or not parts.hostname or not parts.port or rest:
            raise ValueError
        return cls(
            parts.hostname, parts.port, unquote(parts.username or ""), unquote(parts.password or "")
        )

    @property
    def url(self) -> str:
        """The URL of the proxy, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"
