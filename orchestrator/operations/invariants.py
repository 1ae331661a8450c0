"""The invariants of the ledger, and what a check found of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: A job that is overdue by more than this was lost, or no worker runs. ms.
MAX_OVERDUE_MS = 60_000
#: The most breaches of an invariant that are named. The others are counted.
MAX_NAMED = 1000

INVARIANTS: Mapping[str, str] = {
    "readable": "this version can read every job; a shard with a job that it cannot read has no"
    " comparison of its counts",
    "listed": "every open job is in the index of jobs",
    "one_place": "every open job is in the agenda, and no terminal job is",
    "not_overdue": "no open job and no follow-up is overdue by more than"
    f" {MAX_OVERDUE_MS // 1000} s, unless the job waits for its provider",
    "one_outcome": "a terminal job was settled once, an open job never",
    "told": "a succeeded job has images, another terminal job has an error",
    "followed": "exactly the jobs with a pending follow-up are in its set; only terminal jobs are",
    "kept": "the archive of a succeeded job is pending, or done with a copy of each image, or dead"
    " with a reason for each missing copy; or it was off, because ORCHESTRATOR_ARCHIVE was 0",
    "stored": "every archived image is in the storage, byte for byte, and in its manifest",
    "recorded": "the history has every job as the ledger has it (left out while no recorder runs)",
    "one_task": "no provider task belongs to two attempts",
    "counted": "the counts of open jobs match the jobs",
    "tenants": "the counts of each tenant's open jobs match the jobs",
    "batches": "the counts of each batch's open jobs match the jobs",
    "flows": "every open job is in its flow, and every job without a task in the set of deadlines",
    "movable": "every queued job with a fallback is in the set of its provider",
    "in_flight": "the attempts in flight match the jobs, and are within the provider's limit",
    "unconfirmed": "an unconfirmed attempt has no provider task",
    "charged": "every charged task belongs to an attempt, or to an unconfirmed attempt",
    "paid_once": "no job was charged twice, unless it was resubmitted",
}


@dataclass
class InvariantReport:
    """One invariant: the numbers of checked and of broken entries, and the first of these."""

    name: str
    checked: int = 0
    broken: int = 0
    breaches: list[str] = field(default_factory=list)

    @property
    def meaning(self) -> str:
        """The invariant in a sentence."""
        return INVARIANTS[self.name]

    def check(self, holds: bool, entry: str) -> None:
        """Record one checked entry."""
        self.checked += 1
        if not holds:
            self.add_breach(entry)

    def add_breach(self, entry: str) -> None:
        """Record one broken entry that was counted as checked."""
        self.broken += 1
        if self.broken <= MAX_NAMED:
            self.breaches.append(entry)


def reports_view(reports: list[InvariantReport]) -> dict[str, Any]:
    """Return reports as JSON-ready data."""
    return {
        "ok": not any(report.broken for report in reports),
        "invariants": [
            {
                "name": report.name,
                "meaning": report.meaning,
                "looked_at": report.checked,
                "broken": report.broken,
                "breaches": report.breaches,
            }
            for report in reports
        ],
    }
