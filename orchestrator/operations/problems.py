"""Why a request made no job, as a problem document (RFC 9457)."""

from __future__ import annotations

import math
from typing import Any

from orchestrator.enqueuing import IdempotencyGone, IdempotencyMismatch, TenantLimitReached
from orchestrator.jobs.validation import MAX_VIOLATIONS, InvalidRequest, Violation, plain

#: The errors of a request that made no job.
JOB_REFUSED = (InvalidRequest, IdempotencyMismatch, IdempotencyGone, TenantLimitReached)
JobRefused = InvalidRequest | IdempotencyMismatch | IdempotencyGone | TenantLimitReached


def problem_document(
    status: int, kind: str, title: str, detail: str, **more: Any
) -> dict[str, Any]:
    """Return a problem document. `kind` is part of the type URI; `more` are extension members."""
    return {
        "type": f"urn:orchestrator:problem:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        **more,
    }


def problem_of(error: JobRefused) -> dict[str, Any]:
    """Return the problem document of a request that made no job."""
    match error:
        case InvalidRequest():
            listed = [_violation(violation) for violation in error.violations[:MAX_VIOLATIONS]]
            title = "The request is not valid"
            return problem_document(422, "invalid-request", title, str(error)[:2000], errors=listed)
        case IdempotencyMismatch():
            title = "The idempotency key was used before"
            return problem_document(422, "idempotency-mismatch", title, str(error))
        case IdempotencyGone():
            title = "The job of the idempotency key has expired"
            return problem_document(410, "idempotency-gone", title, str(error), job_id=error.job_id)
        case TenantLimitReached():
            title = "A limit of the tenant is reached"
            wait = {"limit": error.limit, "retry_after": retry_after(error)}
            return problem_document(429, "tenant-limit", title, str(error), **wait)


def retry_after(error: TenantLimitReached) -> int:
    """Return the time after which the limit may allow another job, whole seconds."""
    return max(1, math.ceil(error.retry_after))


def _violation(violation: Violation) -> dict[str, str]:
    return {
        "field": violation.field,
        "value": plain(violation.value),
        "allowed": str(violation.allowed),
        "message": str(violation),
    }
