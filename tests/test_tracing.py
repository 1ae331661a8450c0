"""One trace of a job over all steps, and nothing secret in it."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from orchestrator import log, tracing
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.enqueuing import CELERY_SCOPE, job_of_key
from orchestrator.jobs.model import Step
from orchestrator.ledger import keys
from orchestrator.messages import Broker, JobsByProvider, Nudger
from orchestrator.steps.archive import archive
from orchestrator.steps.notify import notify
from orchestrator.steps.poll import poll
from orchestrator.steps.submit import submit
from tests.support import archive_kit, job_states, notify_kit
from tests.support.fakes import (
    API_KEY,
    Answer,
    FakeProvider,
    Harness,
    ReceivedRequest,
    answer,
)
from tests.support.providers import EXAMPLE_REQUESTS
from tests.support.web import WebApp
from tests.support.worker_app import worker

PROMPT = "a prompt that no span may hold"
#: The trace and the span of a caller, as its header.
TRACE_ID, CALLER_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE_ID}-{CALLER_ID}-01", "tracestate": "shop=1"}


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The collector of this test. Traces are on."""
    provider, collector = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(collector))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # its setter works once per process
    return collector


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    variables = {name: value for name, value in notify_kit.VARIABLES.items() if value}
    return archive_kit.harness(start, tmp_path, **variables)


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def enqueued(harness: Harness, **fields: Any) -> str:
    """Enqueue over HTTP, as a caller with a trace of its own does."""
    created = (
        WebApp(harness.runtime)
        .test_client()
        .post(
            "/v1/jobs",
            json={**EXAMPLE_REQUESTS["evolink"], "prompt": PROMPT, **fields},
            headers={"Authorization": "Bearer api-key-of-the-tests", **HEADERS},
        )
    )
    assert created.status_code == 202, created.text
    return str(created.get_json()["id"])


def evolink(harness: Harness, status: str = "pending") -> Callable[[ReceivedRequest], Answer]:
    """Accept every submission, show one image, and answer queries."""

    def handle(request: ReceivedRequest) -> Answer:
        if request.path.startswith("/image"):
            return Answer(200, archive_kit.picture(), {"Content-Type": "image/png"})
        links = [f"{harness.provider.url}/image-0"] if status == "completed" else None
        return answer(200, {"id": "task-1", "status": status, "results": links})

    return handle


def test_one_trace_has_all_steps_of_a_job(
    harness: Harness, exporter: InMemorySpanExporter, receiver: FakeProvider
) -> None:
    harness.provider.handler = evolink(harness)
    job_id = enqueued(harness, notify_url=notify_kit.url(receiver))
    submit(harness.runtime, job_id)
    path = urlsplit(CallbackAddress("evolink", job_id, 1).url(harness.runtime.settings)).path
    body = evolink(harness, "completed")(ReceivedRequest("GET", "/", {}, b"")).body
    other = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    called = WebApp(harness.runtime).test_client().post(path, data=body, headers=other)
    assert called.status_code == 200
    archive(harness.runtime, job_id)
    notify(harness.runtime, job_id)

    made = spans(exporter)
    assert set(made) == {
        *("create job", "process submit", "POST /callbacks", "process archive", "process notify"),
        *(f"generate_content {harness.job(job_id).model}", "GET", "POST"),
    }
    assert {f"{span.context.trace_id:032x}" for span in made.values()} == {TRACE_ID}
    created = made["create job"]
    assert created.parent is not None
    assert f"{created.parent.span_id:016x}" == CALLER_ID
    steps = [made[name] for name in made if name.startswith(("process", "POST /"))]
    assert {span.parent and span.parent.span_id for span in steps} == {created.context.span_id}
    told = receiver.requests[0].headers
    assert told["traceparent"] == f"00-{TRACE_ID}-{made['POST'].context.span_id:016x}-01"
    assert told["tracestate"] == "shop=1"
    assert not any("traceparent" in request.headers for request in harness.provider.requests)


def test_no_span_holds_a_secret(
    harness: Harness, exporter: InMemorySpanExporter, receiver: FakeProvider
) -> None:
    test_one_trace_has_all_steps_of_a_job(harness, exporter, receiver)

    text = " ".join(span.to_json() for span in exporter.get_finished_spans())
    secrets = (PROMPT, notify_kit.TOKEN, API_KEY, "/image-0", "/hooks/7")
    assert [secret for secret in secrets if secret in text] == []


def test_a_call_says_what_it_was_and_how_it_failed(
    harness: Harness, exporter: InMemorySpanExporter
) -> None:
    harness.provider.answers(answer(500, {"message": PROMPT}))
    job_id = enqueued(harness)
    submit(harness.runtime, job_id)

    model = harness.job(job_id).model
    call = spans(exporter)[f"generate_content {model}"]
    wanted = {
        "gen_ai.provider.name": "evolink",
        "gen_ai.operation.name": "generate_content",
        "gen_ai.request.model": model,
        "gen_ai.output.type": "image",
        "server.address": "127.0.0.1",
        "http.response.status_code": 500,
        "error.type": "500",
    }
    assert wanted.items() <= attributes(call).items()
    assert call.status.status_code is trace.StatusCode.ERROR
    assert call.kind is trace.SpanKind.CLIENT


