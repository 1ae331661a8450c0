"""What a bulk action would do: jobs by status, refusals, and the money at risk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.model import Job, Status
from orchestrator.ledger.bulk import BulkKind
from orchestrator.operations.cost import expected_cost
from orchestrator.operations.replay import NothingToNotify, check_notifiable
from orchestrator.operations.rerun import NotRetryable, check_retryable, may_be_paid
from orchestrator.runtime import Runtime

#: The decimals of a sum. Sums of fractions have more digits than a price has.
_COST_DECIMALS = 6


def refusal(kind: BulkKind, job: Job) -> str | None:
    """Return why an action does not apply to a job, or None.

    A job that may have been charged is not refused: that depends on the consent of the caller.
    """
    try:
        if kind is BulkKind.RETRY:
            check_retryable(job)
        elif kind is BulkKind.NOTIFY:
            check_notifiable(job)
        elif job.status is not Status.QUEUED:
            return f"it is {job.status}; only a queued job can be cancelled"
    except (NotRetryable, NothingToNotify) as error:
        return str(error)
    return None


@dataclass
class _Money:
    """Expected costs at one provider in one unit."""

    reserved: float = 0.0
    paid_again: float = 0.0
    unconfirmed: float = 0.0


class BulkFigures:
    """Counts the jobs of one bulk action.

    Attributes:
        total: the number of jobs.
        job_ids: the jobs to act on, in the order of `add`.
        refused: the number of the other jobs, by reason.
    """

    def __init__(self, runtime: Runtime, kind: BulkKind) -> None:
        self._runtime = runtime
        self._kind = kind
        self.total = 0
        self.job_ids: list[str] = []
        self.refused: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._money: dict[tuple[str, str], _Money] = {}
        self._may_be_paid = 0
        self._unpriced = 0

    def add(self, job: Job, known: str | None = None) -> None:
        """Count a job. `known` is a reason to refuse it that the job does not show."""
        self.total += 1
        self._statuses[job.status.value] += 1
        reason = refusal(self._kind, job) or known
        if reason:
            self.refused[reason] += 1
            return
        self.job_ids.append(job.id)
        if self._kind is not BulkKind.NOTIFY:  # a notification costs nothing
            self._add_cost(job)

    def refuse(self, reason: str, number: int) -> None:
        """Count jobs of which nothing is known but why they are refused."""
        self.total += number
        if number:
            self.refused[reason] += number

    def view(self) -> dict[str, Any]:
        """Return the figures as JSON-ready data."""
        return {
            "by_status": dict(self._statuses),
            "may_be_paid": self._may_be_paid,
            "money": [
                {
                    "provider": provider,
                    "unit": unit,
                    "reserved": round(money.reserved, _COST_DECIMALS),
                    "paid_again": round(money.paid_again, _COST_DECIMALS),
                    "unconfirmed": round(money.unconfirmed, _COST_DECIMALS),
                }
                for (provider, unit), money in sorted(self._money.items())
            ],
            "unpriced_jobs": self._unpriced,
        }

    def _add_cost(self, job: Job) -> None:
        paid = may_be_paid(job)
        self._may_be_paid += paid
        # A new job begins at the first provider of the request.
        provider = job.request.provider if self._kind is BulkKind.RETRY else job.provider
        cost = expected_cost(self._runtime, job, provider)
        if cost is None:
            self._unpriced += 1
            return
        money = self._money.setdefault((provider, cost.unit), _Money())
        money.reserved += cost.amount
        if paid and self._kind is BulkKind.RETRY:
            money.paid_again += cost.amount
        if paid and not any(attempt.task_id for attempt in job.attempts):
            money.unconfirmed += cost.amount
