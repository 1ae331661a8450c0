"""Usage figures: jobs, outcomes, images, costs and times of groups of jobs.

Every job is in one row: a group also has a unit of cost, and a job's cost has one unit. So all
figures of a report may be added up.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil

from orchestrator.jobs.model import Status

#: What jobs can be grouped by.
DIMENSIONS = ("day", "tenant", "provider", "model")
#: The precision of times in a report. ms.
TIME_STEP_MS = 100


@dataclass
class Usage:
    """The figures of one group.

    Attributes:
        group: the value of each dimension. A day is in UTC, such as `2026-11-28`.
        unit: of the costs; None: no job of the group has a known cost.
        jobs: their number, by status.
        images: their number, late ones included.
        reported, computed: costs, by the source of the figure.
        unknown_costs: jobs that a provider accepted and whose cost is not known.
        callbacks: jobs that a callback settled.
        times: the number of jobs by the time from creation to outcome, in steps of TIME_STEP_MS.
    """

    group: dict[str, str]
    unit: str | None
    jobs: Counter[str] = field(default_factory=Counter)
    images: int = 0
    reported: float = 0.0
    computed: float = 0.0
    unknown_costs: int = 0
    callbacks: int = 0
    times: Counter[int] = field(default_factory=Counter)

    @property
    def settled(self) -> int:
        """The number of jobs with an outcome."""
        return sum(n for status, n in self.jobs.items() if Status(status).terminal)

    def seconds(self, share: float) -> float | None:
        """Return the time within which a share of the settled jobs had their outcome, seconds."""
        return seconds_within(self.times, share)


def seconds_within(times: Counter[int], share: float) -> float | None:
    """Return the time within which a share of jobs had their outcome, seconds.

    Args:
        times: the number of jobs by their time, in steps of TIME_STEP_MS.
        share: from 0 to 1.
    """
    left = ceil(times.total() * share)
    for step in sorted(times):
        left -= times[step]
        if left <= 0:
            return step * TIME_STEP_MS / 1000
    return None
