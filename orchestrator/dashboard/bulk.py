"""Bulk actions: the preview of one, its start, and its progress."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as Answer

from orchestrator.api.bulk import preview as make_preview
from orchestrator.dashboard import views
from orchestrator.dashboard.formats import money
from orchestrator.dashboard.job_filters import JobFilters, filters_url
from orchestrator.enqueuing import TenantLimitReached
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation
from orchestrator.ledger.bulk import PREVIEW_MS, BulkAction, BulkKind
from orchestrator.ledger.identifiers import is_job_id
from orchestrator.operations import bulk as operations
from orchestrator.operations.bulk import MAX_NAMED_JOBS, UnknownBulkAction, bulk_view
from orchestrator.runtime import Runtime

#: The choice of a form: the ticked jobs, or all that match the filter.
TICKED, ALL = "ticked", "all"
#: The most actions of the list.
MAX_LISTED = 50


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes."""

    @pages.post("/bulk")
    def preview_bulk() -> Answer:
        """Preview an action on the ticked jobs, or on all that match the filters of the URL."""
        return _preview(runtime)

    @pages.get("/bulk/<bulk_id>")
    def bulk(bulk_id: str) -> Response:
        """A preview, or how far an action is."""
        action = _find(runtime, bulk_id)
        unchanged = views.unchanged(runtime, jobs=False, also=action)
        return unchanged or _page(action)

    @pages.get("/bulk")
    def bulk_actions() -> Response:
        """The actions that were started."""
        tenant = views.chosen_tenant()
        actions = runtime.ledger.bulk.newest(MAX_LISTED, tenant=tenant)
        if answer := views.unchanged(runtime, jobs=False, also=actions):
            return answer
        return views.render("bulk_actions", actions=[*map(bulk_view, actions)])

    @pages.post("/bulk/<bulk_id>/stop")
    def stop_bulk(bulk_id: str) -> Response:
        """Stop an action."""
        _find(runtime, bulk_id)
        try:
            operations.stop(runtime, bulk_id, actor=views.caller().name)
        except UnknownBulkAction as error:
            raise NotFound(f"{error}.") from None
        return views.done(runtime, "The workers stop within a second.", "bulk", bulk_id=bulk_id)

    @pages.post("/bulk/<bulk_id>/start")
    def start_bulk(bulk_id: str) -> Answer:
        """Start what was previewed."""
        return _start(runtime, bulk_id)


def _page(action: BulkAction) -> Response:
    view, refused = bulk_view(action), sum(action.refused.values())
    return views.render(
        "bulk",
        action=view,
        most=action.applies,
        refused=refused,
        left=max(0, action.total - action.done - refused),
        kept_until=action.created_at + PREVIEW_MS,
        costs=_costs(view),
        jobs_url=filters_url(action.filters),
    )


def _start(runtime: Runtime, bulk_id: str) -> Answer:
    action = _find(runtime, bulk_id)
    risk = request.form.get("accept_risk") == "1"
    try:
        operations.start(runtime, action, actor=views.caller().name, accept_risk=risk)
    except TenantLimitReached as error:
        return views.done(runtime, f"It did not start: {error}.", "bulk", bulk_id=bulk_id)
    except UnknownBulkAction as error:
        raise NotFound(f"{error}.") from None
    return redirect(url_for("dashboard.bulk", bulk_id=bulk_id), 303)


def _preview(runtime: Runtime) -> Answer:
    filters, named = JobFilters(runtime), request.form.getlist("job")
    try:
        kind = BulkKind(request.form.get("action", ""))
    except ValueError:
        allowed = OneOfNames(BulkKind)
        raise InvalidRequest(Violation("action", request.form.get("action"), allowed)) from None
    if request.form.get("which") == ALL:
        named, chosen = [], filters.for_bulk()
    elif not named:
        text = "Tick the jobs first, or choose all jobs that match."
        runtime.ledger.sessions.set_notice(views.session().token, text)
        return redirect(filters.url({"cursor": filters.cursor}), 303)
    else:
        _check_named(named)
        chosen = {"tenant": filters.tenant} if filters.tenant else {}
    action = make_preview(runtime, kind, chosen, actor=views.caller().name, named=named)
    return redirect(url_for("dashboard.bulk", bulk_id=action.id), 303)


def _check_named(job_ids: list[str]) -> None:
    if len(job_ids) > MAX_NAMED_JOBS:
        allowed = f"at most {MAX_NAMED_JOBS} jobs"
        raise InvalidRequest(Violation("job", len(job_ids), allowed))
    for job_id in job_ids:
        if not is_job_id(job_id):
            raise InvalidRequest(Violation("job", job_id, "the id of a job"))


def _find(runtime: Runtime, bulk_id: str) -> BulkAction:
    """Return an action that the caller may see."""
    try:
        return operations.find(runtime, bulk_id, views.caller())
    except UnknownBulkAction as error:
        raise NotFound(f"{error}.") from None


def _costs(view: dict[str, Any]) -> dict[str, str]:
    """Return the sums of all providers as text, by what they are: `3.10 USD + 12 credits`."""
    costs = {}
    for name in ("reserved", "paid_again", "unconfirmed"):
        sums: dict[str, float] = {}
        for row in view["money"]:
            sums[row["unit"]] = sums.get(row["unit"], 0) + row[name]
        costs[name] = " + ".join(money(sums[unit], unit) for unit in sorted(sums) if sums[unit])
    return costs
