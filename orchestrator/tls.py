"""TLS of Redis and of the broker: one URL means the same for redis-py, kombu and py-amqp.

kombu checks no certificate of a `rediss://` URL by itself, and py-amqp checks no host name. So both
get their options from here. A certificate is checked unless `ssl_cert_reqs=none` stands in the URL.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

#: The values of `ssl_cert_reqs`, with kombu's spelling and ours.
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
#: The options of a URL that name files.
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS = ("ssl_cert_reqs", "ssl_check_hostname", *_FILES)


class BadTls(ValueError):
    """An option of TLS in a URL is wrong. The message says what is allowed."""


def is_encrypted(url: str) -> bool:
    """Return whether a URL uses TLS."""
    return urlsplit(url).scheme in ("rediss", "amqps")


def is_verified(url: str) -> bool:
    """Return whether the certificate of a URL's server is checked, or the URL uses no TLS."""
    return not is_encrypted(url) or dict(_query(url)).get("ssl_cert_reqs") != "none"


def normal(url: str) -> str:
    """Return a URL with `ssl_cert_reqs` as every library reads it.

    Raises:
        BadTls: an option has a wrong value, or its file cannot be read.
    """
    if not is_encrypted(url):
        return url
    options = dict(_query(url))
    wanted = options.get("ssl_cert_reqs", "required")
    if wanted not in _REQUIREMENTS:
        raise BadTls("a URL with ssl_cert_reqs=required, optional or none")
    if options.get("ssl_check_hostname", "true").lower() not in ("true", "false"):
        raise BadTls("a URL with ssl_check_hostname=true or false")
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise BadTls(f"a URL whose {name} names a readable file")
    options["ssl_cert_reqs"] = _REQUIREMENTS[wanted]
    return urlunsplit(urlsplit(url)._replace(query=urlencode(options, safe="/")))


def broker_options(url: str) -> tuple[str, dict[str, Any] | bool]:
    """Return the URL of a broker without options of TLS, and kombu's `ssl` for it."""
    if not is_encrypted(url):
        return url, False
    options = dict(_query(normal(url)))
    given = {name: options.pop(name) for name in _OPTIONS if name in options}
    bare = urlunsplit(urlsplit(url)._replace(query=urlencode(options, safe="/")))
    mode = _VERIFY_MODES[given.pop("ssl_cert_reqs")]
    named = mode is not ssl.CERT_NONE
    named &= given.pop("ssl_check_hostname", "true").lower() == "true"
    if urlsplit(url).scheme == "rediss":
        return bare, {**given, "ssl_cert_reqs": mode, "ssl_check_hostname": named}
    files = {name.removeprefix("ssl_"): value for name, value in given.items()}
    # py-amqp checks the name when it is given one.
    host = urlsplit(url).hostname if named else None
    return bare, {**files, "cert_reqs": mode, "server_hostname": host}


def _query(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query)
