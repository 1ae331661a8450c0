"""What forms share: errors by field, and numbers."""

from __future__ import annotations

from orchestrator.jobs.validation import InvalidRequest, Violation

#: The longest number in a form. Characters.
MAX_DIGITS = 12


def mistakes(error: InvalidRequest) -> dict[str, str]:
    """Return the sentence of each wrong field by its name."""
    return {violation.field: str(violation) for violation in error.violations}


def whole_number(field: str, text: str, low: int, high: int, otherwise: str = "") -> int:
    """Return the number of a field.

    Args:
        field: the name of the field.
        text: what it has.
        low: the lowest number.
        high: the highest number.
        otherwise: what else is allowed, for the error.

    Raises:
        InvalidRequest: it is no such number.
    """
    digits = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    if not digits or not low <= int(text) <= high:
        allowed = f"a whole number from {low} to {high}" + (f", or {otherwise}" * bool(otherwise))
        raise InvalidRequest(Violation(field, text, allowed))
    return int(text)
