"""`GET /metrics`: the figures of `/v1/stats`, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.api import metrics
from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import Ledger, LedgerUnavailable, keys
from orchestrator.ledger.admission import CircuitState
from orchestrator.ledger.circuit_breaker import FAILURES_TO_OPEN, MIN_FAILING_MS
from orchestrator.operations.stats import stats
from orchestrator.providers import PROVIDERS
from orchestrator.steps.reconcile import reconcile
from tests.api.conftest import Api
from tests.support import job_states
from tests.support.fakes import Harness
from webhooks.app import create_app


class Time:
    """A monotonic clock that is moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(metrics, "monotonic", clock)
    return clock


@pytest.fixture
def api(start: Callable[..., Harness]) -> Api:
    """An application of the test's own, because it caches the figures."""
    harness = start()
    return Api(harness, create_app(harness.runtime))


def read(api: Api) -> dict[str, Metric]:
    response = api.app.test_client().get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == CONTENT_TYPE_LATEST
    assert response.mimetype == "text/plain"
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def values(families: dict[str, Metric]) -> dict[str, Any]:
    """What each metric says: a number, or one for each label."""
    figures: dict[str, Any] = {}
    for name, family in families.items():
        named = {"/".join(s.labels.values()): s.value for s in family.samples if s.labels}
        figures[name.removeprefix("orchestrator_")] = named or family.samples[0].value
    return figures


def end(harness: Harness, step: Step, job_id: str, how: FollowUpStatus) -> None:
    now = harness.clock.now
    lease = harness.ledger.follow_ups.claim(job_id, step, now=now, lease_ms=1000)
    assert lease is not None
    harness.ledger.follow_ups.done(lease, step, how, now=now, tries=1)


def busy(harness: Harness) -> None:
    """Something of everything."""
    harness.enqueue()
    job_states.given_up(harness)
    job_states.cancelled(harness)
    task = job_states.task_of(running := job_states.running(harness))
    harness.ledger.settle_attempt(running, 1, "other", job_states.SUCCESS, now=harness.clock.now)
    for _ in range(3):
        harness.ledger.settle_attempt(running, 1, task, job_states.SUCCESS, now=harness.clock.now)
    job_states.ended(harness)
    for how in (FollowUpStatus.DONE, FollowUpStatus.DEAD):
        end(harness, Step.ARCHIVE, job_states.ended(harness), how)
    request = {"notify_stream": "told"}
    for status in (FollowUpStatus.DONE, FollowUpStatus.DEAD, FollowUpStatus.GONE):
        end(
            harness, Step.NOTIFY, job_states.ended(harness, job_states.failure(), **request), status
        )
    job_states.ended(harness, job_states.failure(), **request)
    for _ in range(FAILURES_TO_OPEN):
        harness.ledger.circuit_breaker.failed("caller.example", now=harness.clock.now)
    harness.ledger.circuit_breaker.failed("caller.example", now=harness.clock.now + MIN_FAILING_MS)
    harness.ledger.admission.pause("evolink", by="cli:ops", now=harness.clock.now)
    with harness.ledger._redis() as redis:
        redis.hset(keys.provider(0, "hiapi"), "found", 1)
    harness.clock.forward(20 * 3600)
    reconcile(harness.runtime)
    harness.clock.forward(2.5)


def test_an_empty_installation_tells_of_noughts(api: Api) -> None:
    figures = values(read(api))

    circuits = figures.pop("provider_circuit")
    assert {name for name, one in circuits.items() if one} == {f"{p}/closed" for p in PROVIDERS}
    assert "provider_found_limit" not in figures, "none was found"
    numbers = [n for value in figures.values() for n in (value.values() if value else [value])]
    assert set(numbers) == {0}
    assert figures["jobs"] == dict.fromkeys(stats(api.harness.runtime)["jobs"], 0)
    assert figures["archive_at_risk"] == 0
    assert "last_sweep_age_seconds" not in figures, "there was none"


