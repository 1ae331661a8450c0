"""The pages of docs/providers, and the rows of their tables of errors."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.jobs.model import ErrorCode

DOCS = Path(__file__).resolve().parents[2] / "docs" / "providers"
#: A row of a table of errors that starts with HTTP statuses: statuses, our code, retried.
_STATUS_ROW = re.compile(r"(?m)^\| ([\d, ]+) (?:\[doc\] )?\| (?:`\w+` \| )?`(\w+)` \| (\w+)")
#: A row that starts with the provider's own code.
_CODE_ROW = re.compile(r"(?m)^\| (?:\d+ \| )?`(\w+)` \| `(\w+)` \| (no|yes|after)\b")


def page(name: str) -> str:
    """Return the page of a provider."""
    return (DOCS / f"{name}.md").read_text("utf-8")


def errors_by_status(name: str) -> dict[int, tuple[ErrorCode, bool]]:
    """Return our error codes by HTTP status, and whether the error may pass."""
    return {
        status: (ErrorCode(code), retried in ("yes", "after"))
        for statuses, code, retried in _STATUS_ROW.findall(page(name))
        for status in map(int, statuses.split(", "))
    }


def errors_by_code(name: str) -> dict[str, tuple[ErrorCode, bool]]:
    """Return our error codes by the provider's code, and whether the error may pass."""
    return {
        theirs: (ErrorCode(ours), retried in ("yes", "after"))
        for theirs, ours, retried in _CODE_ROW.findall(page(name))
    }
