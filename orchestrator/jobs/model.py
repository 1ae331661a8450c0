"""Jobs, their attempts and outcomes: plain values, and the rules between them. No I/O here.

Times are integers: milliseconds since the Unix epoch, as the ledger stores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlsplit

Metadata = Mapping[str, Any]
#: A link that does not tell when it dies may die as early as the shortest-lived one that the
#: providers' documents name: EvoLink's, after 24 hours. ms.
DEFAULT_LINK_LIFETIME_MS = 86_400_000
#: The unified fields of a request, in the order of its schema.
UNIFIED_OPTIONS = ("prompt", "images", "aspect_ratio", "resolution", "output_format", "n")
OnUnconfirmed = Literal["fail", "resubmit"]


class Status(StrEnum):
    """Where a job stands. `queued -> submitting -> running -> terminal` is the short way."""

    #: Accepted by us; nothing has been sent to the provider for the next attempt.
    QUEUED = "queued"
    #: A worker holds the lease and may have sent the request.
    SUBMITTING = "submitting"
    #: The request may have reached the provider; no readable answer came.
    UNCONFIRMED = "unconfirmed"
    #: The provider accepted the attempt and told us its task id.
    RUNNING = "running"
    #: Terminal: the provider made the images.
    SUCCEEDED = "succeeded"
    #: Terminal: there will be no images; the error says why.
    FAILED = "failed"
    #: Terminal: called off.
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether a job in this status has its one outcome."""
        return self in TERMINAL


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


class Step(StrEnum):
    """What a worker does with a job whose next look is due."""

    #: The two that lead to the outcome, one after the other.
    SUBMIT = "submit"
    POLL = "poll"
    #: The two that follow from it, each on its own: copy the images, tell the caller.
    ARCHIVE = "archive"
    NOTIFY = "notify"


#: The steps that follow from an outcome.
FOLLOW_UPS = (Step.ARCHIVE, Step.NOTIFY)

#: The step that each open status waits for. Terminal statuses have none.
STEP_OF: Mapping[Status, Step] = {
    Status.QUEUED: Step.SUBMIT,
    Status.SUBMITTING: Step.SUBMIT,
    Status.UNCONFIRMED: Step.SUBMIT,
    Status.RUNNING: Step.POLL,
}


class SettledBy(StrEnum):
    """What brought a job its outcome."""

    CALLBACK = "callback"
    POLL = "poll"
    SUBMIT = "submit"
    DEADLINE = "deadline"
    CANCEL = "cancel"


class ErrorCode(StrEnum):
    """The closed vocabulary of failures, the same for every provider."""

    #: The request itself is wrong; sending it again cannot help.
    INVALID_REQUEST = "invalid_request"
    #: The provider does not know our API key.
    AUTHENTICATION = "authentication"
    #: The account has no credits left.
    INSUFFICIENT_CREDITS = "insufficient_credits"
    #: The account may not use this model.
    PERMISSION = "permission"
    #: The model, or the provider task, does not exist.
    NOT_FOUND = "not_found"
    #: The request or an image in it is too large.
    TOO_LARGE = "too_large"
    #: Too many requests; later is fine.
    RATE_LIMITED = "rate_limited"
    #: Too many tasks at once; later is fine.
    TASK_LIMIT = "task_limit"
    #: The provider's content rules refuse the prompt or the result.
    CONTENT_POLICY = "content_policy"
    #: The provider tried and failed.
    GENERATION_FAILED = "generation_failed"
    #: The provider, or the way to it, is down.
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    #: The provider gave up after its own time limit.
    TIMEOUT = "timeout"
    #: The request may have reached the provider, and nothing ever told.
    SUBMISSION_UNCONFIRMED = "submission_unconfirmed"
    #: The job's own deadline passed.
    DEADLINE_EXCEEDED = "deadline_exceeded"
    #: Called off, by the caller or at the provider.
    CANCELLED = "cancelled"
    #: The provider gave a reason that its documents do not list.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job, or one attempt of it, failed.

    `provider_code` and `message` are the provider's own words where it gave any. `retryable` says
    whether the same request may succeed later.
    """

    code: ErrorCode
    message: str
    provider_code: str | None = None
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What an attempt cost, and how we know: "reported" by the provider, or "computed" by us."""

    amount: float
    unit: str
    source: Literal["reported", "computed"] = "reported"


