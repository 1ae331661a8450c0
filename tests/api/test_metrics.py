"""`GET /metrics`: what Prometheus reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Flask
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from orchestrator.api import metrics as metrics_module
from orchestrator.history.history import History
from orchestrator.jobs.model import FollowUpStatus, Status, Step
from orchestrator.ledger import Ledger, keys
from orchestrator.ledger.circuit_breaker import FAILURES_TO_OPEN, MIN_FAILING_MS
from orchestrator.metrics import DEFINITIONS, Definition, Series, Source, Sums, Timings
from orchestrator.metrics import definitions as metrics
from orchestrator.operations.metric_values import READERS
from orchestrator.operations.stats import stats
from orchestrator.providers import BUILT_IN, PROVIDERS
from orchestrator.runtime import Runtime
from orchestrator.steps.reconcile import reconcile
from tests.api.conftest import Api
from tests.history.kit import started
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
    monkeypatch.setattr(metrics_module, "monotonic", clock)
    return clock


@pytest.fixture
def api(start: Callable[..., Harness]) -> Api:
    return client(start())


def client(harness: Harness, **parts: Any) -> Api:
    """Return an application of the test's own, because it caches the values."""
    app = Flask("test")
    app.register_blueprint(metrics_module.blueprint(replace(harness.runtime, **parts)))
    return Api(harness, app)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(f"sqlite:///{tmp_path}/history.db")
    yield made
    made.close()


def scrape(api: Api, **headers: str) -> str:
    response = api.app.test_client().get("/metrics", headers=headers)
    assert response.status_code == 200
    return response.text


def read(api: Api) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(scrape(api))}


def values(api: Api) -> dict[str, Any]:
    """What each gauge and counter says: a number, or one for each combination of labels."""
    figures: dict[str, Any] = {}
    for name, family in read(api).items():
        if family.type != "histogram":
            definition = definition_of(family)
            named = {
                "/".join(sample.labels[label] for label in definition.labels): sample.value
                for sample in family.samples
                if sample.labels
            }
            figures[name.removeprefix("orchestrator_")] = named or family.samples[0].value
    return figures


def definition_of(family: Metric) -> Definition:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return DEFINITIONS[name]


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


def test_an_empty_installation_has_every_series_that_may_count(api: Api) -> None:
    figures = values(api)

    circuits = figures.pop("provider_circuit")
    assert {name for name, one in circuits.items() if one} == {f"{p}/closed" for p in PROVIDERS}
    assert figures.pop("up") == {"ledger": 1, "history": 0, "broker": 0}
    assert {"provider_in_flight_limit", "last_sweep_age_seconds"}.isdisjoint(figures)
    numbers = [n for value in figures.values() for n in (value.values() if value else [value])]
    assert set(numbers) == {0}
    assert figures["provider_calls"]["hiapi/submit/no_answer"] == 0
    assert figures["callbacks"]["other/404"] == 0
    assert figures["follow_ups_ended"]["notify/dead"] == 0


def test_the_figures_are_those_of_stats(api: Api) -> None:
    busy(api.harness)
    figures, told = stats(api.harness.runtime), values(api)

    archive, notifications = figures["archive"], figures["notifications"]
    assert (archive["at_risk"], archive["pending"], archive["due"]) == (3, 2, 2)
    assert len(notifications["paused_hosts"]) == notifications["dead"] == 1
    jobs = {name: n for name, n in figures["jobs"].items() if not Status(name).terminal}
    expected = {
        "open_jobs": jobs,
        "queued_jobs": {**dict.fromkeys(BUILT_IN, 0), "hiapi": 1},
        "contradictions": figures["contradictions"],
        "agenda_due_jobs": 1,
        "agenda_lag_seconds": 72_002.5,
        "agenda_oldest_due_timestamp_seconds": api.harness.clock.now / 1000 - 72_002.5,
        "unconfirmed_attempts": figures["unconfirmed"]["attempts"],
        "follow_ups_pending": {"archive": 2, "notify": 1, "confirm": 0},
        "follow_up_lag_seconds": {"archive": 72_002.5, "notify": 72_002.5, "confirm": 0},
        "images_at_risk_jobs": 3,
        "dead_notifications": 1,
        "paused_hosts": 1,
        "provider_in_flight": {name: p["in_flight"] for name, p in figures["providers"].items()},
        "provider_in_flight_limit": {"hiapi/found": 1},
        "last_sweep_age_seconds": 2.5,
    }
    assert {name: told[name] for name in expected} == expected
    ended = {name: n for name, n in told["follow_ups_ended"].items() if n}
    steps = ("archive/done", "archive/dead", "notify/done", "notify/dead", "notify/gone")
    assert ended == dict.fromkeys(steps, 1)
    circuits = {name for name, one in told["provider_circuit"].items() if one}
    paused = {"evolink"}
    assert circuits == {f"{name}/{'paused' if name in paused else 'closed'}" for name in BUILT_IN}


def test_the_limit_of_a_provider_is_beside_what_is_in_flight(
    start: Callable[..., Harness],
) -> None:
    harness = start(HIAPI_MAX_IN_FLIGHT="7")

    told = values(client(harness))

    assert told["provider_in_flight_limit"] == {"hiapi/configured": 7}


def test_what_is_pending_need_not_be_due(api: Api) -> None:
    harness = api.harness
    claim, now = harness.ledger.follow_ups.claim, harness.clock.now
    claim(job_states.ended(harness), Step.ARCHIVE, now=now, lease_ms=60_000)

    told = values(api)

    assert told["follow_ups_pending"]["archive"] == 1
    assert told["follow_up_lag_seconds"]["archive"] == 0


