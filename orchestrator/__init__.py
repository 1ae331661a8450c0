"""Enqueue an image job once; get exactly one outcome, pay once, keep the image.

from orchestrator import enqueue, get

job = enqueue(provider="hiapi", model="Nano-Banana-2", prompt="A lighthouse at dusk")
get(job.id).status
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.enqueuing import (
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

#: The module of each name. It is loaded at the first use of the name, because some processes of
#: ours use none: the modules take 40 MB and half a second.
_MODULES = {
    "BatchEntry": "orchestrator.operations.batches",
    "BatchResult": "orchestrator.operations.batches",
    "IdempotencyGone": "orchestrator.enqueuing",
    "IdempotencyMismatch": "orchestrator.enqueuing",
    "InvalidRequest": "orchestrator.jobs.validation",
    "Job": "orchestrator.jobs.model",
    "LedgerUnavailable": "orchestrator.ledger",
    "Status": "orchestrator.jobs.model",
    "TenantLimitReached": "orchestrator.enqueuing",
    "cancel": "orchestrator.enqueuing",
    "enqueue": "orchestrator.enqueuing",
    "enqueue_batch": "orchestrator.operations.batches",
    "get": "orchestrator.enqueuing",
}

if not TYPE_CHECKING:  # a type checker would accept every name

    def __getattr__(name: str) -> object:
        """Load the module of a public name."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(_MODULES[name]), name)
        return globals()[name]

    def __dir__() -> list[str]:
        """Return the public names, also those that nobody has used."""
        return sorted({*globals(), *__all__})
