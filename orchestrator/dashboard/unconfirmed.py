"""The attempts that may have been charged: the evidence, and the choices with their prices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from orchestrator.dashboard import views
from orchestrator.dashboard.job import provider_title, provider_titles
from orchestrator.dashboard.job_choices import Choices, choices
from orchestrator.dashboard.recent import Recent
from orchestrator.history import Entry
from orchestrator.jobs.event import Event
from orchestrator.jobs.model import Cost, Job, Status
from orchestrator.ledger.admission import Waiting
from orchestrator.ledger.identifiers import is_job_id
from orchestrator.operations.cost import expected_cost
from orchestrator.operations.rerun import known_retry
from orchestrator.operations.unconfirmed import (
    MAX_ATTEMPTS,
    UnconfirmedAttempt,
    attempts_of,
    possible_charges,
    tenant_attempts,
    unconfirmed_attempts,
    unconfirmed_jobs,
)
from orchestrator.runtime import Runtime

#: The jobs of a page.
PAGE_JOBS = 25
#: The page is made again at least this often. Its figures read up to MAX_ATTEMPTS jobs. ms.
MAX_AGE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Case:
    """An unconfirmed attempt.

    Attributes:
        job: its job.
        attempt: what is known of it.
        title: the name of its provider.
        evidence: the events of the attempt.
        knows: what the provider can tell about it, as a sentence.
        cost: what it may have cost, or None if no price is configured.
        waits: what the job waits for, if it is open.
        choices: what can be done.
        retried: the retry of the job, if there is one.
    """

    job: Job
    attempt: UnconfirmedAttempt
    title: str
    evidence: list[Event]
    knows: str
    cost: Cost | None
    waits: Waiting | None
    choices: Choices
    retried: Job | None


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the route."""
    totals = Recent[str | None, dict[str, Any]]()

    @pages.get("/unconfirmed")
    def unconfirmed() -> Response:
        """Attempts that may have been charged."""
        if answer := views.unchanged(runtime, max_age_ms=MAX_AGE_MS):
            return answer
        tenant, cursor = views.chosen_tenant(), request.args.get("cursor", "")
        entries, more, unreadable = unconfirmed_jobs(
            runtime, tenant, limit=PAGE_JOBS, cursor=cursor if is_job_id(cursor) else None
        )
        total = partial(_total, runtime, tenant)  # reads up to MAX_ATTEMPTS jobs
        return views.render(
            "unconfirmed",
            cases=_cases(runtime, entries),
            next_cursor=more,
            unreadable=unreadable,
            total=totals.get(tenant, total) if views.is_live() else total(),
            providers=provider_titles(runtime),
            page_tenant=tenant if views.caller().admin else None,
        )


def _total(runtime: Runtime, tenant: str | None) -> dict[str, Any]:
    """Return the number of attempts, and the money at risk."""
    if tenant is None:
        number, attempts = unconfirmed_attempts(runtime)
        partial = number > MAX_ATTEMPTS
    else:
        attempts, partial = tenant_attempts(runtime, tenant)
        number = len(attempts)
    money = possible_charges(runtime, attempts)
    return {"attempts": number, "partial": partial, "counted": len(attempts), **money}


def _cases(runtime: Runtime, entries: list[Entry]) -> list[Case]:
    jobs = [entry.job for entry in entries]
    waits = runtime.ledger.admission.waits(jobs, now=runtime.clock())
    return [
        _case(runtime, entry, attempt, waits.get(entry.job.id))
        for entry in entries
        for attempt in attempts_of(entry)
    ]


def _case(
    runtime: Runtime, entry: Entry, attempt: UnconfirmedAttempt, waits: Waiting | None
) -> Case:
    job, name = entry.job, entry.job.provider_of(attempt.attempt)
    title, retried = provider_title(runtime, name), known_retry(runtime, job)
    evidence = [e for e in entry.events if e.detail.get("attempt") == attempt.attempt]
    return Case(
        job,
        attempt,
        title,
        evidence,
        _knows(runtime, job, name, title),
        expected_cost(runtime, job, name),
        waits if job.status is Status.UNCONFIRMED else None,
        choices(runtime, job, retried),
        retried,
    )


def _knows(runtime: Runtime, job: Job, name: str, title: str) -> str:
    """Return how this provider may still tell what became of an attempt."""
    enabled = runtime.enabled_provider(name)
    if enabled is None:
        return f"{title} is switched off here, so nothing more is heard of it."
    provider, _ = enabled
    hours = provider.capabilities.idempotency_seconds // 3600
    called = runtime.calls_back(provider)
    texts = []
    if hours:
        again = "is" if job.status is Status.UNCONFIRMED else "was"
        texts.append(
            f"{title} accepts an idempotency key for {hours} hours. The same attempt {again} sent"
            " again with the same key, and is charged once at most."
        )
    if called:
        texts.append(
            f"{title} calls back when a task ends. The callback names this attempt, and its images"
            " are kept."
        )
    if not texts:
        texts.append(
            f"{title} accepts no idempotency key, and sends no callback. Look for a task of that"
            " time in its console."
        )
    return " ".join(texts)
