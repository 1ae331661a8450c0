"""Enqueue an image job once; get exactly one outcome, pay once, keep the image.

from orchestrator import enqueue, get

job = enqueue(provider="hiapi", model="Nano-Banana-2", prompt="A lighthouse at dusk")
get(job.id).status
"""

from orchestrator.enqueue import (
    IdempotencyGone,
    IdempotencyMismatch,
    TenantLimitReached,
    cancel,
    enqueue,
    get,
)
from orchestrator.jobs.model import Job, Status
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger import LedgerUnavailable
from orchestrator.operations.batches import BatchEntry, BatchResult, enqueue_batch

__all__ = [
    "BatchEntry",
    "BatchResult",
    "IdempotencyGone",
    "IdempotencyMismatch",
    "InvalidRequest",
    "Job",
    "LedgerUnavailable",
    "Status",
    "TenantLimitReached",
    "cancel",
    "enqueue",
    "enqueue_batch",
    "get",
]