@dataclass(frozen=True, slots=True)
class Copy:
    """Our own copy of an image: where it lies in the archive, and what it is."""

    path: str
    sha256: str
    bytes: int
    width: int
    height: int
    content_type: str
    archived_at: int
    #: Where its thumbnail lies.
    thumbnail: str


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a succeeded job: the provider's link, and when that link dies (if it says).

    `copy` is ours, once there is one; until then `error` says what kept the last try from it.
    """

    source_url: str
    expires_at: int | None = None
    copy: Copy | None = None
    error: str | None = None


class FollowUpStatus(StrEnum):
    """How far an archive or a notification is."""

    #: The job has no outcome yet.
    WAITING = "waiting"
    #: To be done, for the first time or again.
    PENDING = "pending"
    #: Every image has its copy, or the caller knows.
    DONE = "done"
    #: Given up; a notification can be sent again by hand.
    DEAD = "dead"
    #: The caller's server said 410: it does not want to be told.
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What follows from a job's outcome: its archive, or the notification of its caller."""

    status: FollowUpStatus
    #: When it was first due, or due again (ms).
    since: int | None = None
    #: Tries so far, and when the last one was (ms), and the next one will be.
    tries: int = 0
    tried_at: int | None = None
    due_at: int | None = None
    #: Why the last try failed.
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A terminal outcome: a terminal status, with images if it succeeded, else with an error."""

    status: Status
    images: tuple[Image, ...] = ()
    error: JobError | None = None
    cost: Cost | None = None

    @classmethod
    def succeeded(cls, images: tuple[Image, ...], cost: Cost | None = None) -> Outcome:
        """The provider made these images."""
        return cls(Status.SUCCEEDED, images=images, cost=cost)

    @classmethod
    def failed(cls, error: JobError, cost: Cost | None = None) -> Outcome:
        """There will be no images."""
        return cls(Status.FAILED, error=error, cost=cost)

    def expires_at(self, now: int) -> int:
        """When the first of its links may be dead, for those made `now`. ms."""
        return min(
            (image.expires_at or now + DEFAULT_LINK_LIFETIME_MS for image in self.images),
            default=now,
        )


@dataclass(frozen=True, slots=True)
class Upload:
    """A reference image that the caller handed over as a file. The ledger holds its bytes."""

    name: str
    content_type: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a caller asked for, validated.

    `options` holds the unified fields (prompt, images, aspect_ratio, ...), or is empty when
    `native` holds the provider's own body, without its callback. `provider_options` is merged
    into the body made of `options`, last.
    """

    provider: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    native: Mapping[str, Any] | None = None
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    upload: Upload | None = None
    metadata: Metadata = field(default_factory=dict)
    deadline_seconds: float | None = None
    on_unconfirmed: OnUnconfirmed = "fail"
    #: How the caller wants to be told of the outcome: by one of these, or not at all.
    notify_url: str | None = None
    notify_task: str | None = None
    notify_stream: str | None = None
    #: The Celery queue that `notify_task` is sent to.
    notify_queue: str | None = None

    @property
    def notifies(self) -> str | None:
        """Where the caller wants to be told of the outcome; of a URL, which may hold secrets, the
        host only. None: it does not.
        """
        if self.notify_url:
            return urlsplit(self.notify_url).netloc.rpartition("@")[2].lower()
        return self.notify_task or self.notify_stream

    def stored(self) -> dict[str, Any]:
        """The request as the ledger keeps it: only what was said."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {})}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One submission of a job. `task_id` is None until the provider task is known."""

    number: int
    submitted_at: int
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One request for images, with one terminal outcome. A snapshot of what the ledger holds."""

    id: str
    status: Status
    request: JobRequest
    created_at: int
    updated_at: int
    deadline_at: int
    attempts: tuple[Attempt, ...] = ()
    #: Consecutive looks without news in this status; steers the back-off.
    tries: int = 0
    #: Whether an unconfirmed attempt was given up for another one, which may be done once.
    resubmitted: bool = False
    images: tuple[Image, ...] = ()
    error: JobError | None = None
    cost: Cost | None = None
    settled_at: int | None = None
    settled_by: SettledBy | None = None
    #: None unless it succeeded.
    archive: FollowUp | None = None
    #: None unless its caller wants to be told.
    notification: FollowUp | None = None

    @property
    def done(self) -> bool:
        """Whether it has its outcome, and nothing follows any more."""
        follows = (self.archive, self.notification)
        pending = any(f is not None and f.status is FollowUpStatus.PENDING for f in follows)
        return self.status.terminal and not pending

    @property
    def attempt(self) -> Attempt:
        """The current attempt.

        Raises:
            LookupError: nothing was submitted yet.
        """
        return self.attempts[-1]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's timeline."""

    at: int
    name: str
    detail: Mapping[str, Any]
