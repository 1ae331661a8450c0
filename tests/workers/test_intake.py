"""Enqueue messages of other services: the request, and the tenant beside it."""

from __future__ import annotations

import importlib

import pytest

from orchestrator.enqueue import CELERY_SCOPE, OPEN_RETRY_SECONDS, job_of_key
from orchestrator.operations.enqueue_messages import take_waiting
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


def send_many(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, *ids: str, **request: object
) -> None:
    """Run the tasks of messages of a tenant that may have one open job."""
    set_tenant(harness.runtime, "shop", {"max_open": "1"}, actor="tests")
    worker(harness, monkeypatch)
    task = importlib.import_module("workers.intake").app.tasks["orchestrator.enqueue"]
    for task_id in ids:
        kwargs = {**EXAMPLE_REQUESTS["hiapi"], "tenant": "shop", **request}
        assert task.apply(kwargs=kwargs, task_id=task_id).successful()


def jobs_of(harness: Harness, *ids: str) -> list[str | None]:
    """Return the ids of the jobs of messages. Those that wait have none."""
    jobs = (job_of_key(harness.runtime, CELERY_SCOPE, each, "shop") for each in ids)
    return [job.id if job else None for job in jobs]


def test_messages_over_a_limit_wait_in_the_ledger_and_get_their_jobs_in_order(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ("task-1", "task-2", "task-3")
    send_many(harness, monkeypatch, *ids, "task-2")  # one is delivered twice

    first, *others = jobs_of(harness, *ids)
    assert first is not None
    assert others == [None, None]
    assert harness.ledger.waiting_messages.size() == 2

    harness.clock.forward(OPEN_RETRY_SECONDS)
    assert take_waiting(harness.runtime) == 0  # the tenant is still at its limit
    assert harness.ledger.waiting_messages.due(now=harness.clock(), limit=1) == []
    harness.ledger.cancel(first, now=harness.clock())
    harness.clock.forward(OPEN_RETRY_SECONDS)

    assert take_waiting(harness.runtime) == 1
    _, second, third = jobs_of(harness, *ids)
    assert second is not None
    assert third is None
    assert harness.ledger.rejected.newest() == []


def test_a_new_message_waits_behind_older_ones_and_not_behind_another_tenants(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_many(harness, monkeypatch, "task-1", "task-2")
    first, _ = jobs_of(harness, "task-1", "task-2")
    harness.ledger.cancel(str(first), now=harness.clock())

    send_many(harness, monkeypatch, "task-3")
    send(harness, monkeypatch, **EXAMPLE_REQUESTS["hiapi"], tenant="other")

    assert jobs_of(harness, "task-2", "task-3") == [None, None]
    assert job_of_key(harness.runtime, CELERY_SCOPE, "task-1", "other") is not None


def test_a_waiting_message_that_became_wrong_is_rejected(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_many(harness, monkeypatch, "task-1", "task-2")
    send_many(harness, monkeypatch, "task-3", model="no-such-model")

    first, _ = jobs_of(harness, "task-1", "task-2")
    harness.ledger.cancel(str(first), now=harness.clock())
    set_tenant(harness.runtime, "shop", {"max_open": "none"}, actor="tests")
    harness.clock.forward(OPEN_RETRY_SECONDS)

    assert take_waiting(harness.runtime) == 2
    assert harness.ledger.waiting_messages.size() == 0
    assert [each["kind"] for each in harness.ledger.rejected.newest()] == ["enqueue"]
    assert jobs_of(harness, "task-2", "task-3")[0] is not None
