"""TLS of Redis and of the broker: the options `ssl_…` of a URL.

kombu checks no certificate of a `rediss://` URL by itself, and py-amqp checks no host name. So both
get their options from here. A certificate is checked unless `ssl_cert_reqs=none` stands in the URL.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.servers.url_parts import BadServerUrl, flag

#: The values of `ssl_cert_reqs`, also as redis-py and kombu spell them in their documents.
_REQUIREMENTS = {
    name: value
    for value in ("none", "optional", "required")
    for name in (value, f"CERT_{value.upper()}")
}
_VERIFY_MODES = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


def _requirement(text: str) -> str:
    if text not in _REQUIREMENTS:
        raise BadServerUrl("required, optional or none")
    return _REQUIREMENTS[text]


def _file(text: str) -> str:
    try:
        with Path(text).open("rb"):
            return text
    except (OSError, ValueError):
        raise BadServerUrl("the path of a readable file") from None


#: The options of a URL with TLS, each with the function that reads it.
TLS_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": flag,
    "ssl_ca_certs": _file,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
}


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is checked, and which one we show.

    Attributes:
        requirement: required, optional or none.
        check_hostname: whether the name in the certificate must be the server's.
        files: paths by `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile`.
    """

    requirement: str
    check_hostname: bool
    files: Mapping[str, str]

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Tls:
        """Take the options of TLS out of the options of a URL."""
        requirement = options.pop("ssl_cert_reqs", "required")
        check_hostname = options.pop("ssl_check_hostname", True) and requirement != "none"
        names = [name for name in TLS_OPTIONS if name in options]
        return cls(requirement, check_hostname, {name: options.pop(name) for name in names})

    @property
    def is_verified(self) -> bool:
        """Whether the server's certificate is checked."""
        return self.requirement != "none"

    def for_redis(self) -> dict[str, Any]:
        """Return the options of redis-py's TLS connections. kombu takes the same ones."""
        return {
            **self.files,
            "ssl_cert_reqs": _VERIFY_MODES[self.requirement],
            "ssl_check_hostname": self.check_hostname,
        }

    def for_amqp(self, host: str) -> dict[str, Any]:
        """Return the options of py-amqp. It checks the server's name when it gets one."""
        files = {name.removeprefix("ssl_"): value for name, value in self.files.items()}
        name = host if self.check_hostname else None
        return {**files, "cert_reqs": _VERIFY_MODES[self.requirement], "server_hostname": name}
