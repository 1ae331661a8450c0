"""The jobs: a search, its filters, and the jobs that it finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response as Answer

from orchestrator.dashboard import job_filters, views
from orchestrator.dashboard.job_filters import JobFilters
from orchestrator.dashboard.job_rows import job_rows
from orchestrator.jobs.model import TERMINAL, Status
from orchestrator.operations.search import Source, search
from orchestrator.runtime import Runtime

#: The jobs of a page.
PAGE_JOBS = 50
#: A page without changes is made again after this time, because open jobs show how long they take.
#: ms.
MAX_AGE_MS = 30_000


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the route."""

    @pages.get("/jobs")
    def jobs() -> Answer:
        """A page of jobs, newest first."""
        if clean := job_filters.clean_url():
            return redirect(clean, 303)
        if answer := views.unchanged(runtime, max_age_ms=MAX_AGE_MS):
            return answer
        filters = JobFilters(runtime)
        status = 422 if filters.errors and not views.is_live() else 200
        return views.render("jobs", status, filters=filters, **_found(runtime, filters))


def _found(runtime: Runtime, filters: JobFilters) -> dict[str, Any]:
    """Return the variables of the live part."""
    if filters.errors:
        none: dict[str, Any] = {"rows": [], "older": None, "is_incomplete": False, "unreadable": []}
        return {**none, "tabs": _tabs(filters, {})}
    page = search(runtime, filters.query(), limit=PAGE_JOBS, cursor=filters.cursor)
    return {
        "rows": job_rows(runtime, page.jobs),
        "older": filters.url({"cursor": page.cursor}) if page.cursor else None,
        "is_incomplete": page.source is Source.AWAY,
        "unreadable": page.unreadable,
        "tabs": _tabs(filters, _counts(runtime, filters)),
        "example": _example(runtime),
    }


def _tabs(filters: JobFilters, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the links to each status, with the number of jobs where a counter has it."""
    return [
        {
            "status": status,
            "url": filters.url({"status": status}),
            "number": counts.get(status),
            "is_current": filters.status == status,
        }
        for status in ("", *(each.value for each in Status))
    ]


def _counts(runtime: Runtime, filters: JobFilters) -> dict[str, int]:
    """Return jobs by status. With other filters nothing counts them, so there are no numbers.

    A tenant's open jobs are counted together. So a number of one open status is known if it is 0.
    """
    if set(filters.values) - {"status"}:
        return {}
    if filters.tenant is None:
        counts = runtime.ledger.overview.counts()
        return {status.value: counts.get(status, 0) for status in Status}
    own = runtime.ledger.overview.tenants().get(filters.tenant, {})
    known = Status if not own.get("open") else TERMINAL
    return {status.value: own.get(status, 0) for status in known}


def _example(runtime: Runtime) -> dict[str, str] | None:
    """Return a request that can be sent, or None without a provider."""
    name = next(iter(runtime.settings.providers), None)
    if name is None:
        return None
    model = next(iter(runtime.providers[name].models))
    return {"url": f"{request.url_root}v1/jobs", "provider": name, "model": model}
