"""The history: a record of all jobs in SQL, for searches and reports. It decides nothing.

The recorder fills it from the ledger. The ledger never reads it.
"""

from orchestrator.history.database import HistoryUnavailable, NoHistory
from orchestrator.history.entry import Entry
from orchestrator.history.history import History
from orchestrator.history.query import Query

__all__ = ["Entry", "History", "HistoryUnavailable", "NoHistory", "Query"]
