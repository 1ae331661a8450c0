"""The results of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.jobs.model import Job, Step


class Result(StrEnum):
    """The result of a transition. A test compares these values with the scripts."""

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
    LATE = "late"
    UNPROVEN = "unproven"
    SUPERSEDED = "superseded"
    MISMATCH = "mismatch"
    STALE = "stale"
    CANCELLED = "cancelled"
    IN_FLIGHT = "in_flight"
    TERMINAL = "terminal"
    MISSING = "missing"
    GONE = "gone"
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
    """An idempotency key and its scope. Two callers may use the same key."""

    scope: str
    key: str


@dataclass(frozen=True, slots=True)
class Created:
    """The result of a create: CREATED, REPLAYED, MISMATCH or GONE, and the job of the key."""

    result: Result
    job_id: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The exclusive right to do one step of a job until `ends_at` (ms)."""

    job: Job
    token: str
    ends_at: int
