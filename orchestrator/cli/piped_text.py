"""Text that a command reads from its standard input."""

from __future__ import annotations

import sys

from orchestrator.jobs.validation import InvalidRequest, Violation


def piped_text(name: str) -> str:
    """Return the standard input as the value of an option.

    Raises:
        InvalidRequest: it is not UTF-8, or what the locale says.
    """
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x}"
        raise InvalidRequest(Violation(name, byte, f"{error.encoding} text")) from None
