"""The state of an installation in figures."""

from __future__ import annotations

from typing import Any

from orchestrator.jobs import Status
from orchestrator.risk import at_risk, money
from orchestrator.runtime import Runtime

#: Events that repeat or contradict what was known, as the ledger counts them.
CONTRADICTIONS = ("duplicate", "conflict", "mismatch", "superseded")


def stats(runtime: Runtime) -> dict[str, Any]:
    """Jobs by status, what is overdue, contradictions, and money at risk; JSON-ready.

    Open statuses count the jobs that are in them now, terminal ones all that ever ended so.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    now = runtime.clock()
    counts, agenda = runtime.ledger.overview.counts(), runtime.ledger.overview.agenda(now=now)
    number, attempts = at_risk(runtime)
    swept = runtime.ledger.last_sweep()
    return {
        "jobs": {status.value: counts.get(status, 0) for status in Status},
        "agenda": {"open": agenda.open, "due": agenda.due, "lag_seconds": agenda.lag / 1000},
        "contradictions": {name: counts.get(name, 0) for name in CONTRADICTIONS},
        "unconfirmed": {"attempts": number, "money_at_risk": money(runtime, attempts)},
        "last_sweep_seconds_ago": None if swept is None else (now - swept) / 1000,
    }
