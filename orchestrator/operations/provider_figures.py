"""What became of the jobs of each provider in the last hour: how many failed, and the last ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.history import HistoryUnavailable, Query
from orchestrator.history.usage import Usage
from orchestrator.jobs.model import Job, Status
from orchestrator.operations.search import search
from orchestrator.runtime import Runtime

#: The time that the figures cover. ms.
PERIOD_MS = 3_600_000
#: The failed jobs that are returned of each provider.
MAX_FAILURES = 5


@dataclass
class ProviderFigures:
    """The figures of one provider.

    Attributes:
        succeeded, failed: jobs of the period.
        failures: the newest failed jobs of any time, the last outcome first.
    """

    succeeded: int = 0
    failed: int = 0
    failures: list[Job] = field(default_factory=list)

    @property
    def error_rate(self) -> float | None:
        """The failed part of the jobs, or None without a job."""
        ended = self.succeeded + self.failed
        return self.failed / ended if ended else None


def provider_figures(
    runtime: Runtime, names: Iterable[str], *, tenant: str | None
) -> dict[str, ProviderFigures] | None:
    """Return the figures of providers, or None while the history does not answer.

    The period is that of the creation of jobs.

    Args:
        runtime: of this process.
        names: the providers.
        tenant: whose jobs count; None: all.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    facet = {"tenant": tenant} if tenant else {}
    since = Query(facet=facet, after=runtime.clock() - PERIOD_MS)
    try:
        groups = runtime.history.usage(since, ["provider"])
    except HistoryUnavailable:
        return None
    return {
        name: ProviderFigures(
            _number(groups, name, Status.SUCCEEDED),
            _number(groups, name, Status.FAILED),
            _failures(runtime, {**facet, "provider": name}),
        )
        for name in names
    }


def _number(groups: list[Usage], name: str, status: Status) -> int:
    """Return the number of jobs. A group of each unit of cost has a part of them."""
    return sum(group.jobs[status] for group in groups if group.group["provider"] == name)


def _failures(runtime: Runtime, facet: dict[str, str]) -> list[Job]:
    failed = Query(facet={**facet, "status": Status.FAILED.value})
    jobs = search(runtime, failed, limit=MAX_FAILURES).jobs
    return sorted(jobs, key=lambda job: job.settled_at or 0, reverse=True)
