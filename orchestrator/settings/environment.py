"""Reads environment variables, each with a clear line of what is wrong with it.

Every variable may also be given as `NAME_FILE`, the path of a file that holds the value, as
container platforms hand secrets over. An empty value counts as unset.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from environs import EnvError, FileAwareEnv

from orchestrator.security.secret import Secret

HTTP = ("http", "https")
#: How much of a refused value an error repeats. Characters.
SHOWN = 200

_PRINTABLE = re.compile(r"[!-~]+")


class ConfigError(Exception):
    """A setting is missing or wrong. One line: the variable, its value, what is allowed."""


class _Environment(FileAwareEnv):
    """The process environment, in which an empty value counts as unset."""

    def _get_value(self, env_key: str, default: Any) -> Any:
        value = super()._get_value(env_key, default)
        return default if isinstance(value, str) and not value.strip() else value


class Reader:
    """Reads variables one by one; every error becomes one line of ConfigError."""

    def __init__(self) -> None:
        self._env = _Environment(strip_whitespace=True)

    def text(self, name: str, default: str) -> str:
        """One line of text."""
        return self.optional(name) or default

    def optional(self, name: str) -> str | None:
        """One line of text, or None when it is not set."""
        value = self._read(name, "text", lambda: self._env.str(name, None))
        if value is not None and not str(value).isprintable():  # also what is no UTF-8
            raise wrong(name, "***", "one line of printable UTF-8 text")
        return None if value is None else str(value)

    def lines(self, name: str) -> str | None:
        """Text that may have several lines, as a file of JSON has, made into one."""
        value = self._read(name, "text", lambda: self._env.str(name, None))
        return None if value is None else " ".join(str(value).split())

    def secret(self, name: str) -> Secret | None:
        """A secret that goes into HTTP headers."""
        value = self.optional(name)
        if value and not _PRINTABLE.fullmatch(value):
            raise wrong(name, "***", "printable ASCII characters, as HTTP headers take them")
        return Secret(value) if value else None

    def boolean(self, name: str, *, default: bool) -> bool:
        """1 or 0."""
        return bool(self._read(name, "1 or 0", lambda: self._env.bool(name, default)))

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number within bounds."""
        allowed = f"a number from {low:.15g} to {high:.15g}"
        value: float = self._read(name, allowed, lambda: self._env.float(name, default))
        return _within(name, value, low, high, allowed)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        allowed = f"a whole number from {low} to {high}"
        value: int = self._read(name, allowed, lambda: self._env.int(name, default))
        return int(_within(name, value, low, high, allowed))

    def url(self, name: str, schemes: tuple[str, ...], default: str) -> str:
        """A URL of one of these schemes; an http(s) one has nothing but host and path."""
        value = self.text(name, default)
        allowed = f"a URL that begins with {' or '.join(f'{s}://' for s in schemes)}"
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise wrong(name, redacted(value), allowed) from None
        if parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")):
            raise wrong(name, redacted(value), allowed)
        if parts.scheme in HTTP:
            if not parts.hostname or not _PRINTABLE.fullmatch(value):
                raise wrong(name, redacted(value), f"{allowed} and names a host")
            if "@" in parts.netloc or "?" in value or "#" in value:
                raise wrong(name, redacted(value), "a base URL without user, password, ? or #")
        return value

    def _read(self, name: str, allowed: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except EnvError:
            raise wrong(name, self._env.str(name), allowed) from None
        except (ValueError, OSError):
            raise ConfigError(f"{name}_FILE must name a readable file") from None


def _within(name: str, value: float, low: float, high: float, allowed: str) -> float:
    if not low <= value <= high:
        raise wrong(name, value, allowed)
    return value


def wrong(name: str, value: object, allowed: str) -> ConfigError:
    """The one form of a complaint about a variable; one line, whatever the value holds."""
    return ConfigError(f"{name}={one_line(value)} is not accepted; allowed: {allowed}")


def one_line(value: object) -> str:
    """A value as a complaint repeats it: printable, shortened."""
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def redacted(url: str) -> str:
    """A URL without user, password or query."""
    return re.sub(r"//.*@", "//***@", url).partition("?")[0]
