"""How long the tasks of each provider took lately, for operators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.ledger.durations import ModelDurations
from orchestrator.runtime import Runtime


def duration_views(runtime: Runtime, names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the durations of providers as JSON-ready data: of all jobs first, then by model.

    They tell about other tenants' jobs, so they are for administrators.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    known = runtime.ledger.durations.of(names)
    return {name: [_view(each) for each in durations] for name, durations in known.items()}


def _view(durations: ModelDurations) -> dict[str, Any]:
    early, median, late = (round(durations.quantile(part), 1) for part in (0.15, 0.5, 0.9))
    return {
        "model": durations.model or None,
        "results": len(durations.seconds),
        "p15_seconds": early,
        "p50_seconds": median,
        "p90_seconds": late,
    }
