"""The notify step: one message per outcome, repeated with the same id until it is accepted."""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from typing import Any

import pytest
import structlog
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from orchestrator.delivery import targets
from orchestrator.delivery.schedule import JITTER_FRACTION, SCHEDULE
from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.jobs.views import job_view
from orchestrator.jsonio import dump, parse
from orchestrator.ledger import Ledger, LedgerUnavailable, Result
from orchestrator.ledger.follow_ups import FollowUps
from orchestrator.operations.tenants import set_tenant
from orchestrator.security.secret import Secret
from orchestrator.steps import delivery as delivery_step
from orchestrator.steps.delivery import LEASE_MS
from orchestrator.steps.notify import notify
from tests.support import job_states
from tests.support.fakes import (
    NOON,
    PUBLIC_URL,
    TENANT,
    Answer,
    FakeProvider,
    Harness,
    Killed,
    ReceivedRequest,
    killed,
)
from tests.support.notify_kit import (
    OLD_SECRET,
    SECRET,
    TOKEN,
    again,
    ended,
    host,
    ids,
    notification,
    once,
    redis_holds,
    url,
    wait,
    whsec,
)

#: The secrets of a tenant.
OWN, OWN_OLD = whsec("the tenant's"), whsec("the tenant's, before")
PENDING, DONE, DEAD = FollowUpStatus.PENDING, FollowUpStatus.DONE, FollowUpStatus.DEAD


# A message -----------------------------------------------------------------------------------