def test_totals_come_from_the_history(api: Api, history: History) -> None:
    job_states.ended(api.harness)
    started(api.harness.ledger, history)

    for _ in range(2):  # as two web processes, or one before and after a restart
        told = values(client(api.harness, open_history=lambda: history))
        assert told["up"]["history"] == 1
        assert told["jobs_settled"] == {"hiapi/nano-banana-2/succeeded/": 1}
        assert told["outcomes"]["hiapi/succeeded/callback"] == 1
        assert told["outcomes"]["hiapi/failed/deadline"] == 0
        assert told["history_state"]["current"] == 1
        assert told["history_lag_seconds"] == 0


def test_counts_and_timings_come_from_all_processes(api: Api) -> None:
    for _ in range(2):
        process = Timings(api.harness.ledger.timings.add)
        process.add(metrics.PROVIDER_CALLS, "hiapi", "submit", "ok")
        process.observe(metrics.SWEEP_SECONDS, seconds=0.03)
        process.observe(metrics.SWEEP_SECONDS, seconds=99.0)
        process.flush()

    assert values(api)["provider_calls"]["hiapi/submit/ok"] == 2
    sweeps = read(api)["orchestrator_sweep_duration_seconds"]
    counts = {s.labels.get("le", s.name.rpartition("_")[2]): s.value for s in sweeps.samples}
    assert (counts["0.025"], counts["0.05"], counts["10.0"]) == (0, 2, 2)
    assert (counts["+Inf"], counts["count"]) == (4, 4)
    assert counts["sum"] == pytest.approx(198.06)


def test_sums_of_another_version_do_no_harm(api: Api) -> None:
    of_another = {"orchestrator_gone_total\tx\t": 1, "orchestrator_callbacks_total\ta\t": 1}
    other_bound = Series.of(metrics.SWEEP_SECONDS, part="0.07").stored()
    api.harness.ledger.timings.add({**of_another, other_bound: 1})

    (bucket,) = (
        sample.value
        for sample in read(api)["orchestrator_sweep_duration_seconds"].samples
        if sample.labels.get("le") == "0.1"
    )
    assert bucket == 1


def test_every_metric_is_defined_and_has_the_type_of_its_definition(api: Api) -> None:
    busy(api.harness)
    for name, family in read(api).items():
        definition = definition_of(family)
        assert family.type == definition.kind
        assert family.documentation == definition.meaning
        assert {*definition.labels} == {label for s in family.samples for label in s.labels} - {
            "le"
        }, name


def test_a_client_may_ask_for_open_metrics(api: Api) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

    text = scrape(api, Accept=accept)

    parse: Callable[[str], Iterator[Metric]] = openmetrics.text_string_to_metric_families
    families = {f.name: f for f in parse(text)}
    assert text.endswith("# EOF\n")
    assert families["orchestrator_sweep_duration_seconds"].unit == "seconds"
    assert families["orchestrator_contradictions"].type == "counter"


def test_they_are_open_to_all_and_name_nobody(api: Api) -> None:
    busy(api.harness)

    text = scrape(Api(api.harness, create_app(api.harness.runtime)))

    for secret in ("caller.example", "cli:ops", "job_", "tests"):
        assert secret not in text


def test_figures_are_read_at_most_once_a_second(api: Api, time: Time) -> None:
    before = values(api)["open_jobs"]
    api.harness.enqueue()

    time.now += metrics_module.CACHE_SECONDS - 0.001
    assert values(api)["open_jobs"] == before
    time.now += 0.001
    assert values(api)["open_jobs"]["queued"] == 1


def test_while_redis_is_away_the_scrape_answers_without_its_families(
    api: Api, away: Ledger, history: History
) -> None:
    history.database.migrate()

    told = values(client(api.harness.on(away), open_history=lambda: history))

    assert told["up"] == {"ledger": 0, "history": 1, "broker": 0}
    assert "outcomes" in told
    assert {"open_jobs", "provider_calls", "history_lag_seconds"}.isdisjoint(told)


def test_a_server_that_hangs_costs_its_families_only_and_one_thread(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, answers = [], threading.Event()

    def hang(_: Runtime) -> Sums:
        reads.append(1)
        answers.wait(60)
        return Sums()

    monkeypatch.setattr(metrics_module, "SCRAPE_SECONDS", 0.5)
    monkeypatch.setitem(cast(Any, READERS), Source.HISTORY, hang)
    for _ in range(2):
        assert values(api)["up"]["history"] == 0
    assert len(reads) == 1
    answers.set()
    monkeypatch.setattr(metrics_module, "SCRAPE_SECONDS", 60)
    assert values(api)["up"]["history"] == 1


def test_messages_that_wait_at_the_broker_are_counted(
    start: Callable[..., Harness], real_redis: Redis, redis_url: str
) -> None:
    harness = start(ORCHESTRATOR_BROKER_URL=redis_url)
    for _ in range(2):
        harness.runtime.broker.send(Step.SUBMIT, {"hiapi": ["job_1"]})
    harness.ledger.waiting_messages.add("shop hiapi", "{}", now=0, due_at=0)

    told = values(client(harness))

    assert told["up"]["broker"] == 1
    assert told["waiting_messages"] == 1
    assert told["broker_messages"] == {
        "orchestrator.steps": 2,
        "orchestrator.archive": 0,
        "orchestrator.enqueue": 0,
    }
