"""Who calls: the key and its owner. Every route needs a key unless it is listed here."""

from __future__ import annotations

from typing import cast

from flask import Flask, current_app, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from orchestrator import log
from orchestrator.jobs.tenant import tenant_name
from orchestrator.operations.callers import Caller, KeyRefused, identify
from orchestrator.runtime import Runtime
from orchestrator.security.api_keys import Scope

#: The blueprint of the dashboard's pages. They ask for a session instead of a key.
DASHBOARD = "dashboard"
#: The blueprints of calls that Google's clients make. They have a header of their own for the key.
GOOGLE_CALLS, GOOGLE_KEY = ("gemini", "models"), "x-goog-api-key"
#: Endpoints without a key. The token in the URL of a callback is its key.
PUBLIC_ENDPOINTS = frozenset(
    {
        *("api-docs.openapi_json", "documentation.page", "documentation.file"),
        *("public_images.show", "references.show"),
        "documentation.language_models",
        *("callbacks.receive", "health.alive", "health.ready", "metrics.show"),
    }
)
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: The refusal of a key that names another tenant.
OWN_TENANT_ONLY = "this key sees only its own tenant; leave out `tenant`, or use an admin key"
#: The name of the log of refused requests in the application.
_REFUSALS = "refusals"
#: The longest part of a path in a log line. Characters.
_MAX_PATH_CHARACTERS = 100


def install(app: Flask, runtime: Runtime) -> None:
    """Ask for a key before every route that is not in PUBLIC_ENDPOINTS."""

    app.extensions[_REFUSALS] = log.RateLimitedLog("request_refused")

    @app.before_request
    def authorise() -> None:
        if request.endpoint is None or request.endpoint in PUBLIC_ENDPOINTS:
            return
        if request.blueprint == DASHBOARD:
            return
        if request.method == "OPTIONS":  # a browser asks without a key which methods there are
            return
        g.caller = _caller(runtime)
        require(Scope.JOBS_READ if request.method in _READ_METHODS else Scope.JOBS_WRITE)


def caller() -> Caller:
    """Return the caller of this request."""
    return cast(Caller, g.caller)


def require(scope: Scope) -> None:
    """Refuse the request unless the caller's key has a scope. OPTIONS needs no key.

    Raises:
        Forbidden: the key lacks it.
    """
    if request.method == "OPTIONS":
        return
    if not caller().admin and scope not in caller().scopes:
        _log("scope", caller().name)
        fix = f"use one that has it (orchestrator keys create --scopes {scope})"
        raise Forbidden(f"this key lacks the scope {scope}; {fix}")


def chosen_tenant() -> str | None:
    """Return the tenant whose jobs the request is about, or None: all tenants.

    An administrator may name one in `?tenant=`. Another caller has only its own.

    Raises:
        Forbidden: the caller may not see this tenant.
        InvalidRequest: the name is not a tenant's name.
    """
    named = request.args.get("tenant")
    if named is None:
        return None if caller().admin else caller().tenant
    if not caller().sees(tenant_name(named)):
        _log("tenant", caller().name)
        raise Forbidden(OWN_TENANT_ONLY)
    return named


def _caller(runtime: Runtime) -> Caller:
    key = bearer_key(request.headers.get("Authorization", ""))
    if not key and request.blueprint in GOOGLE_CALLS:
        key = request.headers.get(GOOGLE_KEY, "").strip()
    if not key:
        _log("no key", None)
        raise _unauthorized("The header Authorization: Bearer KEY is required")
    try:
        return identify(runtime, key)
    except KeyRefused as refusal:
        _log(refusal.reason, refusal.key_id)
        raise _unauthorized(str(refusal)) from None


def bearer_key(authorization: str) -> str:
    """Return the key in a header `Authorization: Bearer KEY`, or empty text."""
    scheme, _, credentials = authorization.partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def _unauthorized(reason: str) -> Unauthorized:
    challenge = WWWAuthenticate("bearer", {"realm": "orchestrator"})
    return Unauthorized(reason, www_authenticate=challenge)


def _log(reason: str, caller_name: str | None) -> None:
    path = request.path[:_MAX_PATH_CHARACTERS]
    fields = {"method": request.method, "path": path, "address": request.remote_addr}
    refusals: log.RateLimitedLog = current_app.extensions[_REFUSALS]
    refusals.warning(reason, reason=reason, caller=caller_name, **fields)
