"""The filters of jobs in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.enqueuing import MAX_KEY_CHARACTERS
from orchestrator.jobs.model import ErrorCode, Status
from orchestrator.jobs.tenant import TENANT_PATTERN
from orchestrator.operations.filters import (
    FILTERS,
    FOLLOW_UP_STATUSES,
    MAX_CHARACTERS,
    METADATA,
    TIME,
)

#: Stands for the filters by metadata.
ANY_METADATA = f"{METADATA}<key>"


def filter_schemas(providers: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each filter. Without a type it is text."""
    text = {"minLength": 1, "maxLength": MAX_CHARACTERS}
    return {
        **dict.fromkeys(("model", "task_id", "batch", ANY_METADATA, "q"), text),
        "status": {"enum": [s.value for s in Status]},
        "provider": {"enum": list(providers)},
        "error": {"enum": [code.value for code in ErrorCode]},
        "tenant": {"pattern": TENANT_PATTERN},
        "idempotency_key": {"minLength": 1, "maxLength": MAX_KEY_CHARACTERS},
        "created_after": {"pattern": f"^{TIME.pattern}$"},
        "created_before": {"pattern": f"^{TIME.pattern}$"},
        "unconfirmed": {"type": "boolean"},
        **{name: {"enum": statuses} for name, statuses in FOLLOW_UP_STATUSES.items()},
        "at_risk": {"type": "boolean"},
    }


def filter_object(providers: Iterable[str]) -> dict[str, Any]:
    """Return the JSON schema of an object with filters."""
    schemas = filter_schemas(providers)
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": meaning, **schemas[name]}
            for name, meaning in FILTERS.items()
            if name != ANY_METADATA
        },
        "additionalProperties": {
            "type": ["string", "number", "boolean"],
            "description": f"`{ANY_METADATA}`: {FILTERS[ANY_METADATA]}",
            **schemas[ANY_METADATA],
        },
    }
