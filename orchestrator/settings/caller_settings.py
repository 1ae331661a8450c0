"""Reads who may call us, how callers are notified, and the secrets that sign."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from orchestrator.jobs.tenant import is_tenant
from orchestrator.security import standard_webhooks
from orchestrator.security.secret import Secret
from orchestrator.settings.environment import (
    ConfigError,
    EnvironmentReader,
    invalid_setting,
    redacted,
)
from orchestrator.settings.model_routes import read_model_routes

#: The shortest secret that signs callback URLs. Characters.
MIN_SECRET_CHARACTERS = 16
#: The shortest key of the API. Characters.
MIN_API_KEY_CHARACTERS = 16
_MAKE_ONE = "make one with: openssl rand -hex 32"
_MAKE_WHSEC = 'make one with: echo "whsec_$(openssl rand -base64 32)"'
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")


def read_callers(env: EnvironmentReader) -> dict[str, Any]:
    """Read who may call us, and how callers are notified."""
    return {
        **_api_keys(env),
        "metrics_tenants": env.boolean("ORCHESTRATOR_METRICS_TENANTS", default=False),
        "notify_secrets": _notify_secrets(env),
        "notify_tasks": env.items("ORCHESTRATOR_NOTIFY_TASKS"),
        "cors_origins": _origins(env),
        "model_routes": read_model_routes(env),
    }


def read_secret_keys(env: EnvironmentReader, *, required: bool) -> tuple[Secret, ...]:
    """Read the secrets that sign URLs, newest first."""
    name = "ORCHESTRATOR_SECRET_KEY"
    current = env.optional(name)
    if not current:
        if required:
            reason = "It signs callback URLs, because ORCHESTRATOR_PUBLIC_URL is set."
            raise ConfigError(f"{name} is not set. {reason} Set it; {_MAKE_ONE}")
        return ()
    old = env.items("ORCHESTRATOR_SECRET_KEYS_OLD")
    for variable, values in ((name, [current]), ("ORCHESTRATOR_SECRET_KEYS_OLD", old)):
        if any(len(value) < MIN_SECRET_CHARACTERS for value in values):
            raise invalid_setting(
                variable, "***", f"at least {MIN_SECRET_CHARACTERS} characters each; {_MAKE_ONE}"
            )
    return tuple(Secret(value) for value in (current, *old))


def _api_keys(env: EnvironmentReader) -> dict[str, dict[str, Secret]]:
    """Read the keys of tenants and of administrators. No two may be the same."""
    tenants = _named_keys(env, "ORCHESTRATOR_API_KEYS", set())
    admins = _named_keys(env, "ORCHESTRATOR_ADMIN_KEYS", {k.reveal() for k in tenants.values()})
    return {"api_keys": tenants, "admin_keys": admins}


def _is_on_this_machine(env: EnvironmentReader) -> bool:
    """Return whether callbacks come from this machine only, as in `orchestrator dev`."""
    host = urlsplit(env.text("ORCHESTRATOR_PUBLIC_URL", "")).hostname or ""
    return host in ("localhost", "127.0.0.1", "::1")


def _named_keys(env: EnvironmentReader, variable: str, used: set[str]) -> dict[str, Secret]:
    keys: dict[str, Secret] = {}
    for pair in env.items(variable):
        name, _, key = pair.partition(":")
        if not is_tenant(name) or not key or name in keys:
            allowed = "name:key,name:key with different names; names are letters, digits, _ . -"
            raise invalid_setting(variable, "***", allowed)
        if len(key) < MIN_API_KEY_CHARACTERS and not _is_on_this_machine(env):
            allowed = f"keys of at least {MIN_API_KEY_CHARACTERS} characters; {_MAKE_ONE}"
            raise invalid_setting(variable, f"a shorter key of {name}", allowed)
        if key in used:
            raise invalid_setting(variable, f"the key of {name} twice", "different keys")
        used.add(key)
        keys[name] = Secret(key)
    return keys


def _origins(env: EnvironmentReader) -> tuple[str, ...]:
    """Read the origins of web pages. An origin has no path."""
    name = "ORCHESTRATOR_CORS_ORIGINS"
    origins = env.items(name)
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            allowed = "origins such as https://app.example.com, with commas; or *"
            raise invalid_setting(name, redacted(origin), allowed)
    return origins


def _notify_secrets(env: EnvironmentReader) -> tuple[Secret, ...]:
    name, old = "ORCHESTRATOR_NOTIFY_SECRET", "ORCHESTRATOR_NOTIFY_SECRETS_OLD"
    current = env.optional(name)
    if not current:
        return ()
    earlier = env.items(old)
    for variable, values in ((name, [current]), (old, earlier)):
        if not all(map(standard_webhooks.is_secret, values)):
            raise invalid_setting(variable, "***", f"{standard_webhooks.SECRET_FORM} {_MAKE_WHSEC}")
    return tuple(map(Secret, (current, *earlier)))
