"""The ledger: the store of record for jobs, in Redis, and the only place where state changes."""

from orchestrator.ledger.admission import (
    Departure,
    Moved,
    ProviderLimits,
    ProviderSign,
    Waiting,
    WaitReason,
)
from orchestrator.ledger.durations import FirstPoll, LearnedWait
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.refusals import (
    LedgerMisconfigured,
    LedgerMismatch,
    LedgerUnavailable,
    UnreadableJob,
)
from orchestrator.ledger.results import Created, Idempotency, Lease, Result, Room, Settlement

__all__ = [
    "Created",
    "Departure",
    "FirstPoll",
    "Idempotency",
    "LearnedWait",
    "Lease",
    "Ledger",
    "LedgerMisconfigured",
    "LedgerMismatch",
    "LedgerUnavailable",
    "Moved",
    "ProviderLimits",
    "ProviderSign",
    "Result",
    "Room",
    "Settlement",
    "UnreadableJob",
    "WaitReason",
    "Waiting",
]
