"""Normalises links that somebody else wrote: image links and redirects.

The result is what a browser would open (WHATWG URL). It says nothing about whether the URL may be
called: that is the guard's decision.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

import idna

#: The longest link, before and after the normalisation. Characters.
MAX_LINK_CHARACTERS = 8192
#: Scheme of a link without one (`//host/path`).
DEFAULT_SCHEME = "https"
_DEFAULT_PORTS = {"http": "80", "https": "443"}
#: White space, control characters and invisible marks at the ends of a link.
_ENDS = "".join(map(chr, range(0x21))) + "\x7f\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u3000"
_ENDS += "".join(map(chr, range(0x80, 0xA0))) + "".join(map(chr, range(0x2000, 0x2010)))
_ENDS += "\u2060\ufeff"
_DROPPED = str.maketrans("", "", "\t\n\r")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINK = re.compile(
    r"(?:(https?):[/\\]*|[/\\]{2,})"  # browsers read any number of slashes after the scheme
    r"([^/\\?#]*)([^?#]*)(\?[^#]*)?(#.*)?",
    re.IGNORECASE | re.DOTALL,
)
#: A link that is normal already, as nearly all are. No part of its path begins with a dot or `%`,
#: and its port is of no scheme.
_NORMAL = re.compile(
    r"https?://[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[1-5][0-9]{3,4})?"
    r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.~%-]*)+"
    r"(?:\?[A-Za-z0-9_.~%/:@!$&()*+,;=-]*)?"
)
_AUTHORITY = re.compile(r"(?:(.*)@)?(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::([0-9]*))?", re.I | re.DOTALL)
_HOST = re.compile(r"[a-z0-9_~!$&'()*+,;=.-]+")
#: Characters that stay as they are. A browser encodes all others.
_PATH_SAFE = "%/:@!$&'()*+,;=~|[]"
_QUERY_SAFE = "%/:@!$&()*+,;=~|[]\\?{}^`"
_FRAGMENT_SAFE = "%/:@!$&'()*+,;=~|[]\\?{}^#"
_USER_SAFE = "%!$&'()*+,;=~:-._"


def normalized_link(text: str) -> str | None:
    """Return the absolute http(s) URL that a browser would open, or None for any other text.

    The ends are stripped. Blanks and characters outside ASCII are percent-encoded. A `%XX` stays
    as it is. A link without a scheme (`//host/path`) becomes https. `http` stays `http`.
    """
    if len(text) > MAX_LINK_CHARACTERS:
        return None
    return text if _NORMAL.fullmatch(text) else _normalized(text)


def _normalized(text: str) -> str | None:
    cleaned = _SURROGATE.sub("\ufffd", text.strip(_ENDS).translate(_DROPPED))
    match = _LINK.fullmatch(cleaned)
    if not match:
        return None
    scheme = (match[1] or DEFAULT_SCHEME).lower()
    authority = _authority(match[2], scheme)
    if authority is None:
        return None
    path = _without_dots(quote(match[3].replace("\\", "/"), safe=_PATH_SAFE)) or "/"
    query = quote(match[4] or "", safe=_QUERY_SAFE)
    link = f"{scheme}://{authority}{path}{query}{quote(match[5] or '', safe=_FRAGMENT_SAFE)}"
    return link if len(link) <= MAX_LINK_CHARACTERS else None


def _authority(text: str, scheme: str) -> str | None:
    """Return user, host and port in ASCII, without a default port."""
    match = _AUTHORITY.fullmatch(text)
    host = _ascii_host(match[2]) if match else None
    if match is None or host is None:
        return None
    user = f"{quote(match[1], safe=_USER_SAFE)}@" if match[1] else ""
    port = (match[3] or "").lstrip("0")
    if len(port) > 5 or (port and int(port) > 65535) or (match[3] and not port):
        return None
    return f"{user}{host}" + (f":{port}" if port and port != _DEFAULT_PORTS[scheme] else "")


def _ascii_host(text: str) -> str | None:
    """Return a host in lower-case ASCII, or None when a browser would refuse it."""
    if text.startswith("["):
        return text.lower()
    try:
        host = unquote_to_bytes(text).decode()
        if not host.isascii():
            mapped = idna.uts46_remap(host, std3_rules=False)
            host = ".".join(map(_ascii_label, mapped.split(".")))
    except UnicodeError:  # idna.IDNAError is one, too
        return None
    host = host.lower()
    return host if _HOST.fullmatch(host) else None


def _ascii_label(label: str) -> str:
    if label.isascii():
        return label
    try:
        return idna.alabel(label).decode()
    except UnicodeError:  # browsers allow more than IDNA 2008, for example emoji
        return "xn--" + label.encode("punycode").decode()


def _without_dots(path: str) -> str:
    """Return a path without `.` and `..` segments, as browsers send it."""
    kept: list[str] = []
    segments = path.split("/")
    for index, segment in enumerate(segments):
        plain = segment.lower().replace("%2e", ".")
        if plain not in {".", ".."}:
            kept.append(segment)
            continue
        if plain == ".." and len(kept) > 1:
            kept.pop()
        if index == len(segments) - 1:
            kept.append("")
    return "/".join(kept)
