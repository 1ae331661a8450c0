"""The overview: what needs somebody, what happens now, and what happened lately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from orchestrator.clock import DAY_MS
from orchestrator.dashboard import charts, views
from orchestrator.dashboard.money import totals
from orchestrator.dashboard.recent import Recent
from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.model import Status
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation
from orchestrator.jsonio import rfc3339
from orchestrator.ledger.installation import SWEEP_STALE_SECONDS
from orchestrator.operations.activity import (
    SPANS,
    Activity,
    Callbacks,
    Figures,
    Intervals,
    activity,
    callbacks,
    read_intervals,
)
from orchestrator.operations.money import read_days, spend
from orchestrator.operations.replay import failed_page
from orchestrator.operations.stats import images_at_risk, key_figures
from orchestrator.operations.tenants import tenant_view
from orchestrator.operations.unconfirmed import unconfirmed_jobs
from orchestrator.runtime import Runtime

#: The time span of a first visit: a name of SPANS.
DEFAULT_SPAN = "day"
#: A provider fails when so many of its jobs of the last hour failed, and this share of them.
MIN_FAILED_JOBS, MIN_FAILED_SHARE = 5, 0.25
#: A job that is due for longer than this waits for a worker. Seconds.
SLOW_LAG_SECONDS = 10.0


#: The most paused hosts that are named. More are counted.
MAX_NAMED_HOSTS = 3


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that needs somebody.

    Attributes:
        text: what is wrong, and how much of it.
        advice: what to do.
        endpoint: the page that helps.
        tone: `bad` loses money or images; `warn` only delays.
    """

    text: str
    advice: str
    endpoint: str
    tone: str = "warn"


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the route."""
    figures = _RecentFigures(runtime)

    @pages.get("/")
    def overview() -> Response:
        """The overview of a tenant, or of all."""
        if answer := views.unchanged(runtime):
            return answer
        tenant, span = views.chosen_tenant(), _span()
        if tenant is None:
            context = _of_all(runtime)
        else:
            context = {**_of_tenant(runtime, tenant), "concerns": figures.concerns(tenant)}
        try:
            past, spent = figures.activity(span, tenant), figures.spent(tenant)
            failing = _failing(figures.activity("hour", tenant))
            context["concerns"] = [*context["concerns"], *failing]
        except HistoryUnavailable:
            past, spent = None, {}
        drawn = past and {"throughput": charts.throughput(past), "times": charts.times(past)}
        return views.render(
            "overview",
            span=span,
            spans=list(SPANS),
            past=past,
            since=past and rfc3339(past.since),
            charts=drawn,
            spent=spent,
            **context,
        )


class _RecentFigures:
    """Reads the figures of the history. Intervals that ended are read less often."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._activities = Recent[tuple[str, str | None], Activity]()
        self._intervals = Recent[tuple[str, str | None, int], Mapping[str, Figures]]()
        self._spends = Recent[str | None, dict[str, float]]()
        self._concerns = Recent[str, list[Concern]]()

    def activity(self, span: str, tenant: str | None) -> Activity:
        """Return what happened in a span."""

        interval_ms = SPANS[span][1]

        def read(numbers: range) -> Intervals:
            now = self._runtime.clock()
            return self._intervals.intervals(
                lambda number: (span, tenant, number),
                numbers,
                partial(read_intervals, self._runtime, span, tenant),
                lambda number: max(0, now - (number + 1) * interval_ms) / 1000,
            )

        return self._activities.get(
            (span, tenant), lambda: activity(self._runtime, span, tenant, read)
        )

    def concerns(self, tenant: str) -> list[Concern]:
        """Return what needs a tenant, the worst first."""
        return self._concerns.get(tenant, lambda: list(_concerns_of(self._runtime, tenant)))

    def spent(self, tenant: str | None) -> dict[str, float]:
        """Return the known costs of today by unit."""
        today = self._runtime.clock() // DAY_MS
        return self._spends.get(
            tenant,
            lambda: totals(spend(read_days(self._runtime, tenant, range(today, today + 1))[today])),
        )


def _span() -> str:
    span = request.args.get("span", DEFAULT_SPAN)
    if span not in SPANS:
        raise InvalidRequest(Violation("span", span, OneOfNames(SPANS)))
    return span


def _of_all(runtime: Runtime) -> dict[str, Any]:
    figures = key_figures(runtime)
    return {
        "jobs": figures["jobs"],
        "figures": figures,
        "concerns": list(_concerns(figures)),
        "callbacks": callbacks(runtime),
        "processes": _processes(figures["processes"]),
    }


