"""The values of the metrics, by the server from which they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import product
from typing import Any

from orchestrator.jobs.model import SettledBy, Status, Step
from orchestrator.ledger import LedgerUnavailable
from orchestrator.ledger.admission import CircuitState
from orchestrator.ledger.totals import CONTRADICTIONS, ENDS
from orchestrator.messages import MEASURED_QUEUES
from orchestrator.metrics import Definition, Kind, Series, Source, Sums
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import (
    ARCHIVE_RESULTS,
    CALLBACK_STATUSES,
    NOTIFY_RESULTS,
    OTHER,
    CallKind,
    CallResult,
    StepFailure,
    provider_label,
)
from orchestrator.metrics.sums import SUM
from orchestrator.operations.history_state import HistoryState, history_report
from orchestrator.operations.stats import ledger_stats
from orchestrator.runtime import Runtime

#: The figures of each follow-up in the stats.
_FOLLOW_UPS = {
    Step.ARCHIVE: "archive",
    Step.NOTIFY: "notifications",
    Step.CONFIRM: "confirmations",
}


def ledger_values(runtime: Runtime) -> Sums:
    """Return the figures of the ledger, and the sums of counts and timings in Redis.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    figures, values = ledger_stats(runtime), Sums()
    _add_jobs(values, runtime, figures)
    _add_follow_ups(values, figures)
    _add_providers(values, runtime, figures["providers"])
    values.add(metrics.WAITING_MESSAGES, amount=runtime.ledger.waiting_messages.size())
    if runtime.settings.metrics_tenants:
        _add_tenants(values, runtime)
    values.merge(_zeros(_timed(runtime)))
    values.merge(_known(Sums.read(runtime.ledger.timings.read())))
    return values


def history_values(runtime: Runtime) -> Sums:
    """Return the sums of the history, and its state.

    Raises:
        HistoryUnavailable: the database does not answer, or no recorder has run.
    """
    values = _known(runtime.history.totals())
    values.merge(_zeros(_recorded(runtime)))
    with suppress(LedgerUnavailable):
        report = history_report(runtime.ledger, runtime.history, now=runtime.clock())
        for state in HistoryState:
            values.add(metrics.HISTORY_STATE, state.value, amount=float(state is report.state))
        if report.lag_seconds is not None:
            values.add(metrics.HISTORY_LAG, amount=report.lag_seconds)
    return values


def broker_values(runtime: Runtime) -> Sums:
    """Return the messages that wait at the broker.

    Raises:
        OperationalError: the broker is away.
    """
    values = Sums()
    for queue, waiting in runtime.broker.waiting(MEASURED_QUEUES).items():
        values.add(metrics.BROKER_MESSAGES, queue, amount=waiting)
    return values


#: Reads the values of each source.
READERS: Mapping[Source, Callable[[Runtime], Sums]] = {
    Source.LEDGER: ledger_values,
    Source.HISTORY: history_values,
    Source.BROKER: broker_values,
}


def _add_jobs(values: Sums, runtime: Runtime, figures: Mapping[str, Any]) -> None:
    for status in Status:
        if not status.terminal:
            values.add(metrics.OPEN_JOBS, status.value, amount=figures["jobs"][status.value])
    agenda = figures["agenda"]
    values.add(metrics.AGENDA_DUE_JOBS, amount=agenda["due"])
    values.add(metrics.AGENDA_LAG, amount=agenda["lag_seconds"])
    if agenda["due"]:
        since = runtime.clock() / 1000 - agenda["lag_seconds"]
        values.add(metrics.OLDEST_DUE, amount=since)
    if figures["last_sweep_seconds_ago"] is not None:
        values.add(metrics.LAST_SWEEP_AGE, amount=figures["last_sweep_seconds_ago"])
    values.add(metrics.UNCONFIRMED, amount=figures["unconfirmed"]["attempts"])
    for kind in CONTRADICTIONS:
        values.add(metrics.CONTRADICTIONS, kind, amount=figures["contradictions"][kind])


