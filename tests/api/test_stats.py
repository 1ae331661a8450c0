"""`GET /v1/stats`: the state of the installation in figures."""

from __future__ import annotations

from orchestrator.api.stats import StatsSchema
from orchestrator.jobs.model import Image, Outcome
from orchestrator.ledger import Ledger
from orchestrator.providers import PROVIDERS
from orchestrator.steps.reconcile import reconcile
from tests.api.conftest import Api
from tests.support import job_states
from tests.support.web import WebApp


def test_the_figures_are_told(api: Api) -> None:
    api.created()
    job_states.given_up(api.harness)
    soon = Image("https://cdn.example/0.png", api.harness.clock.now + 60_000)
    job_states.ended(api.harness, Outcome.succeeded((soon,)))
    reconcile(api.harness.runtime)
    api.harness.clock.forward(2)

    response = api.as_admin().get("/v1/stats")

    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json == {
        "jobs": {
            "queued": 1,
            "submitting": 0,
            "unconfirmed": 0,
            "running": 0,
            "succeeded": 1,
            "failed": 1,
            "cancelled": 0,
        },
        "agenda": {"open": 1, "due": 1, "lag_seconds": 2},
        "contradictions": {
            "duplicate": 0,
            "conflict": 0,
            "mismatch": 0,
            "superseded": 0,
            "late_result": 0,
        },
        "unconfirmed": {"attempts": 1, "money_at_risk": {"amounts": [], "unpriced": 1}},
        "archive": {
            "pending": 1,
            "due": 1,
            "lag_seconds": 2,
            "ended": {"done": 0, "dead": 0, "gone": 0},
            "at_risk": 1,
            "at_risk_hours": 6,
        },
        "confirmations": {
            "pending": 0,
            "due": 0,
            "lag_seconds": 0.0,
            "ended": {"done": 0, "dead": 0, "gone": 0},
        },
        "notifications": {
            "pending": 0,
            "due": 0,
            "lag_seconds": 0,
            "ended": {"done": 0, "dead": 0, "gone": 0},
            "dead": 0,
            "paused_hosts": [],
        },
        "providers": {
            name: {"circuit": "closed", "in_flight": 0, "found_limit": None} for name in PROVIDERS
        },
        "history": {"state": "absent", "lag_seconds": None},
        "processes": [],
        "last_sweep_seconds_ago": 2,
    }


def test_the_specification_names_what_is_told(api: Api) -> None:
    document = api.app.test_client().get("/openapi.json").json
    assert document is not None

    schema = document["components"]["schemas"]["Stats"]

    assert (
        set(schema["properties"])
        == set(StatsSchema().fields)
        == set(_told(api)) | set(_told(api.as_admin()))
    )


def _told(api: Api) -> list[str]:
    return list(api.get("/v1/stats").json or {})


def test_without_a_key_nothing_is_told(api: Api) -> None:
    api.headers = {}

    assert api.get("/v1/stats").status_code == 401


def test_figures_are_only_read(api: Api) -> None:
    assert api.post("/v1/stats").status_code == 405


def test_while_the_ledger_is_away_callers_are_told_to_come_back(api: Api, away: Ledger) -> None:
    client = Api(harness := api.harness.on(away), WebApp(harness.runtime))

    assert client.get("/v1/stats").status_code == 503
    assert client.get("/v1/jobs").status_code == 503
