"""One tenant: its limits, budgets and secret, and links to its dashboard."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.wrappers import Response as Answer

from orchestrator.dashboard import views
from orchestrator.dashboard.job_links import LIFETIMES, chosen_lifetime
from orchestrator.jobs.tenant import BUDGET, tenant_name
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.operations import dashboard_links
from orchestrator.operations.tenants import NONE, set_tenant, tenant_view
from orchestrator.runtime import Runtime
from orchestrator.security import standard_webhooks

#: The limits of a tenant that are numbers.
LIMITS = ("max_open", "requests_per_second")
#: What may happen to the secret that signs a tenant's notifications.
KEEP, NEW, REMOVE = "keep", "new", "remove"


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes."""

    @pages.get("/keys/tenants")
    def find_tenant() -> Answer:
        """Lead to the page of a tenant. A tenant without settings has one, too."""
        views.require_admin()
        name = tenant_name(request.args.get("name", "").strip())
        return redirect(url_for("dashboard.tenant", name=name), 303)

    @pages.get("/keys/tenants/<name>")
    def tenant(name: str) -> Response:
        """The limits of a tenant."""
        views.require_admin()
        return _page(runtime, tenant_name(name))

    @pages.post("/keys/tenants/<name>")
    def set_tenant_form(name: str) -> Response:
        """Change the limits of a tenant. Only this answer shows a new secret."""
        views.require_admin()
        changes, secret = _changes(runtime, tenant_name(name), request.form)
        try:
            set_tenant(runtime, name, changes, actor=views.caller().name)
        except InvalidRequest as error:
            return _page(runtime, name, 422, given=request.form, errors=_errors(error))
        if secret:
            return _page(runtime, name, new_secret=secret)
        notice = f"The settings of {name} are stored. Every process knows them within 5 seconds."
        return views.done(runtime, notice, "tenant", name=name)

    @pages.post("/keys/tenants/<name>/link")
    def make_link_form(name: str) -> Response:
        """Make a link to the dashboard of a tenant. Only this answer shows it."""
        views.require_admin()
        lifetime_ms = 1000 * chosen_lifetime(request.form)
        actor = views.caller().name
        url, ends = dashboard_links.make(runtime, name, lifetime_ms=lifetime_ms, actor=actor)
        return _page(runtime, name, new_link=url, link_ends_at=ends)


def _page(runtime: Runtime, name: str, status: int = 200, **context: Any) -> Response:
    shown = {"given": None, "errors": {}, "new_secret": None, "new_link": None, **context}
    shown["lifetimes"] = list(LIFETIMES)
    view = tenant_view(runtime, name)
    return views.render("tenant", status, view=view, budgets=_units(runtime, view), **shown)


def _units(runtime: Runtime, view: dict[str, Any]) -> dict[str, str]:
    """Return the unit of each provider that has known prices, or a budget of the tenant."""
    enabled = runtime.settings.providers
    priced = {name: each.prices.unit for name, each in enabled.items() if each.prices}
    known = view["limits"]["daily_budgets"]
    return {**{name: budget["unit"] for name, budget in known.items()}, **priced}


def _changes(runtime: Runtime, name: str, form: Any) -> tuple[dict[str, str], str | None]:
    """Return the changed settings, and the new secret if there is one. Empty fields remove."""
    view = tenant_view(runtime, name)
    limits = view["limits"]
    budgets = {p: budget["amount"] for p, budget in limits["daily_budgets"].items()}
    before = {
        **{limit: limits[limit] for limit in LIMITS},
        **{BUDGET + p: budgets.get(p) for p in _units(runtime, view)},
    }
    changes = {}
    for setting, value in before.items():
        text = form.get(setting, "").strip()
        if setting in form and text != ("" if value is None else f"{value:.15g}"):
            changes[setting] = text or NONE
    secret = standard_webhooks.new_secret() if form.get("secret") == NEW else None
    if secret or form.get("secret") == REMOVE:
        changes["notify_secret"] = secret or NONE
    return changes, secret


def _errors(error: InvalidRequest) -> dict[str, str]:
    """Return the sentences by field. The error of a budget names its provider in the value."""
    found = {}
    for field, text in views.mistakes(error).items():
        value = next(str(v.value) for v in error.violations if v.field == field)
        is_budget = field == "daily_budget"
        found[BUDGET + value.partition("=")[0] if is_budget else field] = text
    return found
