"""Batches: jobs of one request, and the notification when all of them have their outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.jobs.model import FollowUp, Status
from orchestrator.jobs.request import Receiver


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch in the ledger. Times are ms.

    Attributes:
        counts: its jobs by status.
        receiver: who gets the notification `batch.completed`.
        sealed_at: since when no further job joins it; None while its request is being stored.
        completed_at: when a worker found that all jobs have their outcomes.
        notification: the state of the notification; None without a receiver.
    """

    id: str
    tenant: str
    created_at: int
    counts: Mapping[Status, int]
    receiver: Receiver
    sealed_at: int | None = None
    completed_at: int | None = None
    notification: FollowUp | None = None

    @property
    def total(self) -> int:
        """The number of its jobs."""
        return sum(self.counts.values())

    @property
    def open_jobs(self) -> int:
        """The number of jobs without an outcome."""
        return sum(number for status, number in self.counts.items() if not status.terminal)

    @property
    def complete(self) -> bool:
        """Whether every job has its outcome, and no further job joins the batch."""
        return self.completed_at is not None or (self.sealed_at is not None and not self.open_jobs)
