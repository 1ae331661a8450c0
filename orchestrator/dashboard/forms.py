"""What forms share: errors by field."""

from __future__ import annotations

from orchestrator.jobs.validation import InvalidRequest


def mistakes(error: InvalidRequest) -> dict[str, str]:
    """Return the sentence of each wrong field by its name."""
    return {violation.field: str(violation) for violation in error.violations}
