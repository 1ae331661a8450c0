"""What the ledger answers with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.jobs.model import Job, Step


class Result(StrEnum):
    """What a transition came to. A test holds this equal to what the scripts return."""

    CREATED = "created"
    REPLAYED = "replayed"
    CLAIMED = "claimed"
    NOT_DUE = "not_due"
    RUNNING = "running"
    QUEUED = "queued"
    UNCONFIRMED = "unconfirmed"
    DEFERRED = "deferred"
    SETTLED = "settled"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    SUPERSEDED = "superseded"
    MISMATCH = "mismatch"
    STALE = "stale"
    CANCELLED = "cancelled"
    IN_FLIGHT = "in_flight"
    TERMINAL = "terminal"
    MISSING = "missing"
    RECORDED = "recorded"
    FORGOTTEN = "forgotten"
    KEPT = "kept"
    OPEN = "open"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of a transition that may settle a job, and the steps that are due now."""

    result: Result
    due: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's idempotency key, and whose it is: two callers may use the same one."""

    scope: str
    key: str


@dataclass(frozen=True, slots=True)
class Created:
    """What create came to: CREATED, REPLAYED or MISMATCH, and the job that holds the key."""

    result: Result
    job_id: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The sole right to take one step with a job, until `ends_at` (ms)."""

    job: Job
    token: str
    ends_at: int
