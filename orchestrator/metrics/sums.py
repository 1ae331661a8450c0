"""Sums of counts and seconds, by series."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from orchestrator.metrics.definitions import Definition

#: Separates the parts of a series in its stored form. No label has it: see `labels.py`.
_SEPARATOR = "\t"
#: The part of a histogram that has the sum of all observations.
SUM = "sum"


class Series(NamedTuple):
    """A metric with the values of its labels.

    `part` is empty except for a histogram. There it is SUM, or the upper bound of a bucket. A
    bucket holds only the observations above the next lower bound.
    """

    metric: str
    labels: tuple[str, ...] = ()
    part: str = ""

    @classmethod
    def of(cls, definition: Definition, *labels: str, part: str = "") -> Self:
        """Return a series of a metric.

        Raises:
            ValueError: there must be another number of labels.
        """
        if len(labels) != len(definition.labels):
            raise ValueError(f"{definition.name} has the labels {definition.labels}")
        return cls(definition.name, labels, part)

    def stored(self) -> str:
        """Return the stored form."""
        return _SEPARATOR.join((self.metric, *self.labels, self.part))

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the series in a stored form."""
        metric, *labels, part = text.split(_SEPARATOR)
        return cls(metric, tuple(labels), part)


class Sums(dict[Series, float]):
    """The sum of each series. A series that was never added is missing."""

    def add(self, definition: Definition, *labels: str, amount: float = 1.0) -> None:
        """Add to a counter."""
        self._add(Series.of(definition, *labels), amount)

    def observe(self, definition: Definition, *labels: str, seconds: float) -> None:
        """Add an observation to a histogram. A negative time, of two clocks, counts as none."""
        seconds = max(0.0, seconds)
        bound = definition.parts[bisect_left(definition.bounds, seconds)]
        self._add(Series.of(definition, *labels, part=bound), 1.0)
        self._add(Series.of(definition, *labels, part=SUM), seconds)

    def merge(self, other: Mapping[Series, float]) -> None:
        """Add all sums of another mapping."""
        for series, amount in other.items():
            self._add(series, amount)

    def stored(self) -> dict[str, float]:
        """Return the sums in their stored form, in a fixed order."""
        return {series.stored(): self[series] for series in sorted(self)}

    @classmethod
    def read(cls, stored: Mapping[str, float] | Iterable[tuple[str, float]]) -> Self:
        """Return the sums in a stored form."""
        return cls({Series.read(text): float(value) for text, value in dict(stored).items()})

    def _add(self, series: Series, amount: float) -> None:
        self[series] = self.get(series, 0.0) + amount
