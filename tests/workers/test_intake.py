"""Enqueue messages of other services: the request, and the tenant beside it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from celery.exceptions import WorkerShutdown

from orchestrator.enqueuing import (
    CELERY_SCOPE,
    OPEN_RETRY_SECONDS,
    EnqueueResult,
    create_job,
    job_of_key,
)
from orchestrator.jsonio import rfc3339
from orchestrator.ledger import LedgerUnavailable, keys
from orchestrator.ledger.rejected_messages import RejectedMessages
from orchestrator.operations import enqueue_messages
from orchestrator.operations.enqueue_messages import EnqueueMessage, take_message, take_waiting
from orchestrator.operations.tenants import set_tenant
from orchestrator.runtime import Runtime
from tests.support import job_states
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


def test_a_repeated_message_whose_job_cannot_be_read_holds_up_no_other(harness: Harness) -> None:
    message = EnqueueMessage("task-1", EXAMPLE_REQUESTS["hiapi"], (), {})
    take_message(harness.runtime, message)
    job = job_of_key(harness.runtime, CELERY_SCOPE, "task-1")
    assert job is not None
    job_states.make_unreadable(harness, job.id, {"attempt": "x"})

    take_message(harness.runtime, message)  # it is acknowledged

    assert harness.ledger.overview.size() == 1


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
    assert harness.ledger.rejected.page(1) == []


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


def test_a_flow_whose_messages_fail_does_not_hold_up_the_others(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = EXAMPLE_REQUESTS["hiapi"]
    for tenant in ("shop", "other"):
        message = EnqueueMessage("task-1", {**fields, "tenant": tenant}, (), {})
        now = harness.clock()
        flow = str(message.flow)
        harness.ledger.waiting_messages.add(flow, message.stored(), now=now, due_at=now)
        harness.clock.forward(1)

    def create(runtime: Runtime, request: Any, *, tenant: str, **options: Any) -> EnqueueResult:
        if tenant == "shop":
            raise LedgerUnavailable("its shard is away")
        return create_job(runtime, request, tenant=tenant, **options)

    monkeypatch.setattr(enqueue_messages, "create_job", create)
    with pytest.raises(LedgerUnavailable):
        take_waiting(harness.runtime)

    assert take_waiting(harness.runtime) == 1
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
    assert [each.kind for each in harness.ledger.rejected.page(9)] == ["enqueue"]
    assert jobs_of(harness, "task-2", "task-3")[0] is not None


NESTED: list[Any] = []
for _ in range(2000):
    NESTED = [NESTED]

#: Arguments that no request may have. Celery can carry most of them, JSON cannot.
ODD: dict[str, Any] = {
    "provider": ["hiapi"],
    "prompt": "\ud83d",
    "model": 2**70,
    "quality": Decimal("1.5"),
    "size": {1: b"\xff"},
    "metadata": {"deep": NESTED},
    "self": "a name of ours",
    "\ud83d": "a name that is no text",
}


@pytest.mark.parametrize("name", ODD)
def test_no_message_is_lost_because_of_its_arguments(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    waits = int(name == "self")  # JSON can hold it, so it is read later
    odd = {name: ODD[name]}
    send_many(harness, monkeypatch, "odd", **odd)
    send_many(harness, monkeypatch, "task-1", "task-2")  # from now on messages wait
    send_many(harness, monkeypatch, "odd-2", **odd)

    entries = harness.ledger.rejected.page(9)
    assert [each.kind for each in entries] == ["enqueue"] * (2 - waits)
    assert harness.ledger.waiting_messages.size() == 1 + waits


def test_a_message_that_crashes_is_kept_and_stops_no_other(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_many(harness, monkeypatch, "task-1", "task-2", "task-3")
    flow = keys.waiting("shop hiapi")
    harness.redis.zadd(flow, {"of another version": 0})
    set_tenant(harness.runtime, "shop", {"max_open": "none"}, actor="tests")

    def crash(*args: Any, key: str, **options: Any) -> Any:
        if key == "task-2":
            raise KeyError("of a plug-in")
        return create_job(*args, key=key, **options)

    monkeypatch.setattr(enqueue_messages, "create_job", crash)
    harness.clock.forward(OPEN_RETRY_SECONDS)

    assert take_waiting(harness.runtime) == 3
    assert jobs_of(harness, "task-3") != [None]
    crashed, unread = harness.ledger.rejected.page(9)
    assert crashed.reason == "an unexpected KeyError"
    assert unread.body == "of another version"


def test_a_failure_is_kept_although_the_ledger_is_away_first(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(harness, monkeypatch)
    intake = importlib.import_module("workers.intake")
    keep, aways = RejectedMessages.keep, [LedgerUnavailable("away")] * 2

    def late(*args: Any, **entry: Any) -> None:
        if aways:
            raise aways.pop()
        keep(*args, **entry)

    def crash(*_: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(RejectedMessages, "keep", late)
    monkeypatch.setattr(intake, "RETRY_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(intake, "take_message", crash)
    intake.app.tasks["orchestrator.enqueue"].apply(kwargs={"prompt": "x"}, task_id="task-1")

    [message] = harness.ledger.rejected.page(9)
    assert message.reason == "an unexpected KeyError"


def test_a_failure_is_not_acknowledged_when_intake_stops_while_the_ledger_is_away(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(harness, monkeypatch)
    intake = importlib.import_module("workers.intake")

    def away(*_: Any, **__: Any) -> None:
        raise LedgerUnavailable("away")

    def crash(*_: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(RejectedMessages, "keep", away)
    monkeypatch.setattr(intake, "take_message", crash)
    monkeypatch.setattr(intake.state, "should_stop", 0)

    with pytest.raises(WorkerShutdown):
        intake.app.tasks["orchestrator.enqueue"].apply(kwargs={"prompt": "x"}, task_id="task-1")


def test_a_message_that_costs_more_than_the_budget_of_a_day_stops_no_other(
    start: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    dear, cheap = "gemini-3-pro-image-preview", "nano-banana-2-lite"
    harness = start(
        EVOLINK_PRICES=f'{{"unit": "credits", "prices": {{"{dear}": 3, "{cheap}": 1}}}}'
    )
    send_many(harness, monkeypatch, "task-1")
    send_many(harness, monkeypatch, "dear", provider="evolink", model=dear)
    send_many(harness, monkeypatch, "task-2", provider="evolink", model=cheap)
    limits = {"max_open": "none", "budget.evolink": "2"}
    set_tenant(harness.runtime, "shop", limits, actor="tests")
    harness.clock.forward(OPEN_RETRY_SECONDS)

    take_waiting(harness.runtime)

    assert [bool(job) for job in jobs_of(harness, "dear", "task-2")] == [False, True]
    [entry] = harness.ledger.rejected.page(9)
    assert "costs more than that" in entry.reason


def test_a_message_that_expired_while_it_waited_makes_no_job(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_many(harness, monkeypatch, "task-1")
    task = importlib.import_module("workers.intake").app.tasks["orchestrator.enqueue"]
    expires = rfc3339(harness.clock() + 60_000)
    kwargs = {**EXAMPLE_REQUESTS["hiapi"], "tenant": "shop"}
    task.push_request(id="task-2", expires=expires, headers={"traceparent": "\ud83d"})
    task.run(**kwargs)
    task.pop_request()
    assert harness.ledger.waiting_messages.size() == 1

    set_tenant(harness.runtime, "shop", {"max_open": "none"}, actor="tests")
    harness.clock.forward(61)

    assert take_waiting(harness.runtime) == 1
    assert jobs_of(harness, "task-2") == [None]
    [entry] = harness.ledger.rejected.page(9)
    assert entry.reason == f"it expired at {expires}"
