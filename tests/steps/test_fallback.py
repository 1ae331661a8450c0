"""The submit step moves a job to its next provider, only after a proven refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.apply import apply_callback
from orchestrator.jobs.model import Cost, Image, Outcome, Status, Step
from orchestrator.providers.client import NotSent, ProviderClient
from orchestrator.providers.responses import TaskReport
from orchestrator.steps.poll import poll
from orchestrator.steps.submit import submit
from tests.steps.test_submit import ESTIMATED, GATEWAY, NO, SLOW_DOWN, WHO
from tests.support.fakes import Answer, Harness, answer

TO_EVOLINK = [{"provider": "evolink", "model": "nano-banana-2-lite"}]
DOWN = answer(503, {"code": 503, "message": "no capacity"})


def submitted(harness: Harness, *answers: Answer | None, **fields: Any) -> str:
    harness.provider.answers(*answers)
    job_id = harness.enqueue("hiapi", **{"fallback": TO_EVOLINK, **fields})
    submit(harness.runtime, job_id)
    return job_id


@pytest.mark.parametrize(("refusal", "code"), [(NO, "invalid_request"), (WHO, "authentication")])
def test_a_refused_job_goes_to_the_next_provider_at_once(
    harness: Harness, refusal: Answer, code: str
) -> None:
    job_id = submitted(harness, refusal)
    assert harness.seconds_until_due(job_id) == 0
    assert harness.nudges.sent == [(Step.SUBMIT, job_id)] * 2

    harness.provider.answers(ESTIMATED)
    submit(harness.runtime, job_id)

    job = harness.job(job_id)
    first, second = harness.provider.requests
    assert first.json["model"] == "Nano-Banana-2"
    assert second.json["model"] == "nano-banana-2-lite"
    assert second.json["callback_url"].startswith(
        f"{harness.runtime.settings.public_url}/callbacks/evolink/{job_id}.2/"
    )
    assert (job.status, job.provider, job.moves[0].reason) == (Status.RUNNING, "evolink", code)
    assert [job.provider_of(number) for number in (1, 2)] == ["hiapi", "evolink"]
    assert job.request.provider == "hiapi"


def test_an_attempt_that_was_never_sent_goes_to_the_next_provider(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProviderClient, "call", lambda *_, **__: NotSent("no route"))

    job_id = submitted(harness)

    assert harness.job(job_id).provider == "evolink"


@pytest.mark.parametrize("unknown", [None, GATEWAY])
def test_a_job_with_an_unknown_attempt_stays(harness: Harness, unknown: Answer | None) -> None:
    job_id = submitted(harness, unknown)

    job = harness.job(job_id)
    assert (job.status, job.provider) == (Status.UNCONFIRMED, "hiapi")


def test_a_busy_provider_is_left_when_the_wait_passes_the_half_time(harness: Harness) -> None:
    waits = submitted(harness, SLOW_DOWN)
    moves = submitted(harness, SLOW_DOWN, deadline_seconds=1)

    assert (harness.job(waits).provider, harness.job(moves).provider) == ("hiapi", "evolink")


def test_a_job_that_was_refused_for_good_waits_at_its_fallback(harness: Harness) -> None:
    harness.ledger.admission.pause("evolink", by="cli", now=harness.clock.now)

    job_id = submitted(harness, NO)

    assert (harness.job(job_id).status, harness.job(job_id).provider) == (Status.QUEUED, "evolink")


def test_the_price_is_that_of_the_fallback(start: Callable[..., Harness]) -> None:
    prices = {"unit": "USD", "prices": {"nano-banana-2-lite": 0.5}}
    harness = start(EVOLINK_PRICES=orjson.dumps(prices).decode())
    job_id = submitted(harness, NO)

    harness.provider.answers(answer(200, {"id": "task-1", "status": "pending"}))
    submit(harness.runtime, job_id)

    assert harness.job(job_id).cost == Cost(0.5, "USD", "computed")


def test_the_last_refusal_fails_the_job(harness: Harness) -> None:
    job_id = submitted(harness, NO)

    harness.provider.answers(NO)
    submit(harness.runtime, job_id)

    assert harness.job(job_id).status is Status.FAILED
    assert harness.events(job_id) == [
        *("created", "submitting", "refused", "moved", "submitting", "settled"),
    ]


def test_a_success_of_the_attempt_that_was_left_settles_the_job(harness: Harness) -> None:
    job_id = submitted(harness, NO)
    report = TaskReport("task-9", "success", Outcome.succeeded((Image("https://e.example/0"),)))

    address = CallbackAddress("hiapi", job_id, 1)
    apply_callback(harness.runtime, address, report, harness.clock.now)

    job = harness.job(job_id)
    assert (job.status, job.provider, job.images[0].source_url) == (
        *(Status.SUCCEEDED, "hiapi", "https://e.example/0"),
    )


def test_a_poll_asks_the_provider_of_the_attempt(harness: Harness) -> None:
    job_id = submitted(harness, NO)
    harness.provider.answers(ESTIMATED)
    submit(harness.runtime, job_id)
    wait = harness.seconds_until_due(job_id)
    harness.clock.forward(wait or 0)

    harness.provider.answers(answer(200, {"id": "task-1", "status": "processing"}))
    poll(harness.runtime, job_id)

    assert harness.ledger.events(job_id)[-1].detail == {"state": "processing"}


def test_a_provider_that_was_switched_off_is_left(harness: Harness) -> None:
    job_id = harness.enqueue("hiapi", fallback=TO_EVOLINK)

    submit(harness.provider_off().runtime, job_id)

    assert harness.job(job_id).provider == "evolink"
