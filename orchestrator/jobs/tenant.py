"""The name of a tenant. A tenant owns jobs, and other tenants do not see them."""

from __future__ import annotations

import re

from orchestrator.jobs.validation import InvalidRequest, Violation

#: The tenant of a job whose caller names none.
DEFAULT_TENANT = "default"
#: The form of a name. It is safe in Redis keys and in metrics. For error messages.
TENANT_FORM = "1 to 64 letters, digits, _ . -"

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


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
