"""The overview: what happens now, and what needs somebody."""

from __future__ import annotations

from flask import Blueprint, Response

from orchestrator.dashboard import views
from orchestrator.operations.stats import ledger_stats
from orchestrator.runtime import Runtime


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the route."""

    @pages.get("/")
    def overview() -> Response:
        """Jobs by status."""
        if answer := views.unchanged(runtime):
            return answer
        return views.render("overview", figures=ledger_stats(runtime))
