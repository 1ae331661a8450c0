"""Liveness and readiness. They need no key and show only whether we work."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from orchestrator.jsonio import dump
from orchestrator.ledger import LedgerMisconfigured, LedgerUnavailable
from orchestrator.ledger.installation import SWEEP_STALE_SECONDS
from orchestrator.operations.admission import stopped_providers
from orchestrator.operations.history_state import HistoryState, history_report
from orchestrator.runtime import Runtime


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes."""
    health = Blueprint("health", __name__)

    @health.get("/healthz")
    def alive() -> Response:
        """This process answers."""
        return _answer(200, {"status": "ok"})

    @health.get("/readyz")
    def ready() -> Response:
        """Redis answers and accepts writes, and a sweep has finished recently.

        `providers` names those that get no submissions now. They do not make us unready.
        `history` says that searches do not use the history, or only a part of it.
        """
        try:
            runtime.ledger.installation.check_write()
            swept = runtime.ledger.installation.last_sweep()
            enabled, now = runtime.settings.providers, runtime.clock()
            stopped = stopped_providers(runtime.ledger.admission.states(enabled, now=now).values())
            history = history_report(runtime.ledger, runtime.history, now=now).state
        except LedgerUnavailable as error:
            ledger = _refusal(error) or "away"
            return _answer(503, {"status": "not ready", "ledger": ledger, "sweep": "unknown"})
        age = None if swept is None else (runtime.clock() - swept) / 1000
        if age is None or age > SWEEP_STALE_SECONDS:
            sweep = "never" if age is None else f"{age:.0f} s ago"
            return _answer(503, {"status": "not ready", "ledger": "ok", "sweep": sweep})
        answer: dict[str, Any] = {"status": "ready", "ledger": "ok", "sweep": "recent"}
        if stopped:
            answer["providers"] = stopped
        if history not in (HistoryState.CURRENT, HistoryState.ABSENT):
            answer["history"] = history.value
        return _answer(200, answer)

    return health


def _refusal(error: LedgerUnavailable) -> str:
    """Return what Redis refuses, by its code. Empty when it does not answer."""
    if isinstance(error, LedgerMisconfigured):
        return f"refuses the settings ({error.code})"
    return f"refuses writes ({error.code})" if error.code else ""


def _answer(status: int, value: dict[str, Any]) -> Response:
    return Response(dump(value), status, mimetype="application/json")
