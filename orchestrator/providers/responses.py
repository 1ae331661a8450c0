"""The meanings of a provider's answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.model import Cost, Image, JobError, Outcome

_TASK_ID = re.compile(r"(?!\.\.?\Z)[!-~]{1,256}")  # "." and ".." have a meaning in a URL's path


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


class Stateless(Unreadable):
    """The document is a task with results and without a state. It counts only if no other does.

    Attributes:
        report: of the task, as if it ran.
    """

    def __init__(self, message: str, report: TaskReport) -> None:
        super().__init__(message)
        self.report = report


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
    """The query did not show the state of the task. `retry_after` is in seconds."""

    error: JobError
    retry_after: float | None = None


def task_id(value: Any) -> str:
    """Return a task id: 1 to 256 printable characters without spaces.

    Raises:
        Unreadable: the value is not such an id.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _TASK_ID.fullmatch(text):
        raise Unreadable("no task id of 1 to 256 printable characters")
    return text


def task_object(document: Any) -> dict[str, Any]:
    """Return a document that is a JSON object.

    Raises:
        Unreadable: it is something else.
    """
    if not isinstance(document, dict):
        raise Unreadable("a task is a JSON object")
    return document


def succeeded(made: tuple[Image, ...], cost: Cost | None = None) -> Outcome | None:
    """Return the outcome of a task that made these images, or None without an image.

    `Provider.report` is better: it also says that a success came without a result.
    """
    return Outcome.succeeded(made, cost) if made else None
