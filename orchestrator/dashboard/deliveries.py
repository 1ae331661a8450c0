"""Deliveries: paused hosts, notifications that failed, and test notifications."""

from __future__ import annotations

from threading import BoundedSemaphore
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from orchestrator.dashboard import views
from orchestrator.jobs.model import Job
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger.circuit_breaker import Host
from orchestrator.operations.replay import NothingToNotify, failed_page, notify_again
from orchestrator.operations.search import Source, find_job
from orchestrator.operations.test_event import send_test_event
from orchestrator.runtime import Runtime

#: Tests that one process sends at the same time. Each holds a thread until the receiver answers.
MAX_TESTS = 2
#: The notifications of a page.
PAGE_JOBS = 50


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes."""
    places = BoundedSemaphore(MAX_TESTS)

    @pages.get("/deliveries")
    def deliveries() -> Response:
        """Paused hosts, and a page of the notifications that failed."""
        return views.unchanged(runtime) or _page(runtime)

    @pages.post("/deliveries/<job_id>/replay")
    def replay_delivery(job_id: str) -> Response:
        """Send the notification of one job again."""
        views.require_writer()
        job = find_job(runtime, job_id)
        if job is None or not views.caller().sees(job.tenant):
            raise NotFound("There is no such job.")
        try:
            notify_again(runtime, job, actor=views.caller().name)
        except NothingToNotify as error:
            return views.done(runtime, f"Nothing was sent: {error}.", "deliveries")
        notice = f"The notification of {job.id} is sent again, soon."
        return views.done(runtime, notice, "deliveries")

    @pages.post("/deliveries/test")
    def send_test() -> Response:
        """Send a test notification, and show what the receiver answered."""
        views.require_writer()
        caller, form = views.caller(), request.form
        tenant = (form.get("tenant") or DEFAULT_TENANT) if caller.admin else caller.tenant
        if not places.acquire(blocking=False):
            busy = {"url": "Other tests are waiting for their receivers. Try again in a minute."}
            return _page(runtime, 429, given=form, errors=busy)
        try:
            url = form.get("url", "").strip()
            sent = send_test_event(runtime, url, tenant, actor=caller.name)
        except InvalidRequest as error:
            return _page(runtime, 422, given=form, errors=views.mistakes(error))
        finally:
            places.release()
        return _page(runtime, given=form, sent=sent)


def _page(runtime: Runtime, status: int = 200, **context: Any) -> Response:
    tenant, cursor = views.chosen_tenant(), request.args.get("after") or None
    failed = failed_page(runtime, tenant=tenant, limit=PAGE_JOBS, cursor=cursor)
    total = runtime.ledger.follow_ups.dead(0)[0] if tenant is None else None
    shown = {
        "given": None,
        "errors": {},
        "sent": None,
        "jobs": failed.jobs,
        "older": failed.cursor,
        "cursor": cursor,
        "total": total,
        "incomplete": failed.source is Source.AWAY,
        "unreadable": failed.unreadable,
        "hosts": _hosts(runtime, failed.jobs),
        "tenant": tenant,
        "now": runtime.clock(),
        **context,
    }
    return views.render("deliveries", status, **shown)


def _hosts(runtime: Runtime, jobs: list[Job]) -> list[Host]:
    """Return the paused hosts. A tenant sees those that failed its own notifications."""
    failing = runtime.ledger.circuit_breaker.failing().values()
    paused = sorted((h for h in failing if h.next_probe), key=lambda host: host.since)
    if views.caller().admin:
        return paused
    own = {job.request.notifies for job in jobs}
    return [host for host in paused if host.name in own]
