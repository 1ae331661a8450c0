"""Sets and lists the limits and secrets of tenants."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from orchestrator.clock import DAY_MS
from orchestrator.jobs.tenant import (
    BUDGET,
    Budget,
    NotifySecret,
    Tenant,
    stored_secrets,
    tenant_name,
)
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation, whole_number
from orchestrator.runtime import Runtime
from orchestrator.security import standard_webhooks
from orchestrator.security.secret import Secret

#: The highest limit of open jobs, and of jobs per second.
MAX_OPEN, MAX_RATE = 10_000_000, 100_000
#: The highest daily budget, in the provider's unit.
MAX_BUDGET = 1e12
_BUDGET = re.compile(r"([0-9]{1,13}(?:\.[0-9]{1,9})?) ?(\S*)")
#: The lowest rate: one job per day. Jobs per second.
MIN_RATE = 1 / 86_400
#: The value that removes a setting.
NONE = "none"
#: A replaced secret signs notifications for this time, beside the new one. ms.
SECRET_OVERLAP_MS = DAY_MS
#: The most replaced secrets that sign beside the new one.
MAX_OLD_SECRETS = 3


def set_tenant(runtime: Runtime, name: str, changes: Mapping[str, str], *, actor: str) -> None:
    """Change settings of a tenant.

    Args:
        runtime: of this process.
        name: the tenant.
        changes: the new values as text: max_open, requests_per_second, notify_secret, and
            BUDGET with a provider's name. `none` removes a setting.
        actor: who asks, for the audit trail.

    Raises:
        InvalidRequest: the name or a value is wrong. Nothing has changed.
        LedgerUnavailable: Redis is away.
    """
    tenant_name(name)
    stored = {
        setting: _stored(runtime, setting, value)
        for setting, value in changes.items()
        if setting != "notify_secret"
    }
    if (secret := changes.get("notify_secret")) is not None:
        known = runtime.ledger.access.read().tenant(name)
        stored["notify_secrets"] = _secrets(known, secret, runtime.clock())
    runtime.ledger.access.set_tenant(name, stored)
    shown = {s: "***" if s == "notify_secret" else value for s, value in changes.items()}
    runtime.audit(actor, "tenant_set", name, **shown)


def list_tenants(runtime: Runtime) -> list[dict[str, Any]]:
    """Return a view of every tenant that has settings, a key or jobs.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    access, counts = runtime.ledger.access.read(), runtime.ledger.overview.tenants()
    of_keys = {key.tenant for key in access.keys.values()} | set(runtime.settings.api_keys)
    names = sorted({*access.tenants, *counts, *of_keys})
    return [_view(runtime, access.tenant(name), counts.get(name, {})) for name in names]


def tenant_view(runtime: Runtime, name: str) -> dict[str, Any]:
    """Return a tenant's limits and numbers of jobs as JSON-ready data. Secrets are only counted.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    counts = runtime.ledger.overview.tenants().get(name, {})
    return _view(runtime, runtime.ledger.access.current().tenant(name), counts)


def _view(runtime: Runtime, tenant: Tenant, counts: Mapping[str, int]) -> dict[str, Any]:
    now = runtime.clock()
    budgets = tenant.daily_budgets
    spent = runtime.ledger.overview.spent(tenant.name, now=now) if budgets else {}
    return {
        "tenant": tenant.name,
        "jobs": {name: counts.get(name, 0) for name in TENANT_COUNTS},
        "limits": {
            "max_open": tenant.max_open,
            "requests_per_second": tenant.requests_per_second,
            "daily_budgets": {
                provider: {**asdict(budget), "spent": spent.get((provider, budget.unit), 0.0)}
                for provider, budget in budgets.items()
            },
        },
        "notify_secrets": len(tenant.secrets(now)),
    }


#: The numbers of a tenant's jobs: open now, and ended since the start.
TENANT_COUNTS = ("open", "succeeded", "failed", "cancelled")


def _stored(runtime: Runtime, setting: str, value: str) -> str | None:
    """Return a setting in its stored form."""
    if setting.startswith(BUDGET):
        return _budget(runtime, setting.removeprefix(BUDGET), value)
    if value == NONE:
        return None
    if setting == "max_open":
        return str(whole_number(setting, value, runtime.ledger.shards, MAX_OPEN, NONE))
    return f"{_rate(setting, value):.15g}"


def _budget(runtime: Runtime, provider: str, value: str) -> str | None:
    """Return a daily budget in its stored form. Its unit is that of the provider's prices."""
    if provider not in runtime.providers:
        raise InvalidRequest(
            Violation("daily_budget", provider, OneOfNames(list(runtime.providers)))
        )
    if value == NONE:
        return None
    settings = runtime.settings.providers.get(provider)
    if settings is None or settings.prices is None:
        allowed = f"for a provider with known prices; set {provider.upper()}_PRICES"
        raise InvalidRequest(Violation("daily_budget", f"{provider}={value}", allowed))
    match, unit = _BUDGET.fullmatch(value), settings.prices.unit
    if not match or not 0 < float(match[1]) <= MAX_BUDGET or match[2] not in ("", unit):
        allowed = f"PROVIDER=AMOUNT with an amount above 0 in {unit}, or {NONE}"
        raise InvalidRequest(Violation("daily_budget", f"{provider}={value}", allowed))
    return str(Budget(float(match[1]), unit))


def _rate(setting: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not MIN_RATE <= number <= MAX_RATE:
        allowed = f"a number of jobs per second from {MIN_RATE:.2g} to {MAX_RATE}, or {NONE}"
        raise InvalidRequest(Violation(setting, value, allowed))
    return number


def _secrets(known: Tenant, value: str, now: int) -> str | None:
    """Return the new secret and the replaced ones, which sign beside it for a while."""
    if value == NONE:
        return None
    if not standard_webhooks.is_secret(value):
        allowed = f"{standard_webhooks.SECRET_FORM.rstrip(';')}, or {NONE}"
        raise InvalidRequest(Violation("notify_secret", "***", allowed))
    if known.notify_secrets and known.notify_secrets[0].secret.reveal() == value:
        return stored_secrets(known.notify_secrets)
    old = [
        NotifySecret(s.secret, s.ends_at or now + SECRET_OVERLAP_MS)
        for s in known.notify_secrets
        if s.ends_at is None or now < s.ends_at
    ]
    return stored_secrets((NotifySecret(Secret(value)), *old[:MAX_OLD_SECRETS]))
