"""The notify step with hosts that are busy, paused or probed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog
from redis import Redis

from orchestrator.delivery.schedule import LONGEST_PAUSE_SECONDS, SCHEDULE
from orchestrator.host_limiter import PAUSED_WAIT_PROBES, SLOTS_PER_HOST
from orchestrator.jobs.model import FollowUpStatus
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.place_shares import BUSY_WAIT_SECONDS
from orchestrator.steps import notify as notify_step
from orchestrator.steps.notify import notify
from tests.support import job_states
from tests.support.fakes import (
    NOON,
    Answer,
    FakeProvider,
    Harness,
    Killed,
    ReceivedRequest,
    killed,
    serving,
)
from tests.support.notify_kit import (
    VARIABLES,
    again,
    ended,
    host,
    ids,
    notification,
    once,
    pause,
    wait,
)

PENDING, DONE, DEAD = FollowUpStatus.PENDING, FollowUpStatus.DONE, FollowUpStatus.DEAD


def nested(harness: Harness, jobs: list[str]) -> Callable[[ReceivedRequest], Answer]:
    """Return a handler that notifies the next job before it answers, so all calls run at once."""
    left = list(jobs)

    def handler(_: ReceivedRequest) -> Answer:
        if left:
            notify(harness.runtime, left.pop(0))
        return Answer(200)

    return handler


def test_one_host_has_a_limited_number_of_calls_at_once(
    harness: Harness, receiver: FakeProvider
) -> None:
    jobs = [ended(harness, receiver) for _ in range(SLOTS_PER_HOST + 2)]
    receiver.handler = nested(harness, jobs[1:])
    harness.chance.number = 0.5

    notify(harness.runtime, jobs[0])

    assert ids(receiver) == [f"msg_{job_id}" for job_id in jobs[:SLOTS_PER_HOST]]
    delayed = notification(harness, jobs[SLOTS_PER_HOST])
    assert (delayed.status, delayed.tries, delayed.tried_at) == (PENDING, 0, None)
    assert wait(harness, jobs[SLOTS_PER_HOST]) == sum(BUSY_WAIT_SECONDS) / 2
    assert again(harness, jobs[SLOTS_PER_HOST]).status is DONE


def test_a_busy_host_does_not_delay_another_host(harness: Harness, receiver: FakeProvider) -> None:
    with serving(FakeProvider(lambda _: Answer(200))) as other:
        jobs = [ended(harness, receiver) for _ in range(SLOTS_PER_HOST)] + [ended(harness, other)]
        receiver.handler = nested(harness, jobs[1:])
        notify(harness.runtime, jobs[0])

        assert notification(harness, jobs[-1]).status is DONE
        assert ids(other) == [f"msg_{jobs[-1]}"]


def test_slots_are_released_after_every_kind_of_result(
    harness: Harness, receiver: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify_step, "message", killed)
    for _ in range(SLOTS_PER_HOST):
        with pytest.raises(Killed):
            notify(harness.runtime, ended(harness, receiver))
    monkeypatch.undo()

    for answer in (None, Answer(500), Answer(200), Answer(410)):
        receiver.answers(answer)
        for _ in range(SLOTS_PER_HOST):
            assert once(harness, ended(harness, receiver)).tries == 1


def test_a_paused_host_is_not_called_and_its_jobs_wait(
    harness: Harness, receiver: FakeProvider
) -> None:
    job_id = ended(harness, receiver)
    pause(harness, host(receiver))
    harness.chance.number = 0.5

    now = once(harness, job_id)

    assert receiver.requests == []
    assert (now.status, now.tries, now.tried_at, now.error) == (PENDING, 0, None, None)
    assert wait(harness, job_id) == sum(PAUSED_WAIT_PROBES) / 2 * 60


def test_a_probe_that_succeeds_resumes_the_host(harness: Harness, receiver: FakeProvider) -> None:
    job_id, other = ended(harness, receiver), ended(harness, receiver)
    pause(harness, host(receiver))
    once(harness, job_id)

    with structlog.testing.capture_logs() as logs:
        assert again(harness, job_id).status is DONE

    assert [line["host"] for line in logs if line["event"] == "host_resumed"] == [host(receiver)]
    assert harness.ledger.circuit_breaker.failing() == {}
    assert once(harness, other).status is DONE


def test_a_job_is_dead_after_its_host_was_paused_for_days(
    harness: Harness, receiver: FakeProvider
) -> None:
    job_id = ended(harness, receiver)
    pause(harness, host(receiver))
    harness.clock.forward(LONGEST_PAUSE_SECONDS)
    pause(harness, host(receiver))
    assert once(harness, job_id).status is PENDING
    harness.clock.forward(1)
    pause(harness, host(receiver))

    now = again(harness, job_id)

    assert receiver.requests == []
    assert (now.status, now.tries, now.error) == (DEAD, 0, "its host was paused or busy for days")
    assert harness.ledger.follow_ups.dead(10)[0] == 1


def test_tries_before_the_pause_are_counted_in_the_dead_notification(
    harness: Harness, receiver: FakeProvider
) -> None:
    receiver.answers(Answer(500))
    job_id = ended(harness, receiver)
    once(harness, job_id)
    harness.clock.forward(LONGEST_PAUSE_SECONDS)
    pause(harness, host(receiver))
    assert once(harness, job_id).status is PENDING
    harness.clock.forward(1)
    pause(harness, host(receiver))

    now = again(harness, job_id)

    assert (now.status, now.tries) == (DEAD, 1)
    assert len(receiver.requests) == 1


def test_the_last_try_is_made_after_its_host_was_busy(
    harness: Harness, receiver: FakeProvider
) -> None:
    harness.chance.number = 1.0
    receiver.answers(*[Answer(400)] * 9, Answer(200))
    job_id = ended(harness, receiver)
    while notification(harness, job_id).tries < len(SCHEDULE) - 1:
        again(harness, job_id)
    harness.clock.forward(wait(harness, job_id) or 0)
    assert harness.clock.now - NOON > LONGEST_PAUSE_SECONDS * 1000
    limiter, hosts = harness.runtime.host_limiter, harness.ledger.circuit_breaker
    called = host(receiver)
    for _ in range(SLOTS_PER_HOST):
        assert (
            limiter.acquire(hosts, called, DEFAULT_TENANT, harness.clock.now, harness.chance)
            is None
        )

    assert once(harness, job_id).status is PENDING
    limiter.release(hosts, called, DEFAULT_TENANT, harness.clock.now, works=True)
    now = again(harness, job_id)

    assert (now.status, now.tries) == (DONE, len(SCHEDULE))


def test_a_replayed_notification_starts_its_pause_limit_again(
    harness: Harness, receiver: FakeProvider
) -> None:
    job_id = ended(harness, receiver)
    once(harness, job_id)
    harness.clock.forward(LONGEST_PAUSE_SECONDS * 2)
    harness.ledger.follow_ups.notify_again(job_id, now=harness.clock.now)
    pause(harness, host(receiver))

    assert once(harness, job_id).status is PENDING


def test_a_failure_is_recorded_at_the_end_of_the_call(
    harness: Harness, receiver: FakeProvider
) -> None:
    def slow(_: ReceivedRequest) -> Answer:
        harness.clock.forward(12)
        return Answer(504)

    receiver.handler = slow

    now = once(harness, ended(harness, receiver))

    assert harness.ledger.circuit_breaker.failing()[host(receiver)].since == NOON + 12_000
    assert (now.tried_at, now.due_at) == (NOON + 12_000, NOON + 17_000)


def test_a_pause_keeps_the_number_of_tries(harness: Harness, receiver: FakeProvider) -> None:
    receiver.answers(Answer(500), Answer(200))
    job_id = ended(harness, receiver)
    once(harness, job_id)
    pause(harness, host(receiver))

    now = again(harness, job_id)

    assert (now.tries, now.error) == (1, "it answered 500")
    harness.ledger.circuit_breaker.forget(host(receiver))
    assert again(harness, job_id).tries == 2


def test_a_task_or_a_stream_ignores_the_circuit_breaker(
    start: Callable[..., Harness], redis_url: str, real_redis: Redis
) -> None:
    harness = start(**VARIABLES, ORCHESTRATOR_BROKER_URL=redis_url)
    ways: list[dict[str, Any]] = [{"notify_task": "shop.told"}, {"notify_stream": "shop.told"}]
    for way in ways:
        job_id = job_states.ended(harness, **way)
        pause(harness, "shop.told")

        assert once(harness, job_id).status is DONE
        assert harness.runtime.host_limiter.shares._used == 0, "its place is free again"


def test_a_message_inside_waits_while_its_tenant_holds_its_share(harness: Harness) -> None:
    shares, now = harness.runtime.host_limiter.shares, harness.clock.now
    job_id = job_states.ended(harness, notify_stream="shop.told")
    job = harness.ledger.get(job_id)
    assert job is not None
    while shares.reserve(job.tenant, None, now, lambda: 0.0) is None:
        pass

    waiting = once(harness, job_id)
    assert (waiting.status, waiting.tries) == (PENDING, 0)

    other = job_states.ended(harness, notify_stream="shop.told", tenant="other")
    assert once(harness, other).status is DONE


def test_a_slow_domain_of_another_tenant_delays_nobody(
    harness: Harness, receiver: FakeProvider
) -> None:
    shares = harness.runtime.host_limiter.shares
    for number in range(330):
        shares.reserve("other", f"hooks-{number}.slow.example", NOON, harness.chance)

    assert once(harness, ended(harness, receiver)).status is DONE


def test_a_notification_waits_while_its_domain_holds_its_share(
    harness: Harness, receiver: FakeProvider
) -> None:
    shares = harness.runtime.host_limiter.shares
    for number in range(43):  # of 64 threads, while 21 are free
        shares.reserve("other", f"127.0.0.1:{number}", NOON, harness.chance)
    job_id = ended(harness, receiver)

    now = once(harness, job_id)

    assert (now.status, now.tries, receiver.requests) == (PENDING, 0, [])
    assert wait(harness, job_id) == BUSY_WAIT_SECONDS[0]
