"""Pauses a provider for all jobs after an answer that concerns all of them."""

from __future__ import annotations

from orchestrator import log
from orchestrator.jobs.model import ErrorCode, Step
from orchestrator.providers.responses import QueryFailed, Rejected
from orchestrator.runtime import Runtime

#: Errors of our account: the next job gets the same answer until somebody acts.
ACCOUNT_ERRORS = frozenset(
    {ErrorCode.AUTHENTICATION, ErrorCode.INSUFFICIENT_CREDITS, ErrorCode.PERMISSION}
)


def pause_after(
    runtime: Runtime, provider: str, step: Step, answer: Rejected | QueryFailed, wait: float
) -> None:
    """Pause a provider if its answer concerns all jobs: an account error, or a Retry-After.

    Args:
        runtime: of this process.
        provider: of the call.
        step: SUBMIT or POLL.
        answer: the provider's answer.
        wait: the length of the pause, seconds.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    error = answer.error
    if answer.retry_after is None and error.code not in ACCOUNT_ERRORS:
        return
    now = runtime.clock()
    runtime.ledger.admission.hold(provider, step, error, now=now, ends_at=now + int(wait * 1000))
    log.get().warning(
        "provider_paused", provider=provider, step=step, code=error.code, seconds=round(wait)
    )