def test_the_figures_are_those_of_stats(api: Api) -> None:
    busy(api.harness)
    figures = stats(api.harness.runtime)

    archive, notifications = figures["archive"], figures["notifications"]
    assert (archive["at_risk"], archive["pending"], archive["due"]) == (3, 2, 2)
    states = {name: p["circuit"] for name, p in figures["providers"].items()}
    assert (states["hiapi"], states["evolink"]) == ("closed", "paused")
    assert len(notifications["paused_hosts"]) == notifications["dead"] == 1
    assert values(read(api)) == {
        "jobs": figures["jobs"],
        "contradictions": figures["contradictions"],
        "agenda_open": 1,
        "agenda_due": 1,
        "agenda_lag_seconds": 72_002.5,
        "unconfirmed_attempts": figures["unconfirmed"]["attempts"],
        "archive_ended": {"done": 1, "dead": 1, "gone": 0},
        "archive_pending": 2,
        "archive_lag_seconds": 72_002.5,
        "archive_at_risk": 3,
        "notifications_ended": {"done": 1, "dead": 1, "gone": 1},
        "notifications_pending": 1,
        "notifications_lag_seconds": 72_002.5,
        "confirmations_ended": {"done": 0, "dead": 0, "gone": 0},
        "confirmations_pending": 0,
        "confirmations_lag_seconds": 0,
        "notifications_dead": 1,
        "notifications_paused_hosts": 1,
        "provider_circuit": {
            f"{name}/{state}": float(state == figures["providers"][name]["circuit"])
            for name in PROVIDERS
            for state in CircuitState
        },
        "provider_in_flight": {name: p["in_flight"] for name, p in figures["providers"].items()},
        "provider_found_limit": {"hiapi": 1},
        "last_sweep_age_seconds": 2.5,
    }


def test_what_is_pending_need_not_be_due(api: Api) -> None:
    harness = api.harness
    claim, now = harness.ledger.follow_ups.claim, harness.clock.now
    claim(job_states.ended(harness), Step.ARCHIVE, now=now, lease_ms=60_000)
    ended_id = job_states.ended(harness, job_states.failure(), notify_stream="told")
    claim(ended_id, Step.NOTIFY, now=now, lease_ms=60_000)

    told_of = values(read(api))

    assert (told_of["archive_pending"], told_of["notifications_pending"]) == (1, 1)
    assert (told_of["archive_lag_seconds"], told_of["notifications_lag_seconds"]) == (0, 0)


def test_a_sweep_of_just_now_is_one(api: Api) -> None:
    reconcile(api.harness.runtime)

    assert values(read(api))["last_sweep_age_seconds"] == 0


def test_every_metric_is_a_gauge_of_ours_that_says_what_it_is(api: Api) -> None:
    for name, family in read(api).items():
        assert name.startswith("orchestrator_")
        assert family.type == "gauge"
        assert family.documentation


def test_they_are_open_to_all_and_name_nobody(api: Api) -> None:
    busy(api.harness)
    api.headers = {}

    response = api.get("/metrics")

    assert response.status_code == 200
    assert "caller.example" not in response.text
    assert "cli:ops" not in response.text
    assert "job_" not in response.text


def test_figures_are_read_at_most_once_a_second(api: Api, time: Time) -> None:
    before = read(api)["orchestrator_jobs"]
    api.created()

    time.now += metrics.CACHE_SECONDS - 0.001
    assert read(api)["orchestrator_jobs"] == before
    time.now += 0.001
    assert values(read(api))["jobs"]["queued"] == 1


def test_two_processes_tell_the_same(api: Api) -> None:
    busy(api.harness)
    other = Api(api.harness, create_app(api.harness.runtime))

    assert values(read(api)) == values(read(other))


def test_while_redis_is_away_there_is_one_clear_answer(api: Api, away: Ledger, time: Time) -> None:
    client = Api(harness := api.harness.on(away), create_app(harness.runtime))

    for _ in range(2):
        response = client.get("/metrics")
        assert (response.status_code, response.mimetype) == (503, "application/problem+json")
        assert response.headers["Retry-After"] == "1"


def test_what_was_read_before_redis_went_away_is_not_told_for_long(
    api: Api, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise LedgerUnavailable("away")

    read(api)
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "stats", away)
        assert api.get("/metrics").status_code == 200
        time.now += metrics.CACHE_SECONDS
        assert api.get("/metrics").status_code == 503
    assert values(read(api))["jobs"]["queued"] == 0
