"""Jobs, attempts and outcomes as plain values. This module does no I/O.

Times are integers: milliseconds since the Unix epoch, as the ledger stores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from orchestrator.jobs.request import JobRequest, Receiver
from orchestrator.jobs.tenant import DEFAULT_TENANT

#: Assumed lifetime of a link without an expiry time: the shortest lifetime that a provider
#: documents (EvoLink: 24 hours). ms.
DEFAULT_LINK_LIFETIME_MS = 86_400_000


class Status(StrEnum):
    """The status of a job. The usual path is queued, submitting, running, terminal."""

    #: The job waits for its next attempt. Nothing of this attempt was sent.
    QUEUED = "queued"
    #: A worker has the lease and may have sent the request.
    SUBMITTING = "submitting"
    #: The request may have reached the provider. No readable answer came.
    UNCONFIRMED = "unconfirmed"
    #: The provider accepted the attempt and returned a task id.
    RUNNING = "running"
    #: Terminal: the provider made the images.
    SUCCEEDED = "succeeded"
    #: Terminal: there are no images. The error has the reason.
    FAILED = "failed"
    #: Terminal: cancelled by the caller or at the provider.
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether a job in this status has its outcome."""
        return self in TERMINAL


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


class Step(StrEnum):
    """One piece of work on a due job."""

    #: These two lead to the outcome.
    SUBMIT = "submit"
    POLL = "poll"
    #: These two follow the outcome, independently: copy the images, notify the caller.
    ARCHIVE = "archive"
    NOTIFY = "notify"
    #: Query a provider task whose callback came too late for a poll. Its images are kept.
    CONFIRM = "confirm"
    #: Look whether the jobs of a batch have their outcomes, and notify its caller.
    BATCH = "batch"


#: The steps that every outcome may need.
OUTCOME_STEPS = (Step.ARCHIVE, Step.NOTIFY)
#: The steps that are planned apart from the agenda. Each has its own sorted set.
FOLLOW_UPS = (*OUTCOME_STEPS, Step.CONFIRM)

#: The step of each open status. A terminal status has none.
STEP_OF: Mapping[Status, Step] = {
    Status.QUEUED: Step.SUBMIT,
    Status.SUBMITTING: Step.SUBMIT,
    Status.UNCONFIRMED: Step.SUBMIT,
    Status.RUNNING: Step.POLL,
}


class SettledBy(StrEnum):
    """The source of a job's outcome."""

    CALLBACK = "callback"
    POLL = "poll"
    SUBMIT = "submit"
    DEADLINE = "deadline"
    CANCEL = "cancel"


