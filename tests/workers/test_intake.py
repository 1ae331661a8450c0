"""Enqueue messages of other services: the request, and the tenant beside it."""

from __future__ import annotations

import importlib

import pytest

from orchestrator.enqueue import CELERY_SCOPE, OPEN_RETRY_SECONDS, create_job, job_of_key
from orchestrator.operations.tenants import set_tenant
from tests.support.fakes import Harness
from tests.support.providers import EXAMPLE_REQUESTS
from tests.support.worker_app import worker


def send(harness: Harness, monkeypatch: pytest.MonkeyPatch, **request: object) -> None:
    """Run the task of one message with the id `task-1`."""
    worker(harness, monkeypatch)
    app = importlib.import_module("workers.intake").app
    app.tasks["orchestrator.enqueue"].apply(kwargs=request, task_id="task-1")


def test_a_message_names_the_tenant_of_its_job(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(harness, monkeypatch, **EXAMPLE_REQUESTS["hiapi"], tenant="shop")

    job = job_of_key(harness.runtime, CELERY_SCOPE, "task-1", "shop")
    assert job is not None
    assert job.tenant == "shop"
    assert job_of_key(harness.runtime, CELERY_SCOPE, "task-1") is None


def test_a_message_over_a_limit_of_its_tenant_is_sent_again_after_a_wait_that_doubles(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_tenant(harness.runtime, "shop", {"max_open": "1"}, actor="tests")
    create_job(harness.runtime, EXAMPLE_REQUESTS["hiapi"], scope="tests", tenant="shop")
    worker(harness, monkeypatch)
    intake = importlib.import_module("workers.intake")
    task = intake.app.tasks["orchestrator.enqueue"]
    planned: list[float] = []

    def retry(*, exc: Exception, countdown: float, max_retries: int | None) -> Exception:
        planned.append(countdown)
        return exc

    monkeypatch.setattr(task, "retry", retry)
    request = {**EXAMPLE_REQUESTS["hiapi"], "tenant": "shop"}
    for tries in (0, 1, 2000):
        task.apply(kwargs=request, task_id="task-1", retries=tries)
    harness.chance.number = 1.0
    task.apply(kwargs=request, task_id="task-1", retries=2000)

    first, longest = OPEN_RETRY_SECONDS, intake.MAX_LIMIT_WAIT_SECONDS
    assert planned[:3] == [first, 2 * first, longest]
    assert longest < planned[3] < intake.VISIBILITY_TIMEOUT_SECONDS
    assert job_of_key(harness.runtime, CELERY_SCOPE, "task-1", "shop") is None
    assert harness.ledger.rejected.newest() == []
