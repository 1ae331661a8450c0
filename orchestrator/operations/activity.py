"""What happened lately: jobs and their times by interval, and the share of each provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.history import Query
from orchestrator.history.usage import seconds_within
from orchestrator.jobs.model import SettledBy, Status
from orchestrator.metrics import Sums
from orchestrator.metrics import definitions as metrics
from orchestrator.runtime import Runtime

if TYPE_CHECKING:
    from orchestrator.history.activity_query import JobCount

#: Names of time spans: how long each is, and its intervals. ms.
SPANS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "hour": (3_600_000, 60_000),
        "day": (86_400_000, 900_000),
        "week": (7 * 86_400_000, 2 * 3_600_000),
        "month": (30 * 86_400_000, 6 * 3_600_000),
    }
)


@dataclass
class Figures:
    """Jobs that were created together.

    Attributes:
        statuses: their number, by their status now.
        settled_by: their number, by what settled them.
        missed: the number of those whose outcome a poll found, although a callback was requested
            that settles a job. After a callback that is a hint, a poll always finds the outcome.
        times: their number, by the time from creation to outcome in steps of TIME_STEP_MS.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    settled_by: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    times: Counter[int] = field(default_factory=Counter)

    @property
    def created(self) -> int:
        """The number of jobs."""
        return self.statuses.total()

    @property
    def settled(self) -> int:
        """The number of jobs with an outcome."""
        return sum(number for name, number in self.statuses.items() if Status(name).terminal)

    @property
    def success_share(self) -> float | None:
        """The share of successes among successes and failures."""
        succeeded = self.statuses[Status.SUCCEEDED]
        tried = succeeded + self.statuses[Status.FAILED]
        return succeeded / tried if tried else None

    @property
    def missed_share(self) -> float | None:
        """The share of requested callbacks that polls replaced."""
        requested = self.missed + self.settled_by[SettledBy.CALLBACK]
        return self.missed / requested if requested else None

    def seconds(self, share: float) -> float | None:
        """Return the time within which a share of the outcomes came, seconds."""
        return seconds_within(self.times, share)

    def add(self, count: JobCount, *, calls_back: bool) -> None:
        """Add jobs. `calls_back`: callbacks of their provider are requested, and settle jobs."""
        self.statuses[count.status] += count.jobs
        if count.settled_by is not None:
            self.settled_by[count.settled_by] += count.jobs
        if calls_back and count.settled_by == SettledBy.POLL:
            self.missed += count.jobs
        if count.time_step is not None:
            self.times[count.time_step] += count.jobs

    def include(self, other: Figures) -> None:
        """Add the jobs of other figures."""
        self.statuses.update(other.statuses)
        self.settled_by.update(other.settled_by)
        self.times.update(other.times)
        self.missed += other.missed


@dataclass(frozen=True)
class Activity:
    """What happened in a time span.

    Attributes:
        since, until: the span, ms.
        interval_ms: the length of an interval.
        intervals: the figures of each interval, by its start (ms), without gaps.
        providers: the figures of each provider, by its name.
        total: the figures of the span.
    """

    since: int
    until: int
    interval_ms: int
    intervals: Mapping[int, Figures]
    providers: Mapping[str, Figures]
    total: Figures


#: The figures of each provider in each interval. Intervals are counted from 1970.
Intervals = Mapping[int, Mapping[str, Figures]]


def activity(
    runtime: Runtime,
    span: str,
    tenant: str | None,
    read: Callable[[range], Intervals] | None = None,
) -> Activity:
    """Return what happened in a time span until now.

    The cost grows with the jobs of the intervals that are read, not with all jobs.

    Args:
        runtime: of this process.
        span: a name of SPANS.
        tenant: whose jobs; None is everybody's.
        read: returns the figures of intervals. It may have read some of them before. None:
            `read_intervals` does.

    Raises:
        HistoryUnavailable: the database does not answer, or no recorder has run.
    """
    length, interval = SPANS[span]
    until = runtime.clock()
    numbers = range((until - length) // interval + 1, until // interval + 1)
    read = read or partial(read_intervals, runtime, span, tenant)
    intervals: dict[int, Figures] = {}
    providers: dict[str, Figures] = {}
    total = Figures()
    for number, by_provider in sorted(read(numbers).items()):
        intervals[number * interval] = in_interval = Figures()
        for name, figures in by_provider.items():
            for sum_ in (in_interval, providers.setdefault(name, Figures()), total):
                sum_.include(figures)
    shown = dict(sorted(providers.items()))
    return Activity(numbers.start * interval, until, interval, intervals, shown, total)


def read_intervals(runtime: Runtime, span: str, tenant: str | None, numbers: range) -> Intervals:
    """Return the figures of intervals of a span. They follow each other.

    Raises:
        HistoryUnavailable: the database does not answer, or no recorder has run.
    """
    _, interval = SPANS[span]
    now = runtime.clock()
    facet = {} if tenant is None else {"tenant": tenant}
    before = min(numbers.stop * interval, now + 1)
    query = Query(facet=facet, after=numbers.start * interval, before=before, now=now)
    calling = {
        name
        for name, provider in runtime.providers.items()
        if runtime.calls_back(provider) and not runtime.callbacks_are_hints(name)
    }
    found: dict[int, dict[str, Figures]] = {number: {} for number in numbers}
    for count in runtime.history.count_jobs(query, interval):
        figures = found[count.interval].setdefault(count.provider, Figures())
        figures.add(count, calls_back=count.provider in calling)
    return found


@dataclass
class Callbacks:
    """The callbacks of a provider since the installation.

    Attributes:
        received: all of them.
        repeated: those with an outcome that the job already had.
        rejected: those that were refused: forged, unreadable, too large, or of no job.
    """

    received: int = 0
    repeated: int = 0
    rejected: int = 0


def callbacks(runtime: Runtime) -> dict[str, Callbacks]:
    """Return the callbacks of each provider. `other` has those that name no provider.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    counted: dict[str, Callbacks] = {}
    for series, amount in Sums.read(runtime.ledger.timings.read()).items():
        if series.metric == metrics.REPEATED_CALLBACKS.name:
            counted.setdefault(series.labels[0], Callbacks()).repeated += int(amount)
        if series.metric == metrics.CALLBACKS.name:
            provider, status = series.labels
            figures = counted.setdefault(provider, Callbacks())
            figures.received += int(amount)
            figures.rejected += int(amount) if status.startswith("4") else 0
    return counted
