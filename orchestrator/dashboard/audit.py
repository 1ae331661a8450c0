"""The audit log: who changed what."""

from __future__ import annotations

from flask import Blueprint, Response, request

from orchestrator.dashboard import views
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.ledger.audit import ENTRY_ID, AuditEntry
from orchestrator.runtime import Runtime

#: The entries of a page.
PAGE_ENTRIES = 50
#: The filters: an entry has each given text in the field of that name, in upper or lower case.
FILTERS = ("actor", "action", "target")


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the route."""

    @pages.get("/audit")
    def audit() -> Response:
        """A page of entries, newest first."""
        views.require_admin()
        if answer := views.unchanged(runtime, jobs=False):
            return answer
        wanted = {name: request.args.get(name, "").strip() for name in FILTERS}
        entries, cursor = runtime.ledger.audit.find(
            lambda entry: _matches(entry, wanted), PAGE_ENTRIES, below=_cursor()
        )
        return views.render("audit", entries=entries, cursor=cursor, wanted=wanted)


def _matches(entry: AuditEntry, wanted: dict[str, str]) -> bool:
    target = " ".join((entry.target, *entry.detail.values()))
    known = {"actor": entry.actor, "action": entry.action.replace("_", " "), "target": target}
    return all(
        text.replace("_", " ").casefold() in known[name].replace("_", " ").casefold()
        for name, text in wanted.items()
    )


def _cursor() -> str | None:
    """Return the id of the last entry of the page before.

    Raises:
        InvalidRequest: it is no id.
    """
    given = request.args.get("after") or None
    if given and not ENTRY_ID.fullmatch(given):
        raise InvalidRequest(Violation("after", given, "the id of an entry"))
    return given