def test_a_poll_of_hours_later_belongs_to_the_trace(
    harness: Harness, exporter: InMemorySpanExporter
) -> None:
    harness.provider.handler = evolink(harness)
    job_id = enqueued(harness)
    submit(harness.runtime, job_id)
    harness.clock.forward(2 * 3600)
    poll(harness.runtime, job_id)

    assert f"{spans(exporter)['process poll'].context.trace_id:032x}" == TRACE_ID


def test_the_jobs_of_a_batch_continue_one_trace(
    harness: Harness, exporter: InMemorySpanExporter
) -> None:
    answered = (
        WebApp(harness.runtime)
        .test_client()
        .post(
            "/v1/jobs/batch",
            json={"jobs": [EXAMPLE_REQUESTS["evolink"]] * 2},
            headers={"Authorization": "Bearer api-key-of-the-tests", **HEADERS},
        )
    )

    jobs = [harness.job(each["job"]["id"]) for each in answered.get_json()["results"]]
    span_id = spans(exporter)["create jobs"].context.span_id
    assert {job.trace for job in jobs} == {f"00-{TRACE_ID}-{span_id:016x}-01 shop=1"}


def test_a_trace_costs_no_job_its_callback(
    harness: Harness, exporter: InMemorySpanExporter
) -> None:
    harness.provider.handler = evolink(harness)
    job_id = enqueued(harness)
    submit(harness.runtime, job_id)
    job_states.make_unreadable(harness, job_id, {"confirm.attempts": "x"})
    address = CallbackAddress("evolink", job_id, 1)
    path = urlsplit(address.url(harness.runtime.settings)).path
    body = evolink(harness, "completed")(ReceivedRequest("GET", "/", {}, b"")).body

    answered = WebApp(harness.runtime).test_client().post(path, data=body)

    assert answered.status_code == 200
    assert harness.redis.hget(keys.job(job_id), "status") == "succeeded"
    assert "POST /callbacks" in spans(exporter)


def test_a_celery_message_continues_the_trace_of_its_sender(
    harness: Harness, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(harness, monkeypatch)
    task = importlib.import_module("workers.intake").app.tasks["orchestrator.enqueue"]
    task.apply(kwargs=EXAMPLE_REQUESTS["hiapi"], task_id="task-1", headers=HEADERS)

    job = job_of_key(harness.runtime, CELERY_SCOPE, "task-1")
    assert job is not None
    assert job.trace.startswith(f"00-{TRACE_ID}-")
    assert job.trace.endswith(" shop=1")


def test_a_message_of_many_jobs_has_links_to_their_spans(exporter: InMemorySpanExporter) -> None:
    sent: list[tuple[JobsByProvider, Mapping[str, Any]]] = []
    done = threading.Event()

    def send(_: Step, jobs: JobsByProvider) -> None:
        sent.append((jobs, Broker("redis://127.0.0.1:1")._headers("task", "id")))
        done.set()

    nudger = Nudger(send)
    for number in range(2):
        with tracing.span(f"job {number}", "internal", {}):
            nudger.nudge(Step.SUBMIT, [f"job_{number}"], "hiapi")
    nudger.close()

    assert done.is_set()
    made = spans(exporter)
    message = made["send orchestrator.steps"]
    links = {link.context.span_id for link in message.links}
    assert links <= {made["job 0"].context.span_id, made["job 1"].context.span_id}
    named = [job for jobs, _ in sent for job in jobs["hiapi"]]
    assert sorted(named) == ["job_0", "job_1"]
    assert f"{message.context.span_id:016x}" in sent[-1][1]["traceparent"]


def test_without_a_tracer_provider_nothing_is_stored_or_sent(harness: Harness) -> None:
    job_id = job_states.submitting(harness).job.id

    assert not tracing.is_on()
    assert tracing.headers() == {}
    assert harness.job(job_id).trace == ""
    assert "traceparent" not in Broker("redis://127.0.0.1:1")._headers("task", "id")


def test_a_process_without_the_extra_says_so_and_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = Mock()
    monkeypatch.setattr(log, "get", lambda: logger)
    monkeypatch.setattr(tracing, "INSTALLED", False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    tracing.configure()

    assert "image-orchestrator[otel]" in logger.warning.call_args.kwargs["reason"]
    assert not tracing.is_on()


def test_the_endpoint_switches_traces_on(
    monkeypatch: pytest.MonkeyPatch, receiver: FakeProvider
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    tracing.configure()
    with tracing.span("create job", "producer", {}):
        pass
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.shutdown()

    assert [request.path for request in receiver.requests] == ["/v1/traces"]
    assert b"image-orchestrator" in receiver.requests[0].body
