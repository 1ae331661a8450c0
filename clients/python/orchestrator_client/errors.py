"""The errors of the client. Those of the API come from problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator_client.models import Job, Problem, Violation


class OrchestratorError(Exception):
    """Every error of this package."""


class ApiError(OrchestratorError):
    """The API refused a call.

    Attributes:
        status: the HTTP status.
        problem: the problem document.
        request_id: finds the request in the server's log.
        retry_after: seconds after which the call may work, if the server named them.
    """

    def __init__(
        self, problem: Problem, *, request_id: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(problem.detail or problem.title or f"HTTP status {problem.status}")
        self.problem = problem
        self.status = problem.status
        self.request_id = request_id
        self.retry_after = retry_after


class InvalidRequest(ApiError):
    """400, 413, 415 or 422: the request is wrong. `violations` names each field."""

    @property
    def violations(self) -> Sequence[Violation]:
        """What is wrong, field by field."""
        return self.problem.errors


class IdempotencyMismatch(InvalidRequest):
    """422: the idempotency key was used for another request."""


class AuthenticationFailed(ApiError):
    """401: the key is absent, unknown, expired or revoked."""


class PermissionDenied(ApiError):
    """403: the key lacks a scope, or the job belongs to another tenant."""


class NotFound(ApiError):
    """404: there is no such thing, or it belongs to another tenant."""


class Conflict(ApiError):
    """409: the state of the job or batch does not allow it."""


class Gone(ApiError):
    """410: it existed, and is gone."""


class LimitReached(ApiError):
    """429: a limit is reached. `limit` is its name."""

    @property
    def limit(self) -> str | None:
        """The name of the limit."""
        return self.problem.limit


class ServerError(ApiError):
    """5xx: the server, or what it needs, is away. With the same idempotency key, try again."""


class ConnectionFailed(OrchestratorError):
    """No answer came. The request may have arrived: repeat it with the same idempotency key."""


class UnexpectedAnswer(OrchestratorError):
    """The answer is not of an image orchestrator: `base_url` may be wrong."""


class WaitTimeout(OrchestratorError):
    """There is no outcome in the given time. The job goes on; `job` shows it as it was."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.id} is {job.status}, and has no outcome yet")
        self.job = job


class DownloadFailed(OrchestratorError):
    """An image has other bytes than the archive recorded. No file was written."""


_KINDS: dict[int, type[ApiError]] = {
    **dict.fromkeys((400, 413, 415, 422), InvalidRequest),
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: LimitReached,
}


def error_kind(problem: Problem) -> type[ApiError]:
    """Return the class of the error for a problem."""
    if problem.type.endswith(":idempotency-mismatch"):
        return IdempotencyMismatch
    return _KINDS.get(problem.status, ServerError if problem.status >= 500 else ApiError)
