"""The usage report: what was made and what it cost, by day, tenant, provider or model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.clock import DAY_MS
from orchestrator.history.usage import DIMENSIONS, Usage
from orchestrator.jobs.model import Status
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation
from orchestrator.jsonio import rfc3339
from orchestrator.operations.csv_text import csv_text
from orchestrator.operations.filters import read_query
from orchestrator.operations.history_state import HistoryState, history_report
from orchestrator.runtime import Runtime

#: The filters of a report. They are those of a list with these names.
FILTERS = ("created_after", "created_before", "tenant", "provider", "model")
#: The time that a report covers if no filter says when it begins. Days.
DEFAULT_DAYS = 30
#: The columns of a row after those of its group.
FIGURES = (
    *("unit", "jobs", "succeeded", "failed", "cancelled", "open", "images"),
    *("cost_reported", "cost_computed", "cost_unknown_jobs"),
    *("callback_share", "median_seconds", "p95_seconds"),
)
#: The decimals of a cost. Sums of fractions have more digits than a price has.
_COST_DECIMALS = 6


def usage_report(runtime: Runtime, filters: Mapping[str, str], by: Iterable[str]) -> dict[str, Any]:
    """Return a report as JSON-ready data.

    Args:
        runtime: of this process.
        filters: names of FILTERS and their values.
        by: what the jobs are grouped by: names of `DIMENSIONS`.

    Returns:
        `by`, `created_after`, `created_before` (RFC 3339), `rows` with the groups and FIGURES, and
        `incomplete` with the reason if jobs may be missing.

    Raises:
        InvalidRequest: a name or a value is wrong.
        HistoryUnavailable: the database does not answer, or no recorder has ever run.
        LedgerUnavailable: Redis is away.
    """
    dimensions = _dimensions(by)
    now = runtime.clock()
    chosen = {"created_before": rfc3339(now), **filters}
    chosen.setdefault("created_after", rfc3339(now - DEFAULT_DAYS * DAY_MS))
    query = read_query(runtime, chosen.items())
    rows = [_row(usage) for usage in runtime.history.usage(query, dimensions)]
    report = {
        "by": dimensions,
        "created_after": rfc3339(query.after),
        "created_before": rfc3339(query.before),
        "rows": rows,
    }
    state = history_report(runtime.ledger, runtime.history, now=now).state
    if state is not HistoryState.CURRENT:
        report["incomplete"] = f"the history is {state}, so jobs may be missing"
    return report


def as_csv(report: Mapping[str, Any]) -> str:
    """Return a report as CSV (RFC 4180) with a header line."""
    return csv_text([*report["by"], *FIGURES], report["rows"])


def _dimensions(by: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(by))
    unknown = [name for name in names if name not in DIMENSIONS]
    if unknown:
        raise InvalidRequest(*(Violation("by", name, OneOfNames(DIMENSIONS)) for name in unknown))
    return names


def _row(usage: Usage) -> dict[str, Any]:
    terminal = {s.value: usage.jobs[s.value] for s in Status if s.terminal}
    settled = usage.settled
    return {
        **usage.group,
        "unit": usage.unit,
        "jobs": usage.jobs.total(),
        **terminal,
        "open": usage.jobs.total() - settled,
        "images": usage.images,
        "cost_reported": round(usage.reported, _COST_DECIMALS),
        "cost_computed": round(usage.computed, _COST_DECIMALS),
        "cost_unknown_jobs": usage.unknown_costs,
        "callback_share": round(usage.callbacks / settled, 3) if settled else None,
        "median_seconds": usage.seconds(0.5),
        "p95_seconds": usage.seconds(0.95),
    }
