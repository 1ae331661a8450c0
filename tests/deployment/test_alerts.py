"""The alerts of deploy/prometheus: a real Prometheus finds each fault, and nothing without one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import requests
from flask import Flask
from redis import Redis
from werkzeug.serving import BaseWSGIServer

from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.drain import SpoolDrainer
from orchestrator.callbacks.spool import Entry, Spool
from orchestrator.cli.stack import ROOT
from orchestrator.clock import now_ms
from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.jobs.model import Cost, FollowUpStatus, Image, Outcome, SettledBy, Step
from orchestrator.jsonio import dump
from orchestrator.metrics import DEFINITIONS, Timings
from orchestrator.metrics import definitions as metrics
from orchestrator.providers import BUILT_IN
from orchestrator.step_loop import StepLoop
from orchestrator.steps.acceptance import record_spooled
from orchestrator.steps.archive import archive
from orchestrator.steps.notify import notify
from orchestrator.steps.reconcile import reconcile
from orchestrator.steps.submit import submit
from tests.deployment.monitoring import alerts, filled, metrics_in, targets
from tests.docs.pages import DocPage
from tests.history.kit import catch_up, started
from tests.ledger import kit
from tests.support import archive_kit, debian, job_states, notify_kit, prometheus
from tests.support.fakes import Answer, Harness, unavailable_ledger
from tests.support.prometheus import Prometheus
from tests.support.providers import HINTING
from webhooks.app import create_app
from workers.executor import StepExecutor

#: A provider whose jobs nobody takes.
QUIET = list(BUILT_IN)[-1]
#: A database that refuses connections.
NO_DATABASE = "postgresql+psycopg://test@127.0.0.1:1/none"
#: Jobs that are polled because their callbacks are lost. A few others have a callback.
POLLED_JOBS = 25
#: Messages that wait at the broker when nobody reads them.
UNREAD_MESSAGES = 1001
#: Asks Prometheus four times a second.
eventually = partial(kit.eventually, every=0.25)
#: The alerts that only fire when a whole server is away.
AWAY = {"OrchestratorRedisAway", "OrchestratorHistoryAway"}
DOWN = {"OrchestratorWebDown"}


def test_every_alert_is_labelled_and_links_to_what_to_do() -> None:
    page = DocPage("docs/metrics.md")
    for name, rule in alerts().items():
        assert name.startswith("Orchestrator")
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        link = rule["annotations"]["runbook_url"]
        assert link.startswith("docs/failures.md#")
        assert not page.is_broken(f"../{link}"), name
        assert metrics_in(rule["expr"]) <= DEFINITIONS.keys(), name


@pytest.fixture
def program() -> Path:
    found = debian.program("prometheus")
    if found is None:
        pytest.skip(debian.missing("prometheus"))
    return found


def test_the_rules_are_valid(program: Path) -> None:
    command = [str(program.with_name("promtool")), "check", "rules", "deploy/prometheus/alerts.yml"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@dataclass
class Installation:
    """An installation whose steps the test does itself, with a real web server."""

    harness: Harness
    history: History
    recorder: Recorder
    server: BaseWSGIServer
    folder: Path
    broker: Redis

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def deliver(self, job_id: str, body: bytes, *, token: str | None = None) -> int:
        """Send a callback of HiAPI over HTTP. Return the status of the answer."""
        address = CallbackAddress("hiapi", job_id, 1).url(self.harness.runtime.settings)
        path = address.removeprefix(self.harness.runtime.settings.public_url or "")
        if token:
            path = f"{path.rpartition('/')[0]}/{token}"
        return requests.post(f"{self.url}{path}", body, timeout=60).status_code

    def success(self, job_id: str) -> bytes:
        """Return the body of a callback that reports a success with one image."""
        output = [{"url": self.image, "type": "image"}]
        return dump({"taskId": job_states.task_of(job_id), "status": "success", "output": output})

    @property
    def image(self) -> str:
        """The link of an image."""
        return f"{self.harness.provider.url}/image.png"

    def record(self) -> None:
        """Send the timings of this process, and write the history."""
        self.harness.runtime.timings.flush()
        catch_up(self.recorder)


@pytest.fixture
def installation(
    start: Callable[..., Harness], tmp_path: Path, real_redis: Redis, redis_url: str
) -> Iterator[Installation]:
    variables = {
        "ORCHESTRATOR_BROKER_URL": redis_url,
        "ORCHESTRATOR_NOTIFY_SECRET": notify_kit.SECRET,
        "HIAPI_MAX_IN_FLIGHT": "50",
    }
    harness = archive_kit.harness(start, tmp_path, **variables)
    harness.clock.now = now_ms()
    history = History(f"sqlite:///{tmp_path}/history/history.db")
    timings = Timings(harness.ledger.timings.add)
    harness = harness.with_runtime(open_history=lambda: history, timings=timings)
    recorder = started(harness.ledger, history)
    with prometheus.web(create_app(harness.runtime)) as server:
        yield Installation(harness, history, recorder, server, tmp_path, real_redis)
    history.close()


def test_each_alert_fires_for_its_fault_only(
    program: Path, installation: Installation, tmp_path: Path
) -> None:
    work(installation)
    server = installation.server
    target = f"127.0.0.1:{server.server_port}"
    with prometheus.running(program, tmp_path / "prometheus", target) as observer:
        eventually(lambda: scrapes(observer) >= 2)
        before = evaluations(observer)
        eventually(lambda: not before & evaluations(observer))
        wait_for(observer, set())

        break_everything(installation)
        wait_for(observer, alerts().keys() - AWAY - DOWN)
        assert providers_of(observer, "OrchestratorCallbacksLost") == {"hiapi"}
        check_dashboards(observer)

        server.app = without_servers(installation)
        eventually(lambda: firing(observer) >= AWAY)
        server.app = Flask("stopped")
        eventually(lambda: firing(observer) >= DOWN)


def wait_for(observer: Prometheus, expected: Set[str]) -> None:
    """Wait until exactly these alerts fire. A busy machine may miss a scrape in between."""
    seen: set[str] = set()

    def same() -> bool:
        seen.clear()
        seen.update(firing(observer))
        return seen == expected

    with suppress(AssertionError):
        eventually(same)
    assert seen == expected


def scrapes(observer: Prometheus) -> float:
    found = observer.query('count_over_time(up{job="orchestrator"}[1h])')
    return float(found[0]["value"][1]) if found else 0.0


def evaluations(observer: Prometheus) -> set[str]:
    """Return the times of the last evaluations of the alerts."""
    return {rule["lastEvaluation"] for rule in observer.rules()}


def firing(observer: Prometheus) -> set[str]:
    """Return the alerts whose expression was true at the last evaluation, whatever `for` is."""
    rules = observer.rules()
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules
    return {rule["name"] for rule in rules if rule["alerts"]}


def providers_of(observer: Prometheus, name: str) -> set[str]:
    """Return the providers for which an alert fires."""
    alerts_of = [rule["alerts"] for rule in observer.rules() if rule["name"] == name]
    return {alert["labels"]["provider"] for found in alerts_of for alert in found}


def work(installation: Installation) -> None:
    """Do everything once, as it should be."""
    harness = installation.harness
    runtime = harness.runtime
    harness.provider.answers(Answer(200, archive_kit.picture(), {"Content-Type": "image/png"}))
    job_id = job_states.running(harness, notify_url=f"{harness.provider.url}/hooks")
    assert installation.deliver(job_id, installation.success(job_id)) == 200
    archive(runtime, job_id)
    notify(runtime, job_id)
    job = harness.job(job_id)
    assert job.done
    assert all(image.copy for image in job.images)
    runtime.broker.send(Step.SUBMIT, {"hiapi": [job_id]})
    reconcile(runtime)
    installation.record()


def break_everything(installation: Installation) -> None:
    """Make the fault of each alert, except for those of a server that is away."""
    harness = installation.harness
    harness.enqueue(QUIET)  # nobody does its step
    lost_image = Outcome.succeeded((Image(installation.image),), Cost(1.0, "credits"))
    job_states.ended(harness, lost_image)  # nobody archives it
    job_states.unconfirmed(harness, "evolink")
    installation.broker.rpush("orchestrator.steps", *["unread"] * UNREAD_MESSAGES)
    harness.clock.forward(20 * 3600)  # without a sweep
    break_providers(harness)
    break_callbacks(installation)
    break_follow_ups(installation)
    crashing = StepExecutor(
        crash,
        stopping=lambda: False,
        places=1,
        loop=StepLoop(),
        count=lambda step, reason: harness.runtime.timings.add(
            metrics.STEP_FAILURES, step.value, reason.value
        ),
    )
    crashing.offer(Step.POLL, ["job_1"])
    assert crashing.drain(60) == []
    installation.record()
    harness.enqueue()  # and no recorder runs any more


def break_providers(harness: Harness) -> None:
    """Let one provider refuse our account, one break off, and one refuse its jobs."""
    refused = harness.enqueue("uniall")
    harness.provider.answers(Answer(401, b'{"error": {"message": "no such key"}}'))
    submit(harness.runtime, refused)
    broken = harness.enqueue(QUIET)
    harness.provider.answers(None)
    submit(harness.runtime, broken)
    job_states.refused(harness, "evolink")


def break_callbacks(installation: Installation) -> None:
    """Let callbacks be lost, forged, unreadable, late, repeated with another outcome."""
    harness, now = installation.harness, installation.harness.clock.now
    for _ in range(POLLED_JOBS):
        lease = job_states.submitting(harness)
        harness.ledger.settle(lease, job_states.SUCCESS, SettledBy.POLL, now=now)
    for _ in range(POLLED_JOBS):  # a callback that is a hint comes first
        lease = job_states.submitting(harness, HINTING[0])
        harness.runtime.timings.add(metrics.CALLBACKS, HINTING[0], "200")
        harness.ledger.settle(lease, job_states.SUCCESS, SettledBy.POLL, now=now)
    waiting = job_states.running(harness)
    assert installation.deliver(waiting, b"{}", token="f" * 43) == 404
    assert installation.deliver(waiting, b"no task") == 400
    spool = Spool(installation.folder / "spool")
    body = installation.success(waiting)
    spool.keep(Entry("hiapi", waiting, 1, now - 60_000, body))
    assert not SpoolDrainer(harness.runtime, spool, record_spooled).drain()
    for first, second in (
        (job_states.SUCCESS, job_states.failure()),
        (job_states.failure(), job_states.SUCCESS),
    ):
        job_id = job_states.ended(harness, first)
        task_id = job_states.task_of(job_id)
        harness.ledger.settle_attempt(job_id, 1, task_id, second, now=now)


def break_follow_ups(installation: Installation) -> None:
    """Let the storage refuse an image, and callers refuse notifications."""
    harness = installation.harness
    harness.provider.answers(Answer(200, archive_kit.picture(), {"Content-Type": "image/png"}))
    full, storage = archive_kit.with_recording_storage(harness, installation.folder / "full")
    storage.refuses = lambda _: True
    archive(
        full.runtime, job_states.ended(harness, Outcome.succeeded((Image(installation.image),)))
    )
    job_id = job_states.ended(harness, notify_stream="told")
    now = harness.clock.now
    lease = harness.ledger.follow_ups.claim(job_id, Step.NOTIFY, now=now, lease_ms=1000)
    assert lease is not None
    harness.ledger.follow_ups.done(lease, Step.NOTIFY, FollowUpStatus.DEAD, now=now, tries=1)
    notify_kit.pause(harness, "caller.example")


def crash(*_: object) -> None:
    raise KeyError("a fault of ours")


def without_servers(installation: Installation) -> Flask:
    """Return an application whose Redis and database are away."""
    history = History(NO_DATABASE)
    parts = {"ledger": unavailable_ledger(), "open_history": lambda: history}
    return create_app(replace(installation.harness.runtime, **parts))  # type: ignore[arg-type]


def check_dashboards(observer: Prometheus) -> None:
    """Check that every expression is valid, and that its metrics were really scraped."""
    answer = requests.get(f"{observer.url}/api/v1/label/__name__/values", timeout=60)
    scraped = metrics_in(" ".join(answer.json()["data"]))
    for panel, expression in targets():
        assert metrics_in(expression) <= scraped, panel
        observer.query(filled(expression))
