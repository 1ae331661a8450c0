"""The system: what doctor finds, versions, Redis, queues, and processes."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response
from kombu.exceptions import OperationalError

from orchestrator.dashboard import views
from orchestrator.dashboard.recent import Recent
from orchestrator.heartbeat import product_version
from orchestrator.history.revision import REVISION
from orchestrator.messages import MEASURED_QUEUES
from orchestrator.operations.examination import last_examination, start_examination
from orchestrator.operations.stats import key_figures
from orchestrator.runtime import Runtime

#: The live part is made again after this time. Most of it changes without a change of a job. ms.
LIVE_MS = 2000
#: The words and the tone of a result.
MARKS = {"ok": ("good", "good"), "warning": ("warning", "warn"), "wrong": ("wrong", "bad")}


@dataclass(frozen=True, slots=True)
class _Figures:
    """What the page shows.

    Attributes:
        server: INFO of Redis.
        stats: the figures of the installation.
        waiting: the messages in each queue; None: the broker does not answer.
    """

    server: dict[str, Any]
    stats: dict[str, Any]
    waiting: dict[str, int] | None


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes."""
    recent = Recent[str, _Figures]()

    @pages.get("/system")
    def system() -> Response:
        """The state of the installation."""
        views.require_admin()
        examination = last_examination(runtime)
        if answer := views.unchanged(runtime, max_age_ms=LIVE_MS, also=examination):
            return answer
        figures = recent.get("all", lambda: _read(runtime))
        return views.render(
            "system",
            figures=figures,
            examination=examination,
            marks=MARKS,
            versions=_versions(figures.server),
            memory=_memory(figures.server),
        )

    @pages.post("/system/check")
    def check_system() -> Response:
        """Start the checks of doctor. The page shows the results as they come."""
        views.require_admin()
        begun = start_examination(runtime)
        notice = "The checks have begun." if begun else "Other checks are running already."
        return views.done(runtime, notice, "system")


def _read(runtime: Runtime) -> _Figures:
    try:
        waiting: dict[str, int] | None = runtime.broker.waiting(MEASURED_QUEUES)
    except OperationalError:
        waiting = None
    return _Figures(runtime.ledger.installation.server(), key_figures(runtime), waiting)


def _versions(server: dict[str, Any]) -> dict[str, str]:
    is_valkey = server.get("server_name") == "valkey"
    name = "Valkey" if is_valkey else "Redis"
    number = server.get("valkey_version" if is_valkey else "redis_version", "unknown")
    return {
        "Orchestrator": product_version(),
        "Python": platform.python_version(),
        name: str(number),
        "Schema of the history": REVISION,
    }


def _memory(server: dict[str, Any]) -> dict[str, Any]:
    """Return the used memory, its limit (0: none), and the part that is used."""
    used, limit = int(server.get("used_memory", 0)), int(server.get("maxmemory", 0))
    return {"used": used, "limit": limit, "part": used / limit if limit else None}
