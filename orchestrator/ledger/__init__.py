"""The ledger: the store of record for jobs, in Redis, and the only place where state changes."""

from orchestrator.ledger.admission import ProviderLimits, ProviderSign, Waiting, WaitReason
from orchestrator.ledger.ledger import Ledger
from orchestrator.ledger.refusals import LedgerMisconfigured, LedgerUnavailable
from orchestrator.ledger.results import Created, Idempotency, Lease, Result, Room, Settlement

__all__ = [
    "Created",
    "Idempotency",
    "Lease",
    "Ledger",
    "LedgerMisconfigured",
    "LedgerUnavailable",
    "ProviderLimits",
    "ProviderSign",
    "Result",
    "Room",
    "Settlement",
    "WaitReason",
    "Waiting",
]
