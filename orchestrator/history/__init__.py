"""The history: a record of all jobs in SQL, for searches and reports. It decides nothing.

The recorder fills it from the ledger. The ledger never reads it.

`open_history` loads SQLAlchemy. That takes a third of the start of a process, and most processes
never read the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.history.entry import Entry
from orchestrator.history.errors import HistoryUnavailable, NoHistory
from orchestrator.history.query import Query

if TYPE_CHECKING:
    from orchestrator.history.history import History

__all__ = ["Entry", "HistoryUnavailable", "NoHistory", "Query", "open_history"]


def open_history(url: str | None = None) -> History:
    """Return the history at a URL. For the arguments see `History`."""
    from orchestrator.history.history import History  # noqa: PLC0415  # loads SQLAlchemy

    return History(url)