class ErrorCode(StrEnum):
    """The error codes of failed jobs. They are the same for every provider."""

    #: The request is wrong. Sending it again cannot help.
    INVALID_REQUEST = "invalid_request"
    #: The provider does not know our API key.
    AUTHENTICATION = "authentication"
    #: The account has no credits.
    INSUFFICIENT_CREDITS = "insufficient_credits"
    #: The account may not use this model.
    PERMISSION = "permission"
    #: The model, or the provider task, does not exist.
    NOT_FOUND = "not_found"
    #: The request or an image in it is too large.
    TOO_LARGE = "too_large"
    #: Too many requests. A later request may succeed.
    RATE_LIMITED = "rate_limited"
    #: Too many tasks at once. A later request may succeed.
    TASK_LIMIT = "task_limit"
    #: The provider's content rules refuse the prompt or the result.
    CONTENT_POLICY = "content_policy"
    #: The provider tried and failed.
    GENERATION_FAILED = "generation_failed"
    #: The provider, or the network to it, is down.
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    #: The provider gave up after its own time limit.
    TIMEOUT = "timeout"
    #: The request may have reached the provider. No answer and no callback came.
    SUBMISSION_UNCONFIRMED = "submission_unconfirmed"
    #: The job's own deadline passed.
    DEADLINE_EXCEEDED = "deadline_exceeded"
    #: Cancelled by the caller or at the provider.
    CANCELLED = "cancelled"
    #: The provider's reason is not in its documents.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class JobError:
    """The reason why a job or an attempt failed.

    `provider_code` and `message` come from the provider if it gave any. `retryable` says whether
    the same request may succeed later.
    """

    code: ErrorCode
    message: str
    provider_code: str | None = None
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an attempt: "reported" by the provider or "computed" from a price table."""

    amount: float
    unit: str
    source: Literal["reported", "computed"] = "reported"


@dataclass(frozen=True, slots=True)
class Copy:
    """Our copy of an image in the archive. `path` is its place in the storage.

    It holds the bytes that the provider sent. They may also be a video, or a kind of image that we
    do not check.
    """

    path: str
    sha256: str
    bytes: int
    #: Pixels, or None when we do not know them.
    width: int | None
    height: int | None
    content_type: str
    archived_at: int
    #: Path of the thumbnail, which is made on its first use. Only a checked image has one.
    thumbnail: str | None
    #: The reason why the file is not a checked image; None: it is one.
    check_error: str | None = None

    @property
    def checked(self) -> bool:
        """Whether it is an image whose structure is whole."""
        return self.check_error is None


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a succeeded job: the provider's link and the link's expiry time (ms), if known.

    `copy` is our copy. While there is none, `error` is the reason of the last failed try.
    """

    source_url: str
    expires_at: int | None = None
    copy: Copy | None = None
    error: str | None = None
    #: The bytes of an image that came inside the answer. Then `source_url` is empty. They go to the
    #: storage, never to the ledger.
    content: bytes | None = field(default=None, repr=False)
    #: The number of failed tries to copy it.
    tries: int = 0
    #: It is not tried again: its link has expired, or no retry can mend the error.
    given_up: bool = False
    #: At the last try, the host said that there is no such file, or the like. More tries follow.
    missing: bool = False


class FollowUpStatus(StrEnum):
    """The state of an archive or a notification."""

    #: The job has no outcome yet.
    WAITING = "waiting"
    #: A try is due now or later.
    PENDING = "pending"
    #: Every image has a copy, or the caller accepted the notification.
    DONE = "done"
    #: All tries failed. A notification can be sent again.
    DEAD = "dead"
    #: The caller answered 410: it does not want the notification.
    GONE = "gone"
    #: Archiving was switched off when the job ended.
    OFF = "off"


