"""The batch step: one notification when every job of a batch has its outcome."""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from typing import Any

import pytest
from standardwebhooks import Webhook

from orchestrator.jobs.model import FollowUp, FollowUpStatus, Step
from orchestrator.jobs.request import Receiver
from orchestrator.jsonio import parse
from orchestrator.ledger import keys
from orchestrator.ledger.batches import Batches
from orchestrator.operations.batches import create_batch
from orchestrator.operations.replay import notify_batch_again
from orchestrator.steps.batch import CHECK_INTERVAL_MS, batch
from tests.support import job_states
from tests.support.fakes import TENANT, Answer, FakeProvider, Harness, Killed, killed
from tests.support.notify_kit import SECRET, VARIABLES, host, ids, pause, url
from tests.support.providers import EXAMPLE_REQUESTS


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    return start(**VARIABLES)


def begin(harness: Harness, receiver: Receiver, jobs: int = 2) -> tuple[str, list[str]]:
    """Create a batch. Return its id and its jobs."""
    made = create_batch(
        harness.runtime,
        [EXAMPLE_REQUESTS["hiapi"]] * jobs,
        scope="test",
        tenant=TENANT,
        receiver=receiver,
    )
    return made.id, [entry.job.id for entry in made.entries if entry.job]


def cancel(harness: Harness, *job_ids: str) -> None:
    for job_id in job_ids:
        settlement = harness.ledger.cancel(job_id, now=harness.clock.now)
        harness.runtime.nudge_due(job_id, settlement)


def notification(harness: Harness, batch_id: str) -> FollowUp:
    completed = harness.ledger.batches.get(batch_id)
    assert completed
    assert completed.notification
    return completed.notification


def test_the_notification_is_a_signed_post_when_all_jobs_have_ended(
    harness: Harness, receiver: FakeProvider
) -> None:
    harness.clock.now = time_ns() // 1_000_000  # the library judges the time
    batch_id, (first, second) = begin(harness, Receiver(notify_url=url(receiver)))
    harness.nudges.sent.clear()
    cancel(harness, first)
    batch(harness.runtime, batch_id)
    assert (harness.nudges.sent, receiver.requests) == ([], [])
    cancel(harness, second)
    assert harness.nudges.sent == [(Step.BATCH, batch_id)]

    batch(harness.runtime, batch_id)
    batch(harness.runtime, batch_id)

    [request] = receiver.requests
    Webhook(SECRET).verify(request.body, dict(request.headers))
    message = parse(request.body)
    assert (ids(receiver), message["type"]) == ([f"msg_{batch_id}"], "batch.completed")
    data: dict[str, Any] = message["data"]
    assert (data["id"], data["total"], data["counts"]["cancelled"]) == (batch_id, 2, 2)
    assert notification(harness, batch_id).status is FollowUpStatus.DONE


def test_a_notification_that_is_sent_again_resumes_the_paused_host(
    harness: Harness, receiver: FakeProvider
) -> None:
    batch_id, jobs = begin(harness, Receiver(notify_url=url(receiver)), jobs=1)
    cancel(harness, *jobs)
    pause(harness, host(receiver))
    batch(harness.runtime, batch_id)
    assert receiver.requests == []
    found = harness.ledger.batches.get(batch_id)
    assert found

    notify_batch_again(harness.runtime, found, actor="tests")
    harness.clock.forward(1)
    batch(harness.runtime, batch_id)

    assert ids(receiver) == [f"msg_{batch_id}"]


def test_a_lost_nudge_delays_a_batch_until_its_next_check(
    harness: Harness, receiver: FakeProvider
) -> None:
    batch_id, jobs = begin(harness, Receiver(notify_url=url(receiver)))
    batch(harness.runtime, batch_id)
    cancel(harness, *jobs)

    def due() -> list[str]:
        return harness.ledger.follow_ups.due(0, Step.BATCH, now=harness.clock.now, limit=9)

    assert due() == []
    harness.clock.now += CHECK_INTERVAL_MS
    assert due() == [batch_id]
    batch(harness.runtime, batch_id)

    assert len(receiver.requests) == 1


def test_a_refused_notification_is_repeated_with_the_same_id(
    harness: Harness, receiver: FakeProvider
) -> None:
    receiver.answers(Answer(500), Answer(204))
    batch_id, jobs = begin(harness, Receiver(notify_url=url(receiver)), 1)
    cancel(harness, *jobs)

    batch(harness.runtime, batch_id)
    failed = notification(harness, batch_id)
    assert (failed.status, failed.tries, failed.error) == ("pending", 1, "it answered 500")
    batch(harness.runtime, batch_id)
    assert len(receiver.requests) == 1, "the next try is not due"
    harness.clock.now = failed.due_at or 0
    batch(harness.runtime, batch_id)

    assert ids(receiver) == [f"msg_{batch_id}"] * 2
    assert notification(harness, batch_id).status is FollowUpStatus.DONE


def test_a_worker_that_dies_leaves_the_notification_to_another(
    harness: Harness, receiver: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id, jobs = begin(harness, Receiver(notify_url=url(receiver)), 1)
    cancel(harness, *jobs)
    with monkeypatch.context() as patch:
        patch.setattr(Batches, "claim", killed)
        with pytest.raises(Killed):
            batch(harness.runtime, batch_id)

    batch(harness.runtime, batch_id)

    assert len(receiver.requests) == 1


def test_a_batch_may_notify_a_stream_or_nobody(harness: Harness) -> None:
    silent, jobs = begin(harness, Receiver(), 1)
    streamed, more = begin(harness, Receiver(notify_stream="orders"), 1)
    cancel(harness, *jobs, *more)

    for batch_id in (silent, streamed, "batch_x"):
        batch(harness.runtime, batch_id)

    entries: Any = harness.redis.xrange(keys.stream("orders"))
    [(_, entry)] = entries
    assert (entry["id"], entry["type"]) == (f"msg_{streamed}", "batch.completed")
    completed = harness.ledger.batches.get(silent)
    assert completed
    assert completed.completed_at == harness.clock.now


def test_the_jobs_of_a_batch_notify_for_themselves(
    harness: Harness, receiver: FakeProvider
) -> None:
    request = {**EXAMPLE_REQUESTS["hiapi"], "notify_stream": "orders"}
    made = create_batch(harness.runtime, [request], scope="test", tenant=TENANT)
    [entry] = made.entries
    assert entry.job
    lease = job_states.claimed(harness, entry.job.id)

    assert lease.job.notification
    assert lease.job.receiver == Receiver(notify_stream="orders")
