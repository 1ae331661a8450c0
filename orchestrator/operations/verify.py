"""Checks the promise on a ledger: each job in its place, one outcome, no task bound twice.

Reads only, and may run beside everything else: each job is read as it was at one moment.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.jobs.model import FOLLOW_UPS, FollowUp, FollowUpStatus, Job, Status, Step
from orchestrator.ledger.overview import Snapshot
from orchestrator.operations.audit import faults
from orchestrator.operations.unconfirmed import unconfirmed_attempts
from orchestrator.runtime import Runtime

#: A job whose look is overdue by more than this (ms) was forgotten, or nobody works.
OVERDUE = 60_000
#: How many attempts of unknown fate are looked at.
MOST_AT_RISK = 100_000

INVARIANTS: Mapping[str, str] = {
    "listed": "every open job is in the index of jobs",
    "one_place": "a job is in the agenda if it is open, and is not if it is done",
    "not_overdue": f"no look at an open job, or at what follows from a done one, is overdue by "
    f"more than {OVERDUE // 1000} s",
    "one_outcome": "a done job was settled once, an open one never",
    "told": "a job that succeeded has images; one that did not has an error",
    "followed": "a job stands among those to archive, or to tell of, if that is pending, and only "
    "then; it is pending only of a done job",
    "kept": "the archive of a job that succeeded is pending, done with a copy of each image, or "
    "given up with the reason for each that has none",
    "stored": "every archived image is in the storage, byte for byte, and listed in its manifest",
    "one_task": "no provider task belongs to two attempts",
    "counted": "the counts of open jobs are those of the jobs themselves",
    "unconfirmed": "an attempt of unknown fate has no provider task",
    "charged": "every task that the provider charged belongs to an attempt, or is at risk",
    "paid_once": "no job was charged twice, unless it was resubmitted",
}


@dataclass
class Finding:
    """One invariant: how many things were looked at, and which break it."""

    name: str
    looked_at: int = 0
    breaches: list[str] = field(default_factory=list)

    @property
    def meaning(self) -> str:
        """The invariant in a sentence."""
        return INVARIANTS[self.name]

    def check(self, holds: bool, whose: str) -> None:
        """Note one thing that was looked at."""
        self.looked_at += 1
        if not holds:
            self.breaches.append(whose)


@dataclass(frozen=True, slots=True)
class Charge:
    """A task that a provider made and charged, and whose it is, where its list tells."""

    provider: str
    task_id: str
    job_id: str | None = None


class Verification:
    """Goes through a ledger once.

    Args:
        runtime: whose ledger.
        charges: every task that the providers made, if their lists are known.
        images: also read every archived image.
    """

    def __init__(
        self,
        runtime: Runtime,
        charges: Iterable[Charge] | None = None,
        *,
        images: bool = False,
    ) -> None:
        self._runtime = runtime
        self._images = images
        self._charges = None if charges is None else list(charges)
        self._tasks: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self._unknown: dict[str, str] = {}
        self._findings = {name: Finding(name) for name in INVARIANTS}

    def findings(self) -> list[Finding]:
        """Each invariant that could be checked."""
        left_out = set() if self._charges is not None else {"charged", "paid_once"}
        left_out |= set() if self._images else {"stored"}
        return [found for name, found in self._findings.items() if name not in left_out]

    def run(self) -> Iterable[str]:
        """Check everything; yields each job id as it is looked at, for progress.

        Raises:
            LedgerUnavailable: Redis is away.
            StorageError: the archive is.
        """
        overview = self._runtime.ledger.overview
        for shard in range(self._runtime.ledger.shards):
            with overview.still(shard) as counts:
                there: Counter[str] = Counter()
                for seen in overview.snapshots(shard):
                    self._job(seen)
                    there.update([seen.job.status] if seen.job else [])
                    yield seen.job_id
                self._counts(shard, counts(), there)
        for (provider, task_id), attempts in self._tasks.items():
            self._findings["one_task"].check(
                len(attempts) == 1, f"{provider} {task_id}: {', '.join(attempts)}"
            )
        self._unconfirmed()
        if self._charges is not None:
            self._charged(self._charges)
            self._paid(self._charges)

    def _job(self, seen: Snapshot) -> None:
        job = seen.job
        if job is None:  # expired while we looked; the agenda must not have it
            self._findings["one_place"].check(seen.due_at is None, seen.job_id)
            for step in seen.follow_ups:
                self._findings["followed"].check(False, f"{seen.job_id} {step}")
            return
        done = job.status.terminal
        self._findings["one_place"].check(done == (seen.due_at is None), job.id)
        settled = sum(event.name == "settled" for event in seen.events)
        self._findings["one_outcome"].check(settled == int(done), job.id)
        if done:
            self._findings["told"].check(_told(job), job.id)
        else:
            self._findings["listed"].check(seen.listed, job.id)
        if not done and seen.due_at is not None:
            self._look(seen.due_at, job.id)
        self._follow_ups(job, seen.follow_ups)
        if job.status in (Status.SUBMITTING, Status.UNCONFIRMED) and job.attempt.task_id is None:
            self._unknown[f"{job.id}.{job.attempt.number}"] = job.request.provider
        for attempt in job.attempts:
            if attempt.task_id:
                key = (job.request.provider, attempt.task_id)
                self._tasks[key].append(f"{job.id}.{attempt.number}")

    def _look(self, look: int, whose: str) -> None:
        late = self._runtime.clock() - look
        self._findings["not_overdue"].check(late <= OVERDUE, whose)

    def _follow_ups(self, job: Job, looks: Mapping[Step, int]) -> None:
        for step in FOLLOW_UPS:
            follow_up = job.archive if step is Step.ARCHIVE else job.notification
            whose = f"{job.id} {step}"
            self._findings["followed"].check(_followed(job, follow_up, step in looks), whose)
            if job.status.terminal and step in looks:
                self._look(looks[step], whose)
        if job.status is Status.SUCCEEDED:
            self._findings["kept"].check(_kept(job), job.id)
        archived = job.archive is not None and job.archive.status is FollowUpStatus.DONE
        if self._images and archived:
            wrong = faults(self._runtime.storage, job)
            self._findings["stored"].check(not wrong, "; ".join(wrong))

    def _counts(self, shard: int, counted: dict[str, int] | None, there: Counter[str]) -> None:
        """Only where nothing moved meanwhile can the counts be held against the jobs."""
        if counted is None:
            return
        for status in (status for status in Status if not status.terminal):
            number = counted.get(status, 0)
            told = f"shard {shard}: {number} {status} counted, {there[status]} there"
            self._findings["counted"].check(number == there[status], told)

    def _unconfirmed(self) -> None:
        """Checks the attempts of unknown fate, and adds them to those seen on their way."""
        first = self._at_risk()
        # One that is bound may have been so between two looks; then it is in the set no more.
        again = self._at_risk() if True in first.values() else {}
        for (name, provider), bound in first.items():
            self._unknown[name] = provider
            self._findings["unconfirmed"].check(not (bound and (name, provider) in again), name)

    def _at_risk(self) -> dict[tuple[str, str], bool]:
        """Each attempt of unknown fate and its provider; whether it has a task all the same."""
        return {
            (f"{entry.job_id}.{entry.attempt}", entry.job.request.provider if entry.job else ""): (
                entry.job is not None
                and any(a.task_id for a in entry.job.attempts if a.number == entry.attempt)
            )
            for entry in unconfirmed_attempts(self._runtime, MOST_AT_RISK)[1]
        }

    def _charged(self, charges: list[Charge]) -> None:
        """A charged task that no attempt knows must be one of the provider's attempts at risk."""
        left = Counter(self._unknown.values())
        for charge in charges:
            known = (charge.provider, charge.task_id) in self._tasks
            at_risk_ = left[charge.provider] > 0
            left[charge.provider] -= int(not known)
            whose = f"{charge.provider} {charge.task_id}"
            self._findings["charged"].check(known or at_risk_, whose)

    def _paid(self, charges: list[Charge]) -> None:
        bought: Counter[str] = Counter()
        for charge in charges:
            attempts = self._tasks.get((charge.provider, charge.task_id))
            whose = attempts[0].partition(".")[0] if attempts else charge.job_id
            bought.update([whose] if whose else [])
        jobs = self._runtime.ledger.overview.jobs(list(bought))
        for job_id, times in bought.items():
            job = jobs.get(job_id)
            allowed = 2 if job and job.resubmitted else 1
            self._findings["paid_once"].check(times <= allowed, job_id)


def _told(job: Job) -> bool:
    if job.settled_at is None or job.settled_by is None:
        return False
    return bool(job.images) if job.status is Status.SUCCEEDED else job.error is not None


def _followed(job: Job, follow_up: FollowUp | None, listed: bool) -> bool:
    """Whether a follow-up waits for the outcome, and then has its place while it is pending."""
    status = follow_up.status if follow_up else None
    if not job.status.terminal:
        return not listed and status in (None, FollowUpStatus.WAITING)
    return listed == (status is FollowUpStatus.PENDING) and status is not FollowUpStatus.WAITING


def _kept(job: Job) -> bool:
    status = job.archive.status if job.archive else None
    if status is FollowUpStatus.DONE:
        return all(image.copy for image in job.images)
    if status is FollowUpStatus.DEAD:
        return all(image.copy or image.error for image in job.images)
    return status is FollowUpStatus.PENDING


def view(findings: list[Finding]) -> dict[str, Any]:
    """Findings as JSON-ready data."""
    return {
        "ok": not any(found.breaches for found in findings),
        "invariants": [
            {
                "name": found.name,
                "meaning": found.meaning,
                "looked_at": found.looked_at,
                "breaches": found.breaches,
            }
            for found in findings
        ],
    }
