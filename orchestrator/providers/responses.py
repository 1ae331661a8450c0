"""What a provider's answer means: the closed set of readings, and how an adapter comes by them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.model import Cost, ErrorCode, Image, JobError, Outcome
from orchestrator.net.http_types import Reply

_TASK_ID = re.compile(r"(?!\.\.?\Z)[!-~]{1,256}")  # dots alone are no name in a URL's path
#: The longest link that is taken for one. Characters.
_MAX_LINK = 8192
#: How much of a provider's error message, and of its error code, is kept. Characters.
_MAX_MESSAGE = 1000
_MAX_CODE = 100


class Unreadable(ValueError):
    """A document that has not the provider's shape."""


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What a provider says of a task; `outcome` is None while it is not terminal."""

    task_id: str
    state: str
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the request. `estimate` is its own guess of the time needed, seconds.

    `outcome` is there when the task was done by the time of the answer.
    """

    task_id: str
    estimate: float | None = None
    cost: Cost | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider said no: there is no task, and nothing to pay. `retry_after` is in seconds."""

    error: JobError
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """There may be a task, or not. `retry_after` is in seconds."""

    reason: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class TaskNotFound:
    """The provider does not know the task (yet, or any more)."""


@dataclass(frozen=True, slots=True)
class QueryFailed:
    """A query that told nothing of the task. `retry_after` is in seconds."""

    error: JobError
    retry_after: float | None = None


#: What an HTTP status means where a provider gives no better reason: code, and whether it passes.
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
    """A task id from outside: printable, without spaces, of sane length.

    Raises:
        Unreadable: it is not.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _TASK_ID.fullmatch(text):
        raise Unreadable("no task id of 1 to 256 printable characters")
    return text


def images(links: Sequence[tuple[Any, int | None]]) -> tuple[Image, ...]:
    """The images among (link, expiry in ms) pairs from outside; what is no http(s) link is left."""
    return tuple(
        Image(link, expires)
        for link, expires in links
        if isinstance(link, str)
        and link.startswith(("https://", "http://"))
        and len(link) <= _MAX_LINK
    )


def succeeded(pictures: tuple[Image, ...], cost: Cost | None = None) -> Outcome:
    """The outcome of a task that its provider calls a success: a failure if there is no image."""
    if pictures:
        return Outcome.succeeded(pictures, cost)
    message = "the provider reported success without an image"
    return Outcome.failed(JobError(ErrorCode.GENERATION_FAILED, message, retryable=True), cost)


def failure(error: Any, known: Mapping[str, tuple[ErrorCode, bool]]) -> JobError:
    """Why a task failed, from its `{code, message}`; `known` puts the codes in our vocabulary.

    An unlisted code is a failed generation, which the same request would repeat.
    """
    told = error if isinstance(error, dict) else {}
    named = provider_code(told.get("code"))
    code, retryable = known.get(named or "", (ErrorCode.GENERATION_FAILED, False))
    return JobError(code, words(told.get("message"), "the task failed"), named, retryable)


def words(value: Any, fallback: str) -> str:
    """A provider's message, shortened; `fallback` when it gave none."""
    return value[:_MAX_MESSAGE] if isinstance(value, str) and value else fallback


def provider_code(value: Any) -> str | None:
    """A provider's error code, shortened; None when it gave none."""
    return value[:_MAX_CODE] if isinstance(value, str) and value else None


def by_status(status: int) -> tuple[ErrorCode, bool]:
    """What an HTTP status means by itself, and whether the error may pass."""
    unlisted = (
        (ErrorCode.PROVIDER_UNAVAILABLE, True) if status >= 500 else (ErrorCode.UNKNOWN, False)
    )
    return STATUS_ERRORS.get(status, unlisted)


def bare_error(reply: Reply) -> JobError:
    """An error that came without the provider's own words."""
    code, retryable = by_status(reply.status)
    message = f"HTTP {reply.status} without the provider's own words"
    if 300 <= reply.status < 400:
        message += "; redirects are not followed: check the provider's base URL"
    return JobError(code, message, str(reply.status), retryable)
