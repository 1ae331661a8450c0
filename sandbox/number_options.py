"""The types of options that take a number of a range. Each refusal names the value and the range.

click's own types answer a text that is no number without the range, and accept `nan`.
"""

from math import isfinite
from typing import Any

import click


class WholeNumber(click.IntRange):
    """A whole number of a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, or end the command with the value and the range."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{str(value)!r} is not a whole number {_range(self)}", param, ctx)


class Number(click.FloatRange):
    """A number of a range. It may have a fraction."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or end the command with the value and the range."""
        try:
            number = super().convert(value, param, ctx)
        except click.BadParameter:
            number = float("nan")
        if not isfinite(number):
            self.fail(f"{str(value)!r} is not a number {_range(self)}", param, ctx)
        return number


def _range(kind: click.IntRange | click.FloatRange) -> str:
    """Return the range in words. Every range has a least number, and both ends belong to it."""
    return f"from {kind.min} to {kind.max}" if kind.max is not None else f"of {kind.min} or more"
