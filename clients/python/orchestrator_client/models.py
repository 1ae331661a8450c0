"""Jobs and batches as the API shows them. Fields that this version does not know are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: The states of a job that has its outcome.
OUTCOMES = frozenset({"succeeded", "failed", "cancelled"})
#: A text that no `repr` shows, in a class that has a `field` of its own.
_HIDDEN_TEXT: Any = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One submission to a provider."""

    number: int
    provider: str
    model: str
    task_id: str | None
    submitted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A move to another provider. `reason` is an error code, or what the job waited for."""

    at: datetime
    from_provider: str
    provider: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image of a job. What is not known yet is None.

    Attributes:
        url: a link to the orchestrator that lasts. It needs an API key.
        source_url: the provider's link.
        expires_at: when the provider's link ends.
        archived_at: when the copy in the archive was made.
        checked: whether the copy is an intact image.
        error: why there is no copy.
    """

    url: str = field(repr=False)
    source_url: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    archived_at: datetime | None = None
    sha256: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    content_type: str | None = None
    checked: bool | None = None
    check_error: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """Why a job failed. Programs decide by `code` and `retryable`."""

    code: str
    message: str = field(repr=False)
    provider_code: str | None
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a job cost. `source` is `reported`, `computed` or `unknown`."""

    amount: float | None
    unit: str | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """The work after the outcome: `waiting`, `pending`, `done`, `dead`, `gone` or `off`."""

    status: str
    attempts: int
    last_attempt_at: datetime | None = None
    next_attempt_at: datetime | None = None
    error: str | None = None
    to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job.

    Attributes:
        status: `queued`, `submitting`, `unconfirmed`, `running`, `succeeded`, `failed` or
            `cancelled`.
        retry_of: the id of the job that this one retries.
        retried_as: the id of the job that retries this one.
        fallbacks: the moves to another provider.
        images: the images of the outcome.
        late_images: images of a success that came after the outcome.
        settled_at: when the outcome came; None without one.
        waiting_for: what an open job waits for; `next_attempt_at` is when it is tried next.
        raw: the whole JSON object.
    """

    id: str
    status: str
    tenant: str
    provider: str
    model: str
    created_at: datetime
    updated_at: datetime
    deadline_at: datetime
    batch: str | None = None
    retry_of: str | None = None
    retried_as: str | None = None
    attempts: tuple[Attempt, ...] = ()
    fallbacks: tuple[Move, ...] = ()
    images: tuple[Image, ...] = ()
    late_images: tuple[Image, ...] = ()
    error: JobError | None = None
    cost: Cost | None = None
    archive: FollowUp | None = None
    notification: FollowUp | None = None
    settled_at: datetime | None = None
    settled_by: str | None = None
    waiting_for: str | None = None
    next_attempt_at: datetime | None = None
    request: Mapping[str, Any] = field(default_factory=dict, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def done(self) -> bool:
        """Whether the job has its outcome."""
        return self.status in OUTCOMES

    @property
    def succeeded(self) -> bool:
        """Whether the job has its images."""
        return self.status == "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """What is wrong with one field of a request. `value` is what it held."""

    field: str
    message: str
    allowed: str = ""
    value: str = _HIDDEN_TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[Violation, ...] = ()
    limit: str | None = None
    retry_after: float | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch. `counts` has its jobs by status."""

    id: str
    status: str
    tenant: str
    total: int
    counts: Mapping[str, int]
    created_at: datetime
    completed_at: datetime | None = None
    notification: FollowUp | None = None

    @property
    def done(self) -> bool:
        """Whether every job has its outcome."""
        return self.status == "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEntry:
    """What became of one request of a batch: a job, or a problem."""

    index: int
    job: Job | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The answer to a batch. `entries` has the order of the requests."""

    id: str
    entries: tuple[BatchEntry, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs of the entries that have one."""
        return tuple(entry.job for entry in self.entries if entry.job)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """One page of a list, newest first. `incomplete` says why older jobs are missing.

    `unreadable` has the ids of jobs that are missing because the service cannot read them.
    """

    jobs: tuple[Job, ...]
    next_cursor: str | None
    incomplete: str | None = None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedCost:
    """What a job would cost at a provider. `source` is `computed` or `unknown`."""

    provider: str
    model: str
    amount: float | None
    unit: str | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Whether a job would be accepted now, the problem if not, and what it would cost.

    `costs` has the provider of the request and its fallbacks. One of them is charged.
    """

    accepted: bool
    problem: Problem | None
    costs: tuple[QuotedCost, ...]
