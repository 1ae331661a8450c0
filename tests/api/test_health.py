"""Liveness and readiness."""

from __future__ import annotations

import pytest

from orchestrator.jobs.model import ErrorCode, JobError, Step
from orchestrator.steps.reconcile import reconcile
from tests.api.conftest import Api
from tests.support.fakes import unavailable_ledger
from tests.support.web import WebApp


def test_a_process_that_answers_is_alive_without_a_key_or_redis(api: Api) -> None:
    harness = api.harness.on(unavailable_ledger())

    response = WebApp(harness.runtime).test_client().get("/healthz")

    assert (response.status_code, response.json) == (200, {"status": "ok"})


def test_it_is_not_ready_before_the_first_sweep(api: Api) -> None:
    api.headers = {}

    response = api.get("/readyz")

    assert response.status_code == 503
    assert response.json == {"status": "not ready", "ledger": "ok", "sweep": "never"}


@pytest.mark.parametrize("age", [0, 1, 60])
def test_it_is_ready_after_a_recent_sweep(api: Api, age: float) -> None:
    reconcile(api.harness.runtime)
    api.harness.clock.forward(age)
    api.headers = {}

    response = api.get("/readyz")

    assert response.status_code == 200
    assert response.json == {"status": "ready", "ledger": "ok", "sweep": "recent"}


def test_it_is_not_ready_once_the_last_sweep_is_stale(api: Api) -> None:
    reconcile(api.harness.runtime)
    api.harness.clock.forward(61)

    response = api.get("/readyz")

    assert response.status_code == 503
    assert response.json == {"status": "not ready", "ledger": "ok", "sweep": "61 s ago"}


def test_it_is_not_ready_while_redis_is_away(api: Api) -> None:
    harness = api.harness.on(unavailable_ledger())

    response = WebApp(harness.runtime).test_client().get("/readyz")

    assert response.status_code == 503
    assert response.json == {"status": "not ready", "ledger": "away", "sweep": "unknown"}


def test_it_names_providers_without_submissions_and_is_ready(api: Api) -> None:
    reconcile(api.harness.runtime)
    now, admission = api.harness.clock.now, api.harness.ledger.admission
    refused = JobError(ErrorCode.AUTHENTICATION, "no such key")
    admission.hold("evolink", Step.SUBMIT, refused, now=now, ends_at=now + 60_000)
    admission.pause("hiapi", by="cli:ops", now=now, reason="maintenance")
    admission.hold("uniall", Step.SUBMIT, refused, now=now, ends_at=now)  # it may be probed
    api.headers = {}

    response = api.get("/readyz")

    assert response.status_code == 200
    assert (response.json or {})["providers"] == {"hiapi": "paused", "evolink": "open"}
    assert "ops" not in response.text
