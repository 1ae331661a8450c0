"""Money at risk: attempts that may have been charged, whose task nobody knows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.model import Job
from orchestrator.jobs.schemas import rfc3339
from orchestrator.operations.cost import computed_cost
from orchestrator.runtime import Runtime

#: How many attempts a figure is made of; there should be none.
COUNTED = 1000


@dataclass(frozen=True, slots=True)
class UnconfirmedAttempt:
    """One such attempt; `job` is None once it has expired. `since` in ms."""

    job_id: str
    attempt: int
    since: int
    job: Job | None

    def view(self) -> dict[str, Any]:
        """The attempt as JSON-ready data."""
        return {
            "job_id": self.job_id,
            "attempt": self.attempt,
            "since": rfc3339(self.since),
            "provider": self.job.request.provider if self.job else None,
            "model": self.job.request.model if self.job else None,
            "status": self.job.status if self.job else None,
        }


def unconfirmed_attempts(
    runtime: Runtime, limit: int = COUNTED
) -> tuple[int, list[UnconfirmedAttempt]]:
    """How many there are, and the `limit` newest.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    number, found = runtime.ledger.overview.unconfirmed(limit)
    jobs = runtime.ledger.overview.jobs([entry.job_id for entry in found])
    return number, [
        UnconfirmedAttempt(e.job_id, e.attempt, e.since, jobs.get(e.job_id)) for e in found
    ]


def possible_charges(runtime: Runtime, attempts: list[UnconfirmedAttempt]) -> dict[str, Any]:
    """What these attempts may have cost: sums by unit, and how many have no known price."""
    sums: Counter[str] = Counter()
    unknown = 0
    for entry in attempts:
        on = runtime.enabled_provider(entry.job.request.provider) if entry.job else None
        cost = computed_cost(*on, entry.job) if on and entry.job else None
        if cost:
            sums[cost.unit] += cost.amount  # type: ignore[assignment]  # Counter counts floats too
        else:
            unknown += 1
    return {
        "amounts": [{"unit": unit, "amount": round(sum_, 6)} for unit, sum_ in sums.items()],
        "unpriced": unknown,
    }
