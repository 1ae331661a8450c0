"""A string that does not print."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret string. `reveal` is the only way to read it, so each use is easy to find."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Return the secret."""
        return self._value

    def __str__(self) -> str:
        return "***"
