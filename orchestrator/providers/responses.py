"""The meanings of a provider's answers, and helpers for adapters that read them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.model import Cost, ErrorCode, Image, JobError, Outcome
from orchestrator.net.http_types import Reply

_TASK_ID = re.compile(r"(?!\.\.?\Z)[!-~]{1,256}")  # "." and ".." have a meaning in a URL's path
#: The longest accepted link. Characters.
_MAX_LINK_CHARACTERS = 8192
#: The longest stored error message and error code. Characters.
_MAX_MESSAGE_CHARACTERS = 1000
_MAX_CODE_CHARACTERS = 100


class Unreadable(ValueError):
    """The document does not have the provider's shape."""


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The state of a task. `outcome` is None until the task has one.

    `thin_success` is set when the provider reports a success but the answer holds no usable result.
    It is the error that the job fails with if no result is found later. `images` are the results
    in the answer, also while the state is not terminal.
    """

    task_id: str
    state: str
    outcome: Outcome | None = None
    thin_success: JobError | None = None
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider accepted the request.

    `estimate` is the provider's own estimate of the time, seconds. `outcome` is set when the answer
    already holds the finished task. `thin_success` is the error of a success without a usable
    result, as in TaskReport.
    """

    task_id: str
    estimate: float | None = None
    cost: Cost | None = None
    outcome: Outcome | None = None
    thin_success: JobError | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider refused the request: there is no task. `retry_after` is in seconds."""

    error: JobError
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Nobody knows whether there is a task. `retry_after` is in seconds."""

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class TaskNotFound:
    """The provider does not know the task."""


@dataclass(frozen=True, slots=True)
class QueryFailed:
    """The query gave no news of the task. `retry_after` is in seconds."""

    error: JobError
    retry_after: float | None = None


#: HTTP status -> error code, and whether the error may pass. For answers without a better reason.
STATUS_ERRORS: Mapping[int, tuple[ErrorCode, bool]] = {
    400: (ErrorCode.INVALID_REQUEST, False),
    401: (ErrorCode.AUTHENTICATION, False),
    402: (ErrorCode.INSUFFICIENT_CREDITS, False),
    403: (ErrorCode.PERMISSION, False),
    404: (ErrorCode.NOT_FOUND, False),
    408: (ErrorCode.TIMEOUT, True),
    409: (ErrorCode.TASK_LIMIT, True),
    413: (ErrorCode.TOO_LARGE, False),
    422: (ErrorCode.INVALID_REQUEST, False),
    429: (ErrorCode.RATE_LIMITED, True),
}


def task_id(value: Any) -> str:
    """Return a task id: 1 to 256 printable characters without spaces.

    Raises:
        Unreadable: the value is not such an id.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _TASK_ID.fullmatch(text):
        raise Unreadable("no task id of 1 to 256 printable characters")
    return text


def images(links: Sequence[tuple[Any, int | None]]) -> tuple[Image, ...]:
    """Return the images of (link, expiry time in ms) pairs. Other values are dropped."""
    return tuple(
        Image(link, expires)
        for link, expires in links
        if isinstance(link, str)
        and link.startswith(("https://", "http://"))
        and len(link) <= _MAX_LINK_CHARACTERS
    )


def succeeded(made: tuple[Image, ...], cost: Cost | None = None) -> Outcome:
    """Return the outcome of a successful task. A success without an image is a failure."""
    if made:
        return Outcome.succeeded(made, cost)
    message = "the provider reported success without an image"
    return Outcome.failed(JobError(ErrorCode.GENERATION_FAILED, message, retryable=True), cost)


def failure(error: Any, known: Mapping[str, tuple[ErrorCode, bool]]) -> JobError:
    """Return the error of a failed task from its `{code, message}`.

    Args:
        error: the provider's error object.
        known: the provider's codes -> our code, and whether the error may pass. Another code is a
            failed generation.
    """
    details = error if isinstance(error, dict) else {}
    named = provider_code(details.get("code"))
    code, retryable = known.get(named or "", (ErrorCode.GENERATION_FAILED, False))
    return JobError(code, words(details.get("message"), "the task failed"), named, retryable)


def words(value: Any, fallback: str) -> str:
    """Return a provider's message, shortened, or `fallback` without a message."""
    return value[:_MAX_MESSAGE_CHARACTERS] if isinstance(value, str) and value else fallback


def provider_code(value: Any) -> str | None:
    """Return a provider's error code, shortened, or None without a code."""
    return value[:_MAX_CODE_CHARACTERS] if isinstance(value, str) and value else None


def by_status(status: int) -> tuple[ErrorCode, bool]:
    """Return the error code of an HTTP status, and whether the error may pass."""
    unlisted = (
        (ErrorCode.PROVIDER_UNAVAILABLE, True) if status >= 500 else (ErrorCode.UNKNOWN, False)
    )
    return STATUS_ERRORS.get(status, unlisted)


def bare_error(reply: Reply) -> JobError:
    """Return the error of an answer without an error document of the provider."""
    code, retryable = by_status(reply.status)
    message = f"HTTP {reply.status} without an error document"
    if 300 <= reply.status < 400:
        message += "; redirects are not followed: check the provider's base URL"
    return JobError(code, message, str(reply.status), retryable)
