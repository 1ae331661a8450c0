"""`/metrics`: the figures of `/v1/stats` for Prometheus.

The figures come from the ledger, so every process reports the same. They need no key, because they
contain no names, unless ORCHESTRATOR_METRICS_TENANTS is set. They are read at most once a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from orchestrator.ledger.admission import CircuitState
from orchestrator.operations.stats import stats
from orchestrator.runtime import Runtime

#: Lifetime of the cached figures. Seconds.
CACHE_SECONDS = 1.0
#: The figures of follow-ups, and what they count.
FOLLOW_UPS = {
    "archive": "archives",
    "notifications": "notifications",
    "confirmations": "queries after late callbacks",
}


class _Figures:
    """Collects the figures of a ledger."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._figures: dict[str, Any] = {}
        self._jobs: dict[str, dict[str, int]] = {}
        self._read_at = -CACHE_SECONDS

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families."""
        if monotonic() - self._read_at >= CACHE_SECONDS:
            self._figures, self._read_at = stats(self._runtime), monotonic()
            if self._runtime.settings.metrics_tenants:
                self._jobs = self._runtime.ledger.overview.tenants()
        if self._runtime.settings.metrics_tenants:
            yield self._tenants()
        yield from _open_jobs(self._figures)
        for name, what in FOLLOW_UPS.items():
            yield from _follow_up(name, what, self._figures[name])
        yield from _risks(self._figures)
        yield from _providers(self._figures["providers"])
        swept = self._figures["last_sweep_seconds_ago"]
        if swept is not None:
            yield _single("last_sweep_age_seconds", "Time since the last sweep", swept)

    def _tenants(self) -> Metric:
        meaning = "Jobs by tenant: open ones, and ended ones since the start"
        family = GaugeMetricFamily("orchestrator_tenant_jobs", meaning, labels=["tenant", "status"])
        for tenant, counts in self._jobs.items():
            for status, number in counts.items():
                family.add_metric([tenant, status], number)
        return family


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the route."""
    routes = Blueprint("metrics", __name__)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(runtime))

    @routes.get("/metrics")
    def show() -> Response:
        """Get every figure in Prometheus' text format."""
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return routes


def _open_jobs(figures: dict[str, Any]) -> Iterator[Metric]:
    """Yield the numbers of jobs, of due jobs, and of odd callbacks and attempts."""
    jobs, agenda = figures["jobs"], figures["agenda"]
    yield _labelled("jobs", "Jobs by status; terminal ones since the start", "status", jobs)
    meaning = "Callbacks that repeat or contradict what the ledger knows"
    yield _labelled("contradictions", meaning, "kind", figures["contradictions"])
    yield _single("agenda_open", "Open jobs", agenda["open"])
    yield _single("agenda_due", "Open jobs that could run now", agenda["due"])
    yield _single(
        "agenda_lag_seconds", "Longest time that one could have run", agenda["lag_seconds"]
    )
    attempts = figures["unconfirmed"]["attempts"]
    yield _single("unconfirmed_attempts", "Unconfirmed attempts", attempts)


def _follow_up(name: str, what: str, figures: dict[str, Any]) -> Iterator[Metric]:
    """Yield the figures of a kind of follow-up. `what` names it in the plural."""
    yield _labelled(f"{name}_ended", f"Ended {what} since the start", "end", figures["ended"])
    yield _single(f"{name}_pending", f"Pending {what}", figures["pending"])
    yield _single(f"{name}_lag_seconds", "Age of the oldest due entry", figures["lag_seconds"])


def _risks(figures: dict[str, Any]) -> Iterator[Metric]:
    """Yield the figures that somebody must act on."""
    notifications = figures["notifications"]
    yield _single("archive_at_risk", "Jobs with images at risk", figures["archive"]["at_risk"])
    yield _single("notifications_dead", "Failed notifications", notifications["dead"])
    paused = len(notifications["paused_hosts"])
    yield _single("notifications_paused_hosts", "Paused hosts, which are only probed", paused)


def _providers(figures: dict[str, dict[str, Any]]) -> Iterator[Metric]:
    """Yield what admission knows of each enabled provider."""
    meaning = "1 for the state that the circuit breaker of a provider has"
    name = "orchestrator_provider_circuit"
    circuits = GaugeMetricFamily(name, meaning, labels=["provider", "state"])
    for provider, known in figures.items():
        for state in CircuitState:
            circuits.add_metric([provider, state], float(state == known["circuit"]))
    yield circuits
    in_flight = {name: known["in_flight"] for name, known in figures.items()}
    meaning = "Attempts between submission and outcome"
    yield _labelled("provider_in_flight", meaning, "provider", in_flight)
    limits = {n: known["found_limit"] for n, known in figures.items() if known["found_limit"]}
    if limits:
        meaning = "The most attempts in flight that a provider took before it refused more"
        yield _labelled("provider_found_limit", meaning, "provider", limits)


def _single(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"orchestrator_{name}", meaning, value=value)


def _labelled(name: str, meaning: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"orchestrator_{name}", meaning, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
