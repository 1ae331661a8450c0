"""Reads environment variables and reports each error in one line.

Each variable can be given as `NAME_FILE`: the path of a file that holds the value. Container
platforms provide secrets in this way. An empty value counts as unset.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from environs import EnvError, FileAwareEnv

from orchestrator.security.secret import Secret

HTTP = ("http", "https")
#: The longest part of a refused value that an error repeats. Characters.
MAX_SHOWN_CHARACTERS = 200

_PRINTABLE = re.compile(r"[!-~]+")


class ConfigError(Exception):
    """A setting is missing or wrong. One line: the variable, what is allowed, the value."""


class _Environment(FileAwareEnv):
    """The process environment. An empty value counts as unset."""

    def _get_value(self, env_key: str, default: Any) -> Any:
        value = super()._get_value(env_key, default)
        return default if isinstance(value, str) and not value.strip() else value


class EnvironmentReader:
    """Reads variables one by one. Each error is a ConfigError of one line."""

    def __init__(self) -> None:
        self._env = _Environment(strip_whitespace=True)

    def text(self, name: str, default: str) -> str:
        """Return one line of text."""
        return self.optional(name) or default

    def optional(self, name: str) -> str | None:
        """Return one line of text, or None when the variable is not set."""
        value = self._read(name, "text", lambda: self._env.str(name, None))
        if value is not None and not str(value).isprintable():  # also text that is not UTF-8
            raise invalid_setting(name, "***", "one line of printable UTF-8 text")
        return None if value is None else str(value)

    def items(self, name: str) -> tuple[str, ...]:
        """Return the items of a list with commas. It is empty when the variable is not set."""
        parts = (part.strip() for part in self.text(name, "").split(","))
        return tuple(part for part in parts if part)

    def lines(self, name: str) -> str | None:
        """Return text of several lines, such as JSON in a file, as one line."""
        value = self._read(name, "text", lambda: self._env.str(name, None))
        return None if value is None else " ".join(str(value).split())

    def secret(self, name: str) -> Secret | None:
        """Return a secret for HTTP headers, or None."""
        value = self.optional(name)
        if value and not _PRINTABLE.fullmatch(value):
            raise invalid_setting(name, "***", "printable ASCII characters, as in HTTP headers")
        return Secret(value) if value else None

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return 1 or 0 as a boolean."""
        value = self.optional(name)
        if value not in (None, "0", "1"):
            raise invalid_setting(name, value, "1 or 0")
        return default if value is None else value == "1"

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        allowed = f"a number from {low:.15g} to {high:.15g}"
        value: float = self._read(name, allowed, lambda: self._env.float(name, default))
        return _within(name, value, low, high, allowed)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        allowed = f"a whole number from {low} to {high}"
        value: int = self._read(name, allowed, lambda: self._env.int(name, default))
        return int(_within(name, value, low, high, allowed))

    def url(self, name: str, schemes: tuple[str, ...], default: str) -> str:
        """Return a URL with one of these schemes. An http(s) URL has only host and path."""
        value = self.text(name, default)
        allowed = f"a URL that begins with {' or '.join(f'{s}://' for s in schemes)}"
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise invalid_setting(name, redacted(value), allowed) from None
        if parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")):
            raise invalid_setting(name, redacted(value), allowed)
        if parts.scheme in HTTP:
            if not parts.hostname or not _PRINTABLE.fullmatch(value):
                raise invalid_setting(name, redacted(value), f"{allowed} and names a host")
            if "@" in parts.netloc or "?" in value or "#" in value:
                allowed = "a base URL without user, password, ? or #"
                raise invalid_setting(name, redacted(value), allowed)
        return value

    def _read(self, name: str, allowed: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except EnvError:
            raise invalid_setting(name, self._env.str(name), allowed) from None
        except (ValueError, OSError):
            raise ConfigError(f"{name}_FILE must name a readable file") from None


def _within(name: str, value: float, low: float, high: float, allowed: str) -> float:
    if not low <= value <= high:
        shown = value if isinstance(value, int) else f"{value:.15g}"  # it may be beyond a float
        raise invalid_setting(name, shown, allowed)
    return value


def invalid_setting(name: str, value: object, allowed: str) -> ConfigError:
    """Return the error of a variable: "<name> must be <allowed>; got <value>", in one line."""
    return ConfigError(f"{name} must be {allowed}; got {one_line(value)}")


def one_line(value: object) -> str:
    """Return a value as an error repeats it: printable and shortened."""
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."


def redacted(url: str) -> str:
    """Return a URL without user, password and query. A password may stand in place of a port."""
    shown = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*:/*)?.*@", r"\1***@", url, flags=re.DOTALL)
    no_port = r"(?<=://)[^/@\[\]]*:(?!([0-9]{1,5}|)([/,;?]|\Z)).*"
    return re.sub(no_port, "***", shown, flags=re.DOTALL).partition("?")[0]
