"""Keys and tenants: make, rotate and revoke API keys; the tenants with their limits."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request, url_for

from orchestrator.clock import DAY_MS
from orchestrator.dashboard import views
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation, whole_number
from orchestrator.operations.keys import (
    MAX_NAME_CHARACTERS,
    UnknownKey,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
)
from orchestrator.operations.tenants import list_tenants
from orchestrator.runtime import Runtime
from orchestrator.security.api_keys import DEFAULT_SCOPES, Scope

#: The most keys, and the most tenants, that the page lists.
MAX_LISTED = 200
#: The longest lifetime of a key that has an end. Days.
MAX_DAYS = 3650
#: An hour. ms.
HOUR_MS = 3_600_000
#: How long an old key may work beside the one that replaces it: the name, and ms.
OVERLAPS = {"24 hours": DAY_MS, "1 hour": HOUR_MS, "7 days": 7 * DAY_MS, "no time": 0}
#: What each scope allows.
SCOPES = {
    Scope.JOBS_READ: "see the tenant's jobs and figures",
    Scope.JOBS_WRITE: "enqueue, cancel, retry and notify",
    Scope.ADMIN: "everything, for all tenants",
}


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes."""

    @pages.get("/keys")
    def keys() -> Response:
        """All keys and tenants."""
        views.require_admin()
        if answer := views.unchanged(runtime):
            return answer
        return _page(runtime)

    @pages.post("/keys")
    def create_key_form() -> Response:
        """Make a key. Only this answer shows it."""
        views.require_admin()
        return _create(runtime)

    @pages.post("/keys/<key_id>/rotate")
    def rotate_key_form(key_id: str) -> Response:
        """Make a key in the place of another one. Only this answer shows it."""
        views.require_admin()
        return _rotate(runtime, key_id)

    @pages.post("/keys/<key_id>/revoke")
    def revoke_key_form(key_id: str) -> Response:
        """Refuse a key from now on."""
        views.require_admin()
        try:
            key = revoke_key(runtime, key_id, actor=views.caller().name)
        except UnknownKey as error:
            return views.done(runtime, f"Nothing was changed: {error}.", "keys")
        return views.done(runtime, f"{key.id} of {key.tenant} is revoked.", "keys")


def _create(runtime: Runtime) -> Response:
    form = request.form
    try:
        key, record = create_key(
            runtime,
            actor=views.caller().name,
            tenant=form.get("tenant", "").strip(),
            scopes=form.getlist("scopes"),
            name=form.get("name", "").strip(),
            expires_in_ms=_lifetime(form.get("days", "").strip()),
        )
    except InvalidRequest as error:
        return _page(runtime, 422, given=form, errors=views.mistakes(error))
    return _page(runtime, new_key=key, new=record)


def _rotate(runtime: Runtime, key_id: str) -> Response:
    overlap, actor = request.form.get("overlap", ""), views.caller().name
    if overlap not in OVERLAPS:
        raise InvalidRequest(Violation("overlap", overlap, OneOfNames(OVERLAPS)))
    try:
        key, record = rotate_key(runtime, key_id, actor=actor, overlap_ms=OVERLAPS[overlap])
    except UnknownKey as error:
        return views.done(runtime, f"Nothing was changed: {error}.", "keys")
    return _page(runtime, new_key=key, new=record, old=key_id, overlap=overlap)


def _page(runtime: Runtime, status: int = 200, **context: Any) -> Response:
    tenant, now = views.chosen_tenant(), runtime.clock()
    keys = list_keys(runtime, tenant)[::-1]
    tenants = [t for t in list_tenants(runtime) if tenant in (None, t["tenant"])]
    shown = {
        "given": None,
        "errors": {},
        "new_key": None,
        **context,
        "keys": [(key, key.refusal(now)) for key in keys[:MAX_LISTED]],
        "all_keys": len(keys),
        "views": tenants[:MAX_LISTED],
        "all_tenants": len(tenants),
        "settings": runtime.settings,
        "scopes": SCOPES,
        "default_scopes": DEFAULT_SCOPES,
        "overlaps": OVERLAPS,
        "longest_name": MAX_NAME_CHARACTERS,
        "here": url_for("dashboard.keys", tenant=tenant if request.args.get("tenant") else None),
    }
    return views.render("keys", status, **shown)


def _lifetime(days: str) -> int | None:
    """Return the lifetime of a new key, ms, or None: it has no end."""
    if not days:
        return None
    return DAY_MS * whole_number("days", days, 1, MAX_DAYS, "empty: the key has no end")
