"""`/metrics`: the figures of `/v1/stats`, for Prometheus.

They are read from the ledger, so every process of an installation tells the same, and none has to
remember anything. Open to all, like the health checks: they name nobody, and are read at most once
a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from orchestrator.operations.stats import stats
from orchestrator.runtime import Runtime

#: For how long figures are told again before they are read anew. Seconds.
FRESH = 1.0


class _Figures:
    """Collects the figures of these runtime' ledger."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._told: dict[str, Any] = {}
        self._read_at = -FRESH

    def collect(self) -> Iterator[Metric]:
        """The metrics, one family after the other."""
        if monotonic() - self._read_at >= FRESH:
            self._told, self._read_at = stats(self._runtime), monotonic()
        told = self._told
        yield _labelled("jobs", "Jobs by status; done ones ever", "status", told["jobs"])
        yield _labelled(
            "contradictions", "Callbacks that repeat or contradict", "kind", told["contradictions"]
        )
        yield _single("agenda_open", "Open jobs", told["agenda"]["open"])
        yield _single("agenda_due", "Open jobs whose next look is due", told["agenda"]["due"])
        yield _single(
            "agenda_lag_seconds", "How overdue the oldest is", told["agenda"]["lag_seconds"]
        )
        yield _single(
            "unconfirmed_attempts", "Attempts of unknown fate", told["unconfirmed"]["attempts"]
        )
        for name, what in (("archive", "archives"), ("notifications", "notifications")):
            yield _labelled(f"{name}_ended", f"Ended {what}, ever", "end", told[name]["ended"])
            yield _single(f"{name}_pending", f"Pending {what}", told[name]["pending"])
            yield _single(
                f"{name}_lag_seconds", "How overdue the oldest is", told[name]["lag_seconds"]
            )
        risk = told["archive"]["at_risk"]
        yield _single("archive_at_risk", "Jobs with images that may soon be lost", risk)
        yield _single(
            "notifications_dead", "Given up, and kept for a replay", told["notifications"]["dead"]
        )
        paused = len(told["notifications"]["paused_hosts"])
        yield _single("notifications_paused_hosts", "CircuitBreaker that are only probed", paused)
        swept = told["last_sweep_seconds_ago"]
        if swept is not None:
            yield _single("last_sweep_age_seconds", "Time since the last sweep", swept)


def blueprint(runtime: Runtime) -> Blueprint:
    """The route, on these runtime."""
    routes = Blueprint("metrics", __name__)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(runtime))

    @routes.get("/metrics")
    def show() -> Response:
        """Every figure, in Prometheus' text format."""
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return routes


def _single(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"orchestrator_{name}", meaning, value=value)


def _labelled(name: str, meaning: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"orchestrator_{name}", meaning, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