def _add_follow_ups(values: Sums, figures: Mapping[str, Any]) -> None:
    for step, name in _FOLLOW_UPS.items():
        known = figures[name]
        values.add(metrics.FOLLOW_UPS_PENDING, step.value, amount=known["pending"])
        values.add(metrics.FOLLOW_UP_LAG, step.value, amount=known["lag_seconds"])
        for end in ENDS:
            ended = known["ended"][end.value]
            values.add(metrics.FOLLOW_UPS_ENDED, step.value, end.value, amount=ended)
    notifications = figures["notifications"]
    values.add(metrics.AT_RISK_JOBS, amount=figures["archive"]["at_risk"])
    values.add(metrics.DEAD_NOTIFICATIONS, amount=notifications["dead"])
    values.add(metrics.PAUSED_HOSTS, amount=len(notifications["paused_hosts"]))


def _add_providers(values: Sums, runtime: Runtime, figures: Mapping[str, Any]) -> None:
    queued = runtime.ledger.overview.queued()
    for name, known in figures.items():
        for state in CircuitState:
            amount = float(state.value == known["circuit"])
            values.add(metrics.CIRCUIT, name, state.value, amount=amount)
        values.add(metrics.IN_FLIGHT, name, amount=known["in_flight"])
        values.add(metrics.QUEUED_JOBS, name, amount=queued.pop(name, 0))
        limit = runtime.settings.providers[name].limits.max_in_flight
        if limit is not None:
            values.add(metrics.IN_FLIGHT_LIMIT, name, "configured", amount=limit)
        if known["found_limit"]:
            values.add(metrics.IN_FLIGHT_LIMIT, name, "found", amount=known["found_limit"])
    for name, number in queued.items():  # of providers that are switched off
        values.add(metrics.QUEUED_JOBS, provider_label(name), amount=number)


def _add_tenants(values: Sums, runtime: Runtime) -> None:
    for tenant, counts in runtime.ledger.overview.tenants().items():
        values.add(metrics.TENANT_OPEN_JOBS, tenant, amount=counts.pop("open", 0))
        for outcome, number in counts.items():
            values.add(metrics.TENANT_JOBS_ENDED, tenant, outcome, amount=number)


def _timed(runtime: Runtime) -> Iterable[tuple[Definition, tuple[str, ...]]]:
    """Yield the series of counts and timings that exist from the start.

    Prometheus notices the first event of a series only if the series was there before.
    """
    providers = [*runtime.settings.providers]
    kinds, results = [k.value for k in CallKind], [r.value for r in CallResult]
    yield from _each(metrics.PROVIDER_CALLS, providers, kinds, results)
    yield from _each(metrics.PROVIDER_CALL_SECONDS, providers, kinds)
    yield from _each(metrics.CALLBACKS, [*providers, OTHER], CALLBACK_STATUSES)
    yield from _each(metrics.REPEATED_CALLBACKS, providers)
    yield from _each(metrics.CALLBACK_DELAY, providers)
    yield from _each(metrics.SWEEP_SECONDS)
    yield from _each(metrics.ARCHIVE_SECONDS, ARCHIVE_RESULTS)
    yield from _each(metrics.NOTIFY_SECONDS, NOTIFY_RESULTS)
    steps, reasons = [step.value for step in Step], [reason.value for reason in StepFailure]
    yield from _each(metrics.STEP_FAILURES, steps, reasons)


def _recorded(runtime: Runtime) -> Iterable[tuple[Definition, tuple[str, ...]]]:
    """Yield the series of the history that exist from the start."""
    providers = [*runtime.settings.providers]
    outcomes = [status.value for status in Status if status.terminal]
    yield from _each(metrics.OUTCOMES, providers, outcomes, [by.value for by in SettledBy])
    yield from _each(metrics.IMAGES_ARCHIVED, providers)
    yield from _each(metrics.COST_UNKNOWN, providers)
    yield from _each(metrics.NOTIFICATION_DELAY, [end.value for end in ENDS])


def _each(
    definition: Definition, *labels: Iterable[str]
) -> Iterable[tuple[Definition, tuple[str, ...]]]:
    return ((definition, values) for values in product(*labels))


def _zeros(series: Iterable[tuple[Definition, tuple[str, ...]]]) -> Sums:
    part = {Kind.HISTOGRAM: SUM}
    return Sums({Series.of(d, *v, part=part.get(d.kind, "")): 0.0 for d, v in series})


def _known(sums: Sums) -> Sums:
    """Return the sums of metrics that this version has. Another version may have stored others."""
    return Sums(
        {
            series: amount
            for series, amount in sums.items()
            if (definition := metrics.DEFINITIONS.get(series.metric))
            and len(series.labels) == len(definition.labels)
        }
    )
