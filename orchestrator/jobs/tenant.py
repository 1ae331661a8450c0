"""Tenants. A tenant owns jobs, and other tenants do not see them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.security.secret import Secret

#: The tenant of a job whose caller names none.
DEFAULT_TENANT = "default"
#: The form of a name. It is safe in Redis keys and in metrics. For error messages.
TENANT_FORM = "1 to 64 letters, digits, _ . -"

#: A sum may exceed its budget by this, because 1.1 + 2.2 is a bit more than 3.3. The scripts of the
#: ledger have the same number.
BUDGET_TOLERANCE = 1e-9
#: The setting of a budget is this and the provider's name.
BUDGET = "budget."
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
#: The same for the OpenAPI document.
TENANT_PATTERN = f"^{_NAME.pattern}$"


def is_tenant(text: str) -> bool:
    """Return whether a text has the form of a tenant's name."""
    return _NAME.fullmatch(text) is not None


def tenant_name(value: object) -> str:
    """Return the name of a tenant; None is DEFAULT_TENANT.

    Raises:
        InvalidRequest: the value is not a name.
    """
    if value is None:
        return DEFAULT_TENANT
    if not isinstance(value, str) or not is_tenant(value):
        raise InvalidRequest(Violation("tenant", value, TENANT_FORM))
    return value


@dataclass(frozen=True, slots=True)
class NotifySecret:
    """A secret that signs a tenant's notifications, until `ends_at` (ms; None: no end)."""

    secret: Secret
    ends_at: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """The most cost per day, in the provider's unit."""

    amount: float
    unit: str

    @classmethod
    def read(cls, stored: str) -> Budget:
        """Return a budget from its stored form."""
        amount, _, unit = stored.partition(" ")
        return cls(float(amount), unit)

    def allows(self, amount: float, *, shards: int = 1) -> bool:
        """Return whether an amount fits into a shard's part. Fractions are rounded, as in Redis."""
        return amount <= self.amount / shards + BUDGET_TOLERANCE

    def __str__(self) -> str:
        return f"{self.amount:.15g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Tenant:
    """The settings of a tenant. None means no limit."""

    name: str
    #: The most jobs that are open at once.
    max_open: int | None = None
    #: The most new jobs per second.
    requests_per_second: float | None = None
    #: By provider.
    daily_budgets: Mapping[str, Budget] = field(default_factory=dict)
    #: Newest first.
    notify_secrets: tuple[NotifySecret, ...] = ()

    @classmethod
    def read(cls, name: str, stored: Mapping[str, str]) -> Tenant:
        """Return a tenant from its stored settings."""
        max_open, rate = stored.get("max_open"), stored.get("requests_per_second")
        return cls(
            name,
            max_open=int(max_open) if max_open else None,
            requests_per_second=float(rate) if rate else None,
            daily_budgets={
                setting.removeprefix(BUDGET): Budget.read(value)
                for setting, value in stored.items()
                if setting.startswith(BUDGET)
            },
            notify_secrets=tuple(
                NotifySecret(Secret(secret), ends_at)
                for secret, ends_at in orjson.loads(stored.get("notify_secrets", "[]"))
            ),
        )

    def secrets(self, now: int) -> tuple[Secret, ...]:
        """Return the secrets that sign notifications at a time (ms), newest first."""
        return tuple(s.secret for s in self.notify_secrets if s.ends_at is None or now < s.ends_at)


def stored_secrets(secrets: Iterable[NotifySecret]) -> str:
    """Return secrets in their stored form."""
    return orjson.dumps([[s.secret.reveal(), s.ends_at] for s in secrets]).decode()
