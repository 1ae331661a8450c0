"""A fault's value from a closed list, such as `503/7s*2`: a choice, a time and a count."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from .durations import COUNT_FORMAT, DURATION_FORMAT, MAX_COUNT, read_count, read_seconds


@dataclass(frozen=True)
class Choice:
    """One value of a closed list."""

    name: str
    meaning: str
    #: True when seconds may follow a slash, as in `slow/30s`.
    takes_seconds: bool = False

    @property
    def syntax(self) -> str:
        """How it is written, such as `503[/SECONDS]`."""
        return self.name + ("[/SECONDS]" if self.takes_seconds else "")


def choices(*listed: Choice) -> Mapping[str, Choice]:
    """Return a closed list by name."""
    return {choice.name: choice for choice in listed}


@dataclass(frozen=True)
class ChosenValue:
    """The choice of one fault."""

    name: str
    #: None when no seconds are given.
    seconds: float | None = None
    #: Number of times that the fault applies. None has no limit.
    times: int | None = None

    @classmethod
    def read(cls, text: str, allowed: Mapping[str, Choice], *, counted: bool) -> Self:
        """Read `NAME[/SECONDS][*N]`.

        Args:
            text: The value.
            allowed: The closed list.
            counted: True when `*N` may follow.

        Raises:
            ValueError: The text has another form. The message is the allowed form.
        """
        rest, star, count = (part.strip() for part in text.partition("*"))
        name, slash, time = (part.strip() for part in rest.partition("/"))
        choice = allowed.get(name)
        if choice is None:
            raise ValueError(_describe(allowed, counted))
        if slash and not choice.takes_seconds:
            raise ValueError(f"{name} without a time")
        if star and not counted:
            raise ValueError(f"{name} without *N")
        seconds = read_seconds(time) if slash else None
        if slash and seconds is None:
            raise ValueError(f"{name}/ followed by {DURATION_FORMAT}")
        times = read_count(count) if star else None
        if star and times is None:
            raise ValueError(f"{name}* followed by {COUNT_FORMAT}")
        return cls(name, seconds, times)

    def __str__(self) -> str:
        time = "" if self.seconds is None else f"/{self.seconds:g}s"
        return self.name + time + ("" if self.times is None else f"*{self.times}")

    def applies_to(self, number: int) -> bool:
        """Return True when the fault applies this time. The first time is number 1."""
        return self.times is None or number <= self.times


def _describe(allowed: Mapping[str, Choice], counted: bool) -> str:
    names = "one of " + ", ".join(choice.syntax for choice in allowed.values())
    return names + (f", optionally followed by *1 to *{MAX_COUNT}" if counted else "")