def test_a_notification_is_a_signed_post(harness: Harness, receiver: FakeProvider) -> None:
    harness.clock.now = time_ns() // 1_000_000  # the library judges the time
    job_id = ended(harness, receiver)
    view = job_view(harness.job(job_id), PUBLIC_URL)

    notify(harness.runtime, job_id)

    [request] = receiver.requests
    assert (request.method, request.path) == ("POST", f"/hooks/7?token={TOKEN}")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "image-orchestrator"
    assert request.headers["webhook-id"] == f"msg_{job_id}"
    assert request.headers["webhook-timestamp"] == str(harness.clock.now // 1000)
    content = Webhook(SECRET).verify(request.body, dict(request.headers))
    assert content["type"] == "job.succeeded"
    shown = parse(dump(view))
    shown["notification"]["next_attempt_at"] = content["data"]["notification"]["next_attempt_at"]
    assert content["data"] == shown


def test_a_tenant_with_a_secret_of_its_own_signs_with_it(
    harness: Harness, receiver: FakeProvider
) -> None:
    harness.clock.now = time_ns() // 1_000_000  # the library judges the time
    for secret in (OWN_OLD, OWN):
        set_tenant(harness.runtime, TENANT, {"notify_secret": secret}, actor="tests")

    once(harness, ended(harness, receiver))

    [request] = receiver.requests
    for secret in (OWN_OLD, OWN):
        Webhook(secret).verify(request.body, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body, dict(request.headers))


def test_a_2xx_answer_ends_the_notification(harness: Harness, receiver: FakeProvider) -> None:
    job_id = ended(harness, receiver, job_states.failure())

    now = once(harness, job_id)

    assert (now.status, now.tries, now.tried_at, now.error) == (DONE, 1, NOON, None)
    assert wait(harness, job_id) is None
    assert harness.events(job_id)[-1] == "notify_done"
    assert harness.job(job_id).done
    assert harness.ledger.circuit_breaker.failing() == {}


@pytest.mark.parametrize(
    ("life", "kind"),
    [
        (job_states.ended, "job.succeeded"),
        (job_states.refused, "job.failed"),
        (job_states.cancelled, "job.cancelled"),
    ],
    ids=["succeeded", "failed", "cancelled"],
)
def test_every_outcome_is_notified(
    harness: Harness, receiver: FakeProvider, life: Callable[..., str], kind: str
) -> None:
    job_id = life(harness, notify_url=url(receiver))

    assert (Step.NOTIFY, job_id) in harness.nudges.sent
    assert once(harness, job_id).status is DONE
    [request] = receiver.requests
    assert (request.json["type"], request.json["data"]["id"]) == (kind, job_id)
    assert f"job.{request.json['data']['status']}" == kind


def test_an_open_job_and_a_job_without_a_target_are_not_notified(
    harness: Harness, receiver: FakeProvider
) -> None:
    jobs = [
        harness.enqueue(notify_url=url(receiver)),
        job_states.running(harness, notify_url=url(receiver)),
        job_states.ended(harness),
    ]

    for job_id in [*jobs, "job_" + "0" * 28]:
        notify(harness.runtime, job_id)

    assert receiver.requests == []
    assert Step.NOTIFY not in [named for named, _ in harness.nudges.sent]


def test_the_new_and_the_old_secret_both_sign(harness: Harness, receiver: FakeProvider) -> None:
    harness.clock.now = time_ns() // 1_000_000
    both = harness.with_settings(notify_secrets=(Secret(SECRET), Secret(OLD_SECRET)))

    notify(both.runtime, ended(harness, receiver))

    [request] = receiver.requests
    for known in (SECRET, OLD_SECRET):
        assert Webhook(known).verify(request.body, dict(request.headers))


# Nudges, leases and lost workers -------------------------------------------------------------


def test_a_job_that_is_nudged_twice_is_notified_once(
    harness: Harness, receiver: FakeProvider
) -> None:
    job_id = ended(harness, receiver)

    for _ in range(3):
        notify(harness.runtime, job_id)

    assert ids(receiver) == [f"msg_{job_id}"]


def test_a_nudge_during_the_call_does_nothing(harness: Harness, receiver: FakeProvider) -> None:
    job_id = ended(harness, receiver)

    def nudged_again(_: ReceivedRequest) -> Answer:
        notify(harness.runtime, job_id)
        return Answer(200)

    receiver.handler = nudged_again

    assert once(harness, job_id).status is DONE
    assert ids(receiver) == [f"msg_{job_id}"]


def test_after_a_worker_is_killed_another_notifies_again_when_the_lease_ends(
    harness: Harness, receiver: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended(harness, receiver)
    with monkeypatch.context() as patch:
        patch.setattr(delivery_step, "_record", killed)
        with pytest.raises(Killed):
            notify(harness.runtime, job_id)

    harness.clock.forward(LEASE_MS / 1000 - 1)
    assert once(harness, job_id).status is PENDING
    assert wait(harness, job_id) == 1
    assert again(harness, job_id).status is DONE
    assert ids(receiver) == [f"msg_{job_id}"] * 2
    first, second = (int(request.headers["webhook-timestamp"]) for request in receiver.requests)
    assert second - first == LEASE_MS / 1000 > targets.TIMEOUT_SECONDS


@pytest.mark.parametrize("status", [200, 500, 410])
def test_a_result_after_the_end_of_the_lease_is_stale(
    harness: Harness, receiver: FakeProvider, status: int
) -> None:
    job_id = ended(harness, receiver)

    def late(_: ReceivedRequest) -> Answer:
        receiver.handler = lambda _: Answer(200)
        harness.clock.forward(LEASE_MS / 1000)
        notify(harness.runtime, job_id)
        return Answer(status)

    receiver.handler = late
    with structlog.testing.capture_logs() as logs:
        now = once(harness, job_id)

    assert (now.status, now.tries, now.error) == (DONE, 1, None)
    assert ids(receiver) == [f"msg_{job_id}"] * 2
    assert [line["result"] for line in logs if "result" in line] == [Result.RECORDED, Result.STALE]
    assert harness.events(job_id).count("notify_done") == 1


def test_a_result_that_cannot_be_recorded_is_sent_again_after_the_lease(
    harness: Harness, receiver: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = ended(harness, receiver)

    def away(*_: Any, **__: Any) -> None:
        raise LedgerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(FollowUps, "done", away)
        with pytest.raises(LedgerUnavailable):
            notify(harness.runtime, job_id)

    assert again(harness, job_id).status is DONE
    assert ids(receiver) == [f"msg_{job_id}"] * 2


def test_an_unavailable_ledger_raises_before_anything_is_sent(
    harness: Harness, away: Ledger
) -> None:
    with pytest.raises(LedgerUnavailable):
        notify(harness.on(away).runtime, "job_" + "0" * 28)


# The schedule --------------------------------------------------------------------------------


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_a_notification_that_fails_for_the_whole_schedule_is_dead(
    harness: Harness, receiver: FakeProvider, chance: float
) -> None:
    harness.chance.number = chance
    receiver.handler = lambda _: Answer(400)
    job_id = ended(harness, receiver)
    waits, seen = [], []

    while (seconds := wait(harness, job_id)) is not None:
        waits.append(seconds)
        seen.append(again(harness, job_id))

    assert waits == pytest.approx([wait * (1 + JITTER_FRACTION * chance) for wait in SCHEDULE])
    assert [now.tries for now in seen] == list(range(1, 11))
    assert [now.status for now in seen] == [PENDING] * 9 + [DEAD]
    assert {now.error for now in seen} == {"it answered 400"}
    assert harness.events(job_id).count("notify_failed") == 9
    assert harness.events(job_id)[-1] == "notify_dead"
    number, [entry] = harness.ledger.follow_ups.dead(10)
    assert (number, entry.job_id, entry.since) == (1, job_id, harness.clock.now)


def test_each_try_has_the_same_id_and_its_own_timestamp(
    harness: Harness, receiver: FakeProvider
) -> None:
    receiver.answers(*[Answer(500)] * 3, Answer(200))
    job_id = ended(harness, receiver)

    while wait(harness, job_id) is not None:
        again(harness, job_id)

    assert ids(receiver) == [f"msg_{job_id}"] * 4
    times = [
        int(request.headers["webhook-timestamp"]) * 1000 - NOON for request in receiver.requests
    ]
    assert times == [0, 5000, 305_000, 2_105_000]
    assert len({request.headers["webhook-signature"] for request in receiver.requests}) == 4
    assert (notification(harness, job_id).status, notification(harness, job_id).tries) == (DONE, 4)


def test_between_tries_a_nudge_does_nothing(harness: Harness, receiver: FakeProvider) -> None:
    receiver.handler = lambda _: Answer(500)
    job_id = ended(harness, receiver)
    once(harness, job_id)
    harness.clock.forward(4.9)

    assert once(harness, job_id).tries == len(receiver.requests) == 1
    harness.clock.forward(0.1)
    assert once(harness, job_id).tries == len(receiver.requests) == 2


# The secret ----------------------------------------------------------------------------------


def test_without_a_secret_nothing_is_sent_and_a_retry_follows(
    harness: Harness, receiver: FakeProvider
) -> None:
    job_id = ended(harness, receiver)
    bare = harness.with_settings(notify_secrets=())

    now = once(bare, job_id)

    assert receiver.requests == []
    assert now.status is PENDING
    assert "ORCHESTRATOR_NOTIFY_SECRET is not set" in str(now.error)
    assert harness.ledger.circuit_breaker.failing() == {}
    assert again(harness, job_id).status is DONE


def test_no_secret_and_no_url_is_in_the_logs_or_the_ledger(
    harness: Harness, receiver: FakeProvider
) -> None:
    with structlog.testing.capture_logs() as logs:
        for broken in (Answer(500), Answer(302, headers={"Location": "/?" + TOKEN}), None):
            receiver.answers(broken)
            once(harness, ended(harness, receiver))
        once(harness.with_settings(allow_private_networks=False), ended(harness, receiver))

    assert logs
    for hidden in (TOKEN, "/hooks/", SECRET, SECRET.removeprefix("whsec_")):
        assert hidden not in repr(logs)
        assert redis_holds(harness, hidden) == []
    assert {line["to"] for line in logs if "to" in line} == {host(receiver)}
