"""Liveness and readiness. They need no key and show only whether we work."""

from __future__ import annotations

from flask import Blueprint, Response

from orchestrator.jsonio import dump
from orchestrator.ledger import LedgerUnavailable
from orchestrator.runtime import Runtime
from orchestrator.steps.reconcile import SWEEP_STALE_SECONDS


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes."""
    health = Blueprint("health", __name__)

    @health.get("/healthz")
    def alive() -> Response:
        """This process answers."""
        return _answer(200, {"status": "ok"})

    @health.get("/readyz")
    def ready() -> Response:
        """Redis answers, and a sweep has finished recently."""
        try:
            swept = runtime.ledger.last_sweep()
        except LedgerUnavailable:
            return _answer(503, {"status": "not ready", "ledger": "away", "sweep": "unknown"})
        age = None if swept is None else (runtime.clock() - swept) / 1000
        if age is None or age > SWEEP_STALE_SECONDS:
            sweep = "never" if age is None else f"{age:.0f} s ago"
            return _answer(503, {"status": "not ready", "ledger": "ok", "sweep": sweep})
        return _answer(200, {"status": "ready", "ledger": "ok", "sweep": "recent"})

    return health


def _answer(status: int, value: dict[str, str]) -> Response:
    return Response(dump(value), status, mimetype="application/json")