@dataclass(frozen=True, slots=True)
class FollowUp:
    """The archive, the notification or the confirmation of a job."""

    status: FollowUpStatus
    #: The time when it became due, ms.
    since: int | None = None
    #: Number of tries, the time of the last one and the time of the next one (ms).
    tries: int = 0
    tried_at: int | None = None
    due_at: int | None = None
    #: The reason why the last try failed.
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A terminal status with images (succeeded) or with an error."""

    status: Status
    images: tuple[Image, ...] = ()
    error: JobError | None = None
    cost: Cost | None = None

    @classmethod
    def succeeded(cls, images: tuple[Image, ...], cost: Cost | None = None) -> Outcome:
        """Return the outcome of a task that made these images."""
        return cls(Status.SUCCEEDED, images=images, cost=cost)

    @classmethod
    def failed(cls, error: JobError, cost: Cost | None = None) -> Outcome:
        """Return the outcome of a task without images."""
        return cls(Status.FAILED, error=error, cost=cost)

    def expires_at(self, now: int) -> int:
        """Return the time when the first link may expire, ms. `now` is the time of the outcome."""
        return min(
            (image.expires_at or now + DEFAULT_LINK_LIFETIME_MS for image in self.images),
            default=now,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One submission of a job. `task_id` is None until the provider task is known.

    `provider` is set if the job has moved.
    """

    number: int
    submitted_at: int
    task_id: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A job left a provider for another one. `at` is ms. `reason` is an error or a wait reason."""

    at: int
    source: str
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class PendingFailure:
    """A failure that needs more evidence before it is the outcome.

    The provider reported a success without a result, or it does not know its task. Or our storage
    did not take the images of a success (`unstored`): then the outcome is that success.
    """

    #: The outcome's error, if the evidence does not change.
    error: JobError
    #: The time of the first such answer, ms.
    since: int
    #: The number of polls with such an answer.
    polls: int = 0
    kind: Literal["thin_success", "not_found", "unstored"] = "thin_success"


@dataclass(frozen=True, slots=True)
class Job:
    """A snapshot of one job in the ledger. Times are ms."""

    id: str
    status: Status
    request: JobRequest
    created_at: int
    updated_at: int
    deadline_at: int
    #: The owner of the job. It never changes.
    tenant: str = DEFAULT_TENANT
    #: The context of the trace that the job belongs to, from `tracing.context`; empty without one.
    trace: str = ""
    #: The id of the batch whose request made the job.
    batch: str | None = None
    #: The id of the job that this one retries, and that of the newest job that retries this one.
    retry_of: str | None = None
    retried_as: str | None = None
    attempts: tuple[Attempt, ...] = ()
    #: Consecutive tries in this status that changed nothing. They set the back-off.
    tries: int = 0
    #: The unconfirmed attempt that was replaced by a new one, or 0. This may happen once.
    resubmitted: int = 0
    images: tuple[Image, ...] = ()
    #: Images of a success that came after the outcome. They are numbered after `images`.
    late_images: tuple[Image, ...] = ()
    #: The attempts that made them.
    late_results: int = 0
    error: JobError | None = None
    #: Set while, or because, the provider's answers point to a failure.
    pending_failure: PendingFailure | None = None
    #: Why the provider took no attempt at the last try, or why it is paused.
    refusal: JobError | None = None
    cost: Cost | None = None
    settled_at: int | None = None
    settled_by: SettledBy | None = None
    #: None unless the job succeeded.
    archive: FollowUp | None = None
    #: None unless the request names a receiver.
    notification: FollowUp | None = None
    #: The pending notification is about the late result.
    notifies_late_result: bool = False
    #: None unless a callback came too late for a poll.
    confirmation: FollowUp | None = None
    #: The numbers of the attempts whose tasks the confirm step queries.
    confirms_attempts: tuple[int, ...] = ()
    #: The provider where the job is now, or where its outcome came from, if it moved there.
    moved_to: str | None = None
    moves: tuple[Move, ...] = ()
    #: The providers of the fallbacks that are left.
    fallback_left: tuple[str, ...] = ()

    @property
    def receiver(self) -> Receiver:
        """Who is notified of the outcome."""
        return self.request.receiver

    @property
    def provider(self) -> str:
        """The provider where the job is now, or where its outcome came from."""
        return self.moved_to or self.request.provider

    @property
    def model(self) -> str:
        """The model at this provider."""
        return self.request.at(self.provider).model

    def provider_of(self, number: int) -> str:
        """Return the provider of an attempt."""
        sent = (a.provider for a in self.attempts if a.number == number)
        return next(sent, None) or self.provider

    @property
    def all_images(self) -> tuple[Image, ...]:
        """The images of the outcome, and after them the late ones."""
        return (*self.images, *self.late_images)

    @property
    def done(self) -> bool:
        """Whether the job has its outcome and no follow-up is pending."""
        follows = map(self.follow_up, FOLLOW_UPS)
        pending = any(f is not None and f.status is FollowUpStatus.PENDING for f in follows)
        return self.status.terminal and not pending

    def follow_up(self, step: Step) -> FollowUp | None:
        """Return the state of a follow-up, or None if the job needs none.

        Raises:
            KeyError: the step leads to the outcome.
        """
        return {
            Step.ARCHIVE: self.archive,
            Step.NOTIFY: self.notification,
            Step.CONFIRM: self.confirmation,
        }[step]

    @property
    def attempt(self) -> Attempt:
        """The current attempt.

        Raises:
            LookupError: there is no attempt yet.
        """
        return self.attempts[-1]
