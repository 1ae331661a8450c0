"""Who calls: the key, its tenant and its scopes. Every route needs a key unless it is listed here.

Keys come from ORCHESTRATOR_API_KEYS, ORCHESTRATOR_ADMIN_KEYS and the ledger.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from orchestrator import log
from orchestrator.jobs.tenant import DEFAULT_TENANT, tenant_name
from orchestrator.runtime import Runtime
from orchestrator.security.api_keys import (
    DEFAULT_SCOPES,
    KEY_CHARACTERS,
    KEY_PREFIX,
    Scope,
    digest,
)
from orchestrator.security.secret import Secret

#: Endpoints without a key. The token in the URL of a callback is its key.
PUBLIC_ENDPOINTS = frozenset(
    {
        *("api-docs.openapi_json", "documentation.page", "documentation.file"),
        "public_images.show",
        *("callbacks.receive", "health.alive", "health.ready", "metrics.show"),
    }
)
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: The name of the log of refused requests in the application.
_REFUSALS = "refusals"
#: The longest part of a path in a log line. Characters.
_MAX_PATH_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of the key of a request. `name` is for logs: never the key itself."""

    name: str
    tenant: str
    scopes: frozenset[Scope]

    @property
    def admin(self) -> bool:
        """Whether the caller may see and do everything."""
        return Scope.ADMIN in self.scopes

    def sees(self, tenant: str) -> bool:
        """Return whether the caller may know the jobs of a tenant."""
        return self.admin or tenant == self.tenant


def install(app: Flask, runtime: Runtime) -> None:
    """Ask for a key before every route that is not in PUBLIC_ENDPOINTS."""

    app.extensions[_REFUSALS] = log.RateLimitedLog("request_refused")

    @app.before_request
    def authorise() -> None:
        if request.endpoint is None or request.endpoint in PUBLIC_ENDPOINTS:
            return
        if request.method == "OPTIONS":  # a browser asks without a key which methods there are
            return
        g.caller = _caller(runtime)
        require(Scope.JOBS_READ if request.method in _READ_METHODS else Scope.JOBS_WRITE)


def caller() -> Caller:
    """Return the caller of this request."""
    return cast(Caller, g.caller)


def require(scope: Scope) -> None:
    """Refuse the request unless the caller's key has a scope.

    Raises:
        Forbidden: the key lacks it.
    """
    if not caller().admin and scope not in caller().scopes:
        _log("scope", caller().name)
        raise Forbidden(f"this key lacks the scope {scope}")


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
        raise Forbidden("this key sees only its own tenant")
    return named


def _caller(runtime: Runtime) -> Caller:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    key = credentials.strip()
    if scheme.lower() != "bearer" or not key:
        _log("no key", None)
        raise _unauthorized("The header Authorization: Bearer KEY is required")
    settings = runtime.settings
    if name := _name_of(settings.admin_keys, key):
        return Caller(f"admin:{name}", DEFAULT_TENANT, frozenset({Scope.ADMIN}))
    if name := _name_of(settings.api_keys, key):
        return Caller(name, name, DEFAULT_SCOPES)
    return _of_ledger(runtime, key)


def _of_ledger(runtime: Runtime, key: str) -> Caller:
    if key.startswith(KEY_PREFIX) and len(key) != KEY_CHARACTERS:
        _log("incomplete key", None)
        raise _unauthorized(f"the key is not complete: it has {KEY_CHARACTERS} characters")
    stored = runtime.ledger.access.current().keys.get(digest(key))
    if stored is None:
        _log("unknown key", None)
        raise _unauthorized("the key is unknown")
    if refusal := stored.refusal(runtime.clock()):
        _log(f"{refusal} key", stored.id)
        raise _unauthorized(f"the key {stored.id} is {refusal}")
    return Caller(f"{stored.tenant}/{stored.id}", stored.tenant, stored.scopes)


def _name_of(keys: Mapping[str, Secret], key: str) -> str | None:
    """Return the name of a key. Each is compared in constant time, so time reveals nothing."""
    sent = key.encode("utf-8", "replace")
    matches = [n for n, known in keys.items() if hmac.compare_digest(known.reveal().encode(), sent)]
    return matches[0] if matches else None


def _unauthorized(reason: str) -> Unauthorized:
    challenge = WWWAuthenticate("bearer", {"realm": "orchestrator"})
    return Unauthorized(reason, www_authenticate=challenge)


def _log(reason: str, caller_name: str | None) -> None:
    path = request.path[:_MAX_PATH_CHARACTERS]
    fields = {"method": request.method, "path": path, "address": request.remote_addr}
    refusals: log.RateLimitedLog = current_app.extensions[_REFUSALS]
    refusals.warning(reason, reason=reason, caller=caller_name, **fields)
