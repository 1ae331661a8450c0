"""Reads the parts of a server's URL. Errors say what is allowed and repeat nothing of the URL."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

#: A host. kombu would read `%`, `;` and `\\` in a name in its own way.
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+(?:%25\w+)?\]|[^\[\]:,;%@/\\\s]+")


#: What the name of an option looks like.
_OPTION = re.compile(r"[a-z_]{2,40}")


class BadServerUrl(ValueError):
    """A URL of Redis or of the broker is wrong. The message says what is allowed."""


def split(url: str, schemes: tuple[str, ...]) -> SplitResult:
    """Return the parts of a URL with one of these schemes, in lower case.

    Raises:
        BadServerUrl: it is not such a URL.
    """
    allowed = f"a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in schemes:
        raise BadServerUrl(allowed)
    if re.search(r"[\x00-\x1f\x7f]", rest):  # urlsplit would remove some of these
        raise BadServerUrl("a URL without line breaks and control characters")
    place, _, query = rest.partition("?")
    user = place.rpartition("@")[0]
    if "#" in rest or "@" in query or ("/" in user and scheme.lower() != "unix"):
        raise BadServerUrl("a URL whose password has / ? # @ : as %2F %3F %23 %40 %3A")
    try:
        return urlsplit(f"{scheme.lower()}://{rest}")
    except ValueError:
        raise BadServerUrl(allowed) from None


def credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    """Return the user and the password of a URL, or None for each that it does not have."""
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return unquote(user) or None, unquote(password) or None


def hosts(parts: SplitResult, default_port: int) -> tuple[tuple[str, int], ...]:
    """Return the hosts of a URL with their ports. Commas separate several hosts.

    Raises:
        BadServerUrl: a host is missing or a port is wrong.
    """
    return tuple(_host(each, default_port) for each in parts.netloc.rpartition("@")[2].split(","))


def _host(text: str, default_port: int) -> tuple[str, int]:
    match = _HOST.match(text)
    if match is None or not _can_be_resolved(match[0]):
        raise BadServerUrl("a URL that names a host, such as redis://redis.example:6379/0")
    port = text[match.end() :]
    if port and not re.fullmatch(r":[0-9]{1,5}", port):
        raise BadServerUrl("a URL whose port is a number from 1 to 65535")
    number = int(port[1:]) if port else default_port
    if not 1 <= number <= 65535:
        raise BadServerUrl("a URL whose port is a number from 1 to 65535")
    return match[0].strip("[]").replace("%25", "%"), number


def _can_be_resolved(host: str) -> bool:
    """Return whether Python can ask for the addresses of a name. It raises UnicodeError if not."""
    try:
        return host.startswith("[") or bool(host.encode("idna"))
    except UnicodeError:
        return False


def read_options(parts: SplitResult, known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Return the options of a URL, each read by its function.

    Raises:
        BadServerUrl: an option is unknown, is given twice, or has a wrong value.
    """
    values: dict[str, Any] = {}
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            allowed = f"{hint}allowed: {', '.join(sorted(known))}"
            # Other text behind a ? may be the rest of a password.
            option = f"the option {name}" if _OPTION.fullmatch(name) and text else "such an option"
            raise BadServerUrl(f"a URL without {option} ({allowed})")
        if name in values:
            raise BadServerUrl(f"a URL with the option {name} once")
        try:
            values[name] = known[name](text)
        except BadServerUrl as error:
            raise BadServerUrl(f"a URL with {name}={error}") from None
    return values


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a function that reads a whole number."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise BadServerUrl(f"a whole number from {low} to {high}")
        return int(text)

    return read


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return a function that reads a time in seconds."""

    def read(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) or not low <= float(text) <= high:
            raise BadServerUrl(f"a number of seconds from {low:g} to {high:g}")
        return float(text)

    return read


def flag(text: str) -> bool:
    """Read true or false, also as 1 or 0, yes or no."""
    value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in value:
        raise BadServerUrl("true or false")
    return value[text.lower()]


def plain(text: str) -> str:
    """Read a text that is not empty and has no control characters."""
    if not text or not text.isprintable():
        raise BadServerUrl("a text")
    return text
