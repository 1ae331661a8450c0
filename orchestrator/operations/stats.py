"""Figures of an installation."""

from __future__ import annotations

from typing import Any

from orchestrator.jobs.model import Job, Status, Step
from orchestrator.jsonio import rfc3339
from orchestrator.ledger.circuit_breaker import Host
from orchestrator.ledger.totals import CONTRADICTIONS, ENDS
from orchestrator.operations.admission import admission_views
from orchestrator.operations.history_state import history_report
from orchestrator.operations.unconfirmed import possible_charges, unconfirmed_attempts
from orchestrator.runtime import Runtime

#: An image without a copy is at risk when its link may expire within this time, or when it was
#: given up while its link may still work. Hours.
RISK_HOURS = 6.0


def stats(runtime: Runtime) -> dict[str, Any]:
    """Return the figures of the ledger, the state of the history, and the processes.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    return {**ledger_stats(runtime), **_others(runtime)}


def key_figures(runtime: Runtime) -> dict[str, Any]:
    """Return what `stats` does, without follow-ups and the money at risk.

    This reads counters only, and no job.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    now = runtime.clock()
    counts = runtime.ledger.overview.counts()
    return {**_key_figures(runtime, counts, now), **_others(runtime)}


def ledger_stats(runtime: Runtime) -> dict[str, Any]:
    """Return jobs by status, overdue jobs, contradictions, money and images at risk, providers.

    An open status counts the jobs that have it now. A terminal status counts all jobs that ever
    reached it. The result is JSON-ready.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    now = runtime.clock()
    counts = runtime.ledger.overview.counts()
    figures = _key_figures(runtime, counts, now)
    charges = possible_charges(runtime, unconfirmed_attempts(runtime)[1])
    archive = _follow_up(runtime, Step.ARCHIVE, counts, now)
    notify = _follow_up(runtime, Step.NOTIFY, counts, now)
    return {
        **figures,
        "contradictions": {name: counts.get(name, 0) for name in CONTRADICTIONS},
        "unconfirmed": {**figures["unconfirmed"], "money_at_risk": charges},
        "archive": {**archive, **figures["archive"]},
        "notifications": {**notify, **figures["notifications"]},
        "confirmations": _follow_up(runtime, Step.CONFIRM, counts, now),
    }


def _key_figures(runtime: Runtime, counts: dict[str, int], now: int) -> dict[str, Any]:
    agenda, swept = runtime.ledger.agenda.counts(now=now), runtime.ledger.installation.last_sweep()
    failing = runtime.ledger.circuit_breaker.failing().values()
    return {
        "jobs": {status.value: counts.get(status, 0) for status in Status},
        "agenda": {"open": agenda.open, "due": agenda.due, "lag_seconds": agenda.lag / 1000},
        "unconfirmed": {"attempts": runtime.ledger.overview.unconfirmed(0)[0]},
        "archive": {"at_risk": images_at_risk(runtime, 0)[0], "at_risk_hours": RISK_HOURS},
        "notifications": {
            "dead": runtime.ledger.follow_ups.dead(0)[0],
            "paused_hosts": [paused_view(host) for host in failing if host.next_probe],
        },
        "providers": _providers(runtime),
        "last_sweep_seconds_ago": None if swept is None else (now - swept) / 1000,
    }


def _others(runtime: Runtime) -> dict[str, Any]:
    history = history_report(runtime.ledger, runtime.history, now=runtime.clock())
    return {"history": history.view(), "processes": process_views(runtime)}


def process_views(runtime: Runtime) -> list[dict[str, Any]]:
    """Return the processes that were heard within an hour as JSON-ready data.

    A process tells every 5 s that it runs. It is silent when it was not heard for 15 s.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    now = runtime.clock()
    return [
        {
            "kind": process.kind,
            "host": process.host,
            "pid": process.pid,
            "version": process.version,
            "started_at": rfc3339(process.started_at),
            "seen_at": rfc3339(process.seen_at),
            "silent": process.is_silent(now),
        }
        for process in runtime.ledger.processes.alive(now=now)
    ]


def images_at_risk(
    runtime: Runtime, limit: int, tenant: str | None = None
) -> tuple[int, list[Job], list[str]]:
    """Return the number of jobs with images at risk, and `limit` of them.

    Beside them are the ids of those that this version cannot read. The first to expire come first.
    A job that has expired in the ledger is not listed. With a tenant, only its jobs count.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    now = runtime.clock()
    before = now + int(RISK_HOURS * 3_600_000)
    number, job_ids = runtime.ledger.follow_ups.at_risk(
        limit, now=now, before=before, tenant=tenant
    )
    jobs, unreadable = runtime.ledger.overview.readable_jobs(job_ids) if job_ids else ({}, [])
    soonest_first = [jobs[job_id] for job_id in job_ids if job_id in jobs]
    return number, soonest_first, [each.job_id for each in unreadable]


def _follow_up(runtime: Runtime, step: Step, counts: dict[str, int], now: int) -> dict[str, Any]:
    backlog = runtime.ledger.follow_ups.backlog(step, now=now)
    ended = {end.value: counts.get(f"{step}_{end}", 0) for end in ENDS}
    return {
        "pending": backlog.pending,
        "due": backlog.due,
        "lag_seconds": backlog.lag / 1000,
        "ended": ended,
    }


def _providers(runtime: Runtime) -> dict[str, dict[str, Any]]:
    """Return what admission knows of each enabled provider."""
    views = admission_views(runtime, runtime.settings.providers)
    fields = ("circuit", "in_flight", "found_limit")
    return {name: {field: view[field] for field in fields} for name, view in views.items()}


def paused_view(host: Host) -> dict[str, Any]:
    """Return a paused host as JSON-ready data."""
    return {
        "host": host.name,
        "failures": host.failures,
        "since": rfc3339(host.since),
        "next_probe_at": rfc3339(host.next_probe),
    }
