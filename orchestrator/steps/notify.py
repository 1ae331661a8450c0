"""The notify step: send a job's outcome to its caller."""

from __future__ import annotations

from functools import partial

from orchestrator import tracing
from orchestrator.delivery.message import message
from orchestrator.jobs.model import Step
from orchestrator.runtime import Runtime
from orchestrator.steps.delivery import LEASE_MS, Notice, send


def notify(runtime: Runtime, job_id: str) -> None:
    """Do the notify step of a job, if its notification is due and not leased.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the sweep brings the job back.
    """
    follow_ups = runtime.ledger.follow_ups
    lease = follow_ups.claim(job_id, Step.NOTIFY, now=runtime.clock(), lease_ms=LEASE_MS)
    if lease is None:
        return
    notice = Notice(
        lease.job,
        partial(message, lease.job, runtime.settings.public_url),
        later=partial(follow_ups.later, lease, Step.NOTIFY),
        done=partial(follow_ups.done, lease, Step.NOTIFY),
    )
    with tracing.step_span(Step.NOTIFY, job_id, lease.job.provider, lease.job.trace):
        send(runtime, notice)
