"""The results of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.jobs.event import Event
from orchestrator.jobs.model import Job, Step
from orchestrator.ledger import identifiers
from orchestrator.ledger.admission import Waiting, WaitReason


class Result(StrEnum):
    """The result of a transition. A test compares these values with the scripts."""

    CREATED = "created"
    REPLAYED = "replayed"
    CLAIMED = "claimed"
    WAITING = "waiting"
    NOT_DUE = "not_due"
    RUNNING = "running"
    QUEUED = "queued"
    MOVED = "moved"
    EXHAUSTED = "exhausted"
    UNCONFIRMED = "unconfirmed"
    DEFERRED = "deferred"
    SETTLED = "settled"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    LATE = "late"
    UNPROVEN = "unproven"
    SUPERSEDED = "superseded"
    MISMATCH = "mismatch"
    STALE = "stale"
    CANCELLED = "cancelled"
    IN_FLIGHT = "in_flight"
    TERMINAL = "terminal"
    MISSING = "missing"
    LIMITED = "limited"
    GONE = "gone"
    RECORDED = "recorded"
    FORGOTTEN = "forgotten"
    KEPT = "kept"
    OPEN = "open"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of a transition that may settle a job, and what is due now.

    Attributes:
        due: the steps of the job that are due.
        next_job: another job that may start at the provider now, because this one left a place.
        batch: the batch of the job, if it has no other open job in the shard.
    """

    result: Result
    due: tuple[Step, ...] = ()
    next_job: str | None = None
    batch: str | None = None

    @classmethod
    def from_answer(cls, answer: list[str]) -> Settlement:
        """Read the answer of a script: the result, the due steps, the next job and the batch."""
        result, *rest = answer
        next_job = next(filter(identifiers.is_job_id, rest), None)
        batch = next(filter(identifiers.is_batch_id, rest), None)
        due = tuple(Step(each) for each in rest if each not in (next_job, batch))
        return cls(Result(result), due, next_job, batch)


@dataclass(frozen=True, slots=True)
class Idempotency:
    """An idempotency key and its scope. Two callers may use the same key.

    `shown` is the key by which searches find the job, if it is another one.
    """

    scope: str
    key: str
    shown: str | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """The result of a create: CREATED, REPLAYED, MISMATCH, GONE or LIMITED, and the job of the key.

    With LIMITED, `limit` is the name of the tenant's limit, and `wait_ms` the time until it allows
    another job (0: unknown). With CREATED, `wait` is what the job waits for.
    """

    result: Result
    job_id: str
    limit: str = ""
    wait_ms: int = 0
    wait: Waiting | None = None

    @classmethod
    def from_answer(cls, answer: list[str], job_id: str) -> Created:
        """Read the answer of the script that had to create a job with this id."""
        result, *rest = answer
        if Result(result) is Result.LIMITED:
            return cls(Result.LIMITED, job_id, rest[0], int(rest[1]))
        if Result(result) is Result.CREATED:
            return cls(Result.CREATED, job_id, wait=_wait(*rest) if rest else None)
        return cls(Result(result), rest[0] if rest else job_id)


def _wait(reason: str, until: str) -> Waiting:
    """Return what a new job waits for. `reason` is why its provider may not get it."""
    return Waiting(WaitReason(reason or WaitReason.WORKER), int(until) if until else None)


@dataclass(frozen=True, slots=True)
class Lease:
    """The exclusive right to do one step of a job until `ends_at` (ms).

    The lease on an archive has the timeline of the job.
    """

    job: Job
    token: str
    ends_at: int
    events: tuple[Event, ...] = ()


@dataclass(slots=True)
class Room:
    """How many due jobs a sweep may take: what may run now."""

    #: By provider, for its submit and poll steps.
    providers: dict[str, int] = field(default_factory=dict)
    #: For the jobs of all other providers together.
    others: int = 0
    follow_ups: dict[Step, int] = field(default_factory=dict)

    @property
    def for_providers(self) -> int:
        """The room for submit and poll steps."""
        return sum(self.providers.values()) + self.others

    def take(self, step: Step, provider: str, jobs: int) -> None:
        """Count jobs that were taken."""
        if step in self.follow_ups:
            self.follow_ups[step] -= jobs
        elif provider in self.providers:
            self.providers[provider] -= jobs
        else:
            self.others -= jobs
