"""Checks the settings: misspelt and dangerous ones, and what they leave out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from difflib import get_close_matches

from orchestrator.operations.check_result import CheckResult
from orchestrator.providers import PROVIDERS
from orchestrator.settings.dangers import dangers
from orchestrator.settings.provider_settings import provider_variables
from orchestrator.settings.settings import VARIABLES, Settings

#: A name that is this similar to one of ours is a misspelt one, whatever its prefix is.
_SIMILAR = 0.9


def unknown_variables() -> Iterator[CheckResult]:
    """Warn of each variable that looks like one of ours and is not read."""
    known = VARIABLES | {
        name for provider in PROVIDERS.values() for name in provider_variables(provider)
    }
    prefixes = ("ORCHESTRATOR_", *(f"{name.upper()}_" for name in PROVIDERS))
    for name in sorted(os.environ):
        if name in known or name.removesuffix("_FILE") in known:
            continue
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        near = _nearest(name, prefix, known)
        if prefix or near:
            fix = f"did you mean {near}?" if near else "remove it; this version does not read it"
            yield CheckResult("settings", "warning", f"{name} is not a setting", fix)


def _nearest(name: str, prefix: str | None, known: Collection[str]) -> str | None:
    """Return the variable that was probably meant: of the same prefix, if the name has one."""
    if prefix is None:
        return next(iter(get_close_matches(name, known, 1, _SIMILAR)), None)
    rests = [each.removeprefix(prefix) for each in known if each.startswith(prefix)]
    near = get_close_matches(name.removeprefix(prefix), rests, 1)
    return f"{prefix}{near[0]}" if near else None


def check_settings(settings: Settings) -> Iterator[CheckResult]:
    """Check what the settings allow and what they leave out."""
    yield from _settings(settings)
    for danger in dangers(settings):
        yield CheckResult("safety", "warning", danger.allows, danger.fix)


def _settings(settings: Settings) -> Iterator[CheckResult]:
    names = ", ".join(settings.providers)
    if names:
        yield CheckResult("providers", "ok", names)
    else:
        yield CheckResult("providers", "wrong", "no provider is on", f"set one of {_key_names()}")
    if settings.public_url:
        yield CheckResult("public URL", "ok", settings.public_url)
    else:
        fix = "set ORCHESTRATOR_PUBLIC_URL to where providers reach the web process"
        yield CheckResult("public URL", "warning", "not set, so every job is polled", fix)
    if callers := [*settings.api_keys, *settings.admin_keys]:
        yield CheckResult("API keys", "ok", ", ".join(callers))
    else:
        fix = "set ORCHESTRATOR_API_KEYS=name:key, or use: orchestrator keys create"
        detail = "none in the settings; without a key in the ledger, web does not start"
        yield CheckResult("API keys", "warning", detail, fix)
    if settings.notify_secrets:
        number = len(settings.notify_secrets)
        detail = f"signed with {number} {'secret' if number == 1 else 'secrets'}"
        yield CheckResult("notifications", "ok", detail)
    else:
        detail = "no secret is set, so jobs with a notify_url are refused"
        yield CheckResult("notifications", "warning", detail, "set ORCHESTRATOR_NOTIFY_SECRET")


def _key_names() -> str:
    return ", ".join(f"{name.upper()}_API_KEY" for name in PROVIDERS)