def _of_tenant(runtime: Runtime, tenant: str) -> dict[str, Any]:
    view = tenant_view(runtime, tenant)
    none: dict[str, Callbacks] = {}
    return {
        "jobs": view["jobs"],
        "figures": None,
        "callbacks": none,
    }


def _processes(views_of: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Return how many processes of each kind run, and how many fell silent in the last hour."""
    running, silent = Counter[str](), Counter[str]()
    for view in views_of:
        (silent if view["silent"] else running)[view["kind"]] += 1
    return {kind: (running[kind], silent[kind]) for kind in sorted({*running, *silent})}


def _at_risk(number: int) -> Iterator[Concern]:
    if number:
        text = f"{_jobs(number)} with images that may be lost"
        yield Concern(text, "Archive them before their links expire.", "at_risk", "bad")


def _concerns_of(runtime: Runtime, tenant: str) -> Iterator[Concern]:
    """Yield what needs a tenant, the worst first. No counter knows how many of it there are."""
    yield from _at_risk(images_at_risk(runtime, 1, tenant)[0])
    try:
        unconfirmed, _, _ = unconfirmed_jobs(runtime, tenant, limit=1)
    except HistoryUnavailable:
        unconfirmed = []
    if unconfirmed:
        advice = "Each may have been charged. Decide what to do."
        yield Concern("Unconfirmed attempts", advice, "unconfirmed", "bad")
    if failed_page(runtime, tenant=tenant, limit=1).jobs:
        yield Concern("Failed notifications", "See why, and send again.", "deliveries", "bad")
    for provider, budget in tenant_view(runtime, tenant)["limits"]["daily_budgets"].items():
        if budget["spent"] >= budget["amount"]:
            text = f"The budget of today at {provider} is used up"
            yield Concern(text, "New jobs are refused until midnight (UTC).", "money")


def _concerns(figures: Mapping[str, Any]) -> Iterator[Concern]:
    """Yield what needs somebody, the worst first."""
    yield from _at_risk(figures["archive"]["at_risk"])
    if number := figures["unconfirmed"]["attempts"]:
        text = f"{number:,} unconfirmed {'attempt' if number == 1 else 'attempts'}"
        advice = "Each may have been charged. Decide what to do."
        yield Concern(text, advice, "unconfirmed", "bad")
    if number := figures["notifications"]["dead"]:
        text = f"{number:,} failed {'notification' if number == 1 else 'notifications'}"
        yield Concern(text, "See why, and send again.", "deliveries", "bad")
    for name, provider in figures["providers"].items():
        if provider["circuit"] not in ("closed", "half_open"):
            text = f"{name} is {provider['circuit'].replace('_', ' ')}"
            yield Concern(text, "Its jobs wait.", "providers")
    hosts = [host["host"] for host in figures["notifications"]["paused_hosts"]]
    if hosts:
        names = ", ".join(hosts) if len(hosts) <= MAX_NAMED_HOSTS else f"{len(hosts):,} hosts"
        text = f"No notifications are taken by {names}"
        yield Concern(text, "They wait until the host answers.", "deliveries")
    yield from _delays(figures)


def _failing(hour: Activity) -> Iterator[Concern]:
    """Yield the providers whose jobs of the last hour fail."""
    for name, it in hour.providers.items():
        failed = it.statuses[Status.FAILED]
        tried = failed + it.statuses[Status.SUCCEEDED]
        if failed >= MIN_FAILED_JOBS and failed >= MIN_FAILED_SHARE * tried:
            text = f"{failed:,} of {tried:,} jobs at {name} failed in the last hour"
            yield Concern(text, "See why. When it works again, retry them.", "providers")


def _delays(figures: Mapping[str, Any]) -> Iterator[Concern]:
    if figures["agenda"]["lag_seconds"] > SLOW_LAG_SECONDS:
        text = f"Due jobs wait {figures['agenda']['lag_seconds']:.0f} s for a worker"
        yield Concern(text, "Start more workers, or look why they do not work.", "system")
    swept = figures["last_sweep_seconds_ago"]
    if swept is None or swept > SWEEP_STALE_SECONDS:
        text = "There was no sweep lately" if swept is None else f"No sweep for {swept:.0f} s"
        yield Concern(text, "Start beat and a worker.", "system", "bad")
    for kind, (running, silent) in _processes(figures["processes"]).items():
        if silent and not running:
            yield Concern(f"No {kind} process runs any more", "Start one.", "system", "bad")
    if figures["history"]["state"] != "current":
        text = f"The history is {figures['history']['state']}"
        yield Concern(text, "Searches and figures may lack jobs.", "system")


def _jobs(number: int) -> str:
    return f"{number:,} {'job' if number == 1 else 'jobs'}"
