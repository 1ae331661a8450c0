"""The cost of a job: reported, computed or unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from orchestrator.jobs.model import Cost, Status
from orchestrator.jobs.views import job_view
from orchestrator.steps.poll import poll
from orchestrator.steps.submit import submit
from tests.support.fakes import Answer, Harness, answer
from tests.support.providers import POLLED_WITHOUT_KEYS

#: Reports no cost, and makes several images per task.
PRICED = POLLED_WITHOUT_KEYS
PRICES = {
    f"{PRICED.upper()}_PRICES": {
        "unit": "USD",
        "prices": {
            "NanoBanana": 0.03,
            "gpt-image-2": {"1024x1024": {"low": 0.01, "medium": 0.04}, "*": 0.2},
        },
    },
    "HIAPI_PRICES": {"unit": "credits", "prices": {"Nano-Banana-2": {"1K": 1, "4K": 3}}},
    "EVOLINK_PRICES": {"unit": "USD", "prices": {"*": 99}},
}
UNKNOWN = {"amount": None, "unit": None, "source": "unknown"}
QUEUED = answer(200, {"task_id": "task-1", "status": "queued"})


def done(images: int, **fields: Any) -> Answer:
    """Return a task of PRICED that succeeded with this number of images."""
    links = [f"https://cdn.example.com/{n}.png" for n in range(images)]
    task = {"task_id": "task-1", "status": "succeeded", "result_url": links[0]}
    return answer(200, {**task, "metadata": {"result_urls": links}, **fields})


@pytest.fixture
def priced(start: Callable[..., Harness]) -> Harness:
    texts = {name: orjson.dumps(table).decode() for name, table in PRICES.items()}
    return start(**{**texts, "EVOLINK_PRICES": None})


def submitted(harness: Harness, provider: str, *answers: Answer, **fields: Any) -> str:
    harness.provider.answers(*answers)
    job_id = harness.enqueue(provider, **fields)
    submit(harness.runtime, job_id)
    return job_id


def polled(harness: Harness, job_id: str) -> None:
    harness.clock.forward(harness.seconds_until_due(job_id) or 0)
    poll(harness.runtime, job_id)


def cost(harness: Harness, job_id: str) -> Any:
    return job_view(harness.job(job_id), None)["cost"]


def test_a_queued_job_has_no_cost(harness: Harness) -> None:
    assert cost(harness, harness.enqueue()) is None


def test_without_a_report_and_a_price_table_the_cost_is_unknown(harness: Harness) -> None:
    assert cost(harness, submitted(harness, PRICED, QUEUED)) == UNKNOWN


def test_a_price_table_gives_the_cost_when_the_provider_accepts_the_job(priced: Harness) -> None:
    job_id = submitted(priced, PRICED, QUEUED, n=4)

    assert cost(priced, job_id) == {"amount": 0.12, "unit": "USD", "source": "computed"}


def test_nano_banana_is_priced_by_delivered_images(priced: Harness) -> None:
    job_id = submitted(priced, PRICED, QUEUED, done(3), n=4)

    polled(priced, job_id)

    assert priced.job(job_id).cost == Cost(0.09, "USD", "computed")


def test_gpt_image_2_is_priced_by_size_quality_and_requested_images(priced: Harness) -> None:
    fields = {"model": "gpt-image-2", "aspect_ratio": "1:1", "n": 3}
    job_id = submitted(priced, PRICED, QUEUED, done(2), **fields)

    polled(priced, job_id)

    assert priced.job(job_id).cost == Cost(0.12, "USD", "computed")


def test_an_outcome_in_the_answer_has_its_cost(priced: Harness) -> None:
    job_id = submitted(priced, PRICED, done(2), n=2)

    job = priced.job(job_id)
    assert (job.status, job.cost) == (Status.SUCCEEDED, Cost(0.06, "USD", "computed"))


def test_a_size_without_a_price_has_the_price_of_the_wildcard(priced: Harness) -> None:
    fields = {"model": "gpt-image-2", "aspect_ratio": "16:9"}

    assert priced.job(submitted(priced, PRICED, QUEUED, **fields)).cost == Cost(
        0.2, "USD", "computed"
    )


def test_a_model_without_a_price_has_an_unknown_cost(priced: Harness) -> None:
    assert cost(priced, submitted(priced, PRICED, QUEUED, model="NanoBanana2-2K")) == UNKNOWN


def test_a_callback_without_a_cost_keeps_the_computed_cost(priced: Harness) -> None:
    job_id = submitted(priced, "hiapi", answer(200, {"data": {"taskId": "task-1"}}))
    task = {"taskId": "task-1", "status": "success", "output": [{"url": "https://e.example/a"}]}
    report = priced.runtime.providers["hiapi"].read_task(task, priced.clock())
    assert report.outcome is not None

    priced.ledger.settle_attempt(job_id, 1, "task-1", report.outcome, now=priced.clock())

    assert priced.job(job_id).cost == Cost(1.0, "credits", "computed")


def test_the_cost_of_a_failure_is_unknown_unless_it_is_reported(
    priced: Harness,
) -> None:
    failed = answer(200, {"task_id": "task-1", "status": "failed", "error": "no"})
    job_id = submitted(priced, PRICED, QUEUED, failed)

    polled(priced, job_id)

    assert priced.job(job_id).status is Status.FAILED
    assert cost(priced, job_id) == UNKNOWN


def test_a_reported_cost_has_priority_over_the_price_table(start: Callable[..., Harness]) -> None:
    harness = start(EVOLINK_PRICES=orjson.dumps(PRICES["EVOLINK_PRICES"]).decode())
    task = {"id": "task-1", "status": "completed", "results": ["https://e.example/a.png"]}
    taken = {"id": "task-1", "status": "pending", "usage": {"credits_reserved": 1.6}}
    job_id = submitted(harness, "evolink", answer(200, taken), answer(200, task))
    assert harness.job(job_id).cost == Cost(1.6, "credits")

    polled(harness, job_id)

    assert harness.job(job_id).status is Status.SUCCEEDED
    assert cost(harness, job_id) == {"amount": 1.6, "unit": "credits", "source": "reported"}
