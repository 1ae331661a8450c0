"""The batch step: complete a batch whose jobs have their outcomes, and notify its caller."""

from __future__ import annotations

from functools import partial

from orchestrator.delivery.message import batch_message
from orchestrator.runtime import Runtime
from orchestrator.step_loop import in_thread
from orchestrator.steps.delivery import LEASE_MS, Notice, send

#: A settlement that may complete a batch nudges this step. A batch whose nudge was lost is checked
#: again after this time. ms.
CHECK_INTERVAL_MS = 15_000


def batch(runtime: Runtime, batch_id: str) -> None:
    """Do the batch step of a batch: check its jobs, or send its notification if that is due.

    Raises:
        LedgerUnavailable: nothing is lost. The sweep brings the batch back.
    """
    batches, now = runtime.ledger.batches, runtime.clock()
    current = in_thread(batches.get, batch_id)
    if current is None:
        return
    if current.completed_at is None:
        in_thread(batches.complete, current, now=now, next_check=now + CHECK_INTERVAL_MS)
    lease = in_thread(batches.claim, batch_id, now=now, lease_ms=LEASE_MS)
    if lease is None:
        return
    notice = Notice(
        lease.batch,
        partial(batch_message, lease.batch),
        later=lambda **plan: in_thread(batches.later, lease, **plan),
        done=lambda ended, **end: in_thread(batches.done, lease, ended, **end),
    )
    send(runtime, notice)
