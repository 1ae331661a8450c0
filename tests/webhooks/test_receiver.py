"""What a callback does to its job, and how each is answered."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from orchestrator.callbacks.address import CallbackAddress
from orchestrator.jobs.model import SettledBy, Status, Step
from orchestrator.ledger import Lease, Ledger
from tests.webhooks.conftest import Open
from tests.webhooks.kit import (
    FAILURE,
    LINK,
    ON_ITS_WAY,
    SECRET,
    SUCCESS,
    TASK,
    Commands,
    Receiver,
    signed,
)

PROVIDERS = sorted(SUCCESS)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_success_settles_the_job_with_its_images(receiver: Receiver, provider: str) -> None:
    job_id = receiver.running(provider)

    answer = receiver.deliver(job_id, SUCCESS[provider], provider)

    job = receiver.job(job_id)
    assert (answer.status_code, answer.json) == (200, {"result": "settled"})
    assert (job.status, job.settled_by) == (Status.SUCCEEDED, SettledBy.CALLBACK)
    assert [image.source_url for image in job.images] == [LINK]
    assert receiver.harness.seconds_until_due(job_id) is None


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_failure_settles_the_job_with_the_providers_words(
    receiver: Receiver, provider: str
) -> None:
    job_id = receiver.running(provider)

    answer = receiver.deliver(job_id, FAILURE[provider], provider)

    job = receiver.job(job_id)
    assert answer.status_code == 200
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.message == "no"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_callback_that_comes_before_the_answer_to_the_submit_binds_and_settles(
    receiver: Receiver, provider: str
) -> None:
    job_id = receiver.submitted(provider)

    answer = receiver.deliver(job_id, SUCCESS[provider], provider)

    job = receiver.job(job_id)
    assert answer.json == {"result": "settled"}
    assert (job.status, job.attempt.task_id) == (Status.SUCCEEDED, TASK)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_duplicate_is_answered_200_and_changes_nothing(receiver: Receiver, provider: str) -> None:
    job_id = receiver.running(provider)
    receiver.deliver(job_id, SUCCESS[provider], provider)
    before = receiver.job(job_id)

    receiver.harness.clock.forward(5)
    answer = receiver.deliver(job_id, SUCCESS[provider], provider)

    assert (answer.status_code, answer.json) == (200, {"result": "duplicate"})
    assert receiver.job(job_id) == before


def test_another_outcome_after_the_first_is_recorded_and_changes_nothing(
    receiver: Receiver,
) -> None:
    job_id = receiver.running()
    receiver.deliver(job_id, SUCCESS["hiapi"])
    before = receiver.job(job_id)

    answer = receiver.deliver(job_id, FAILURE["hiapi"])

    assert (answer.status_code, answer.json) == (200, {"result": "conflict"})
    assert receiver.job(job_id) == before
    assert receiver.harness.events(job_id)[-1] == "conflict"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_task_on_its_way_is_taken_and_settles_nothing(receiver: Receiver, provider: str) -> None:
    job_id = receiver.running(provider)

    answer = receiver.deliver(job_id, ON_ITS_WAY[provider], provider)

    assert (answer.status_code, answer.json) == (200, {"result": "running"})
    assert receiver.job(job_id).status is Status.RUNNING
    assert receiver.harness.seconds_until_due(job_id) == 30.0


def test_a_task_on_its_way_tells_the_task_of_an_attempt_that_nobody_had_confirmed(
    receiver: Receiver,
) -> None:
    job_id = receiver.submitted()

    receiver.deliver(job_id, ON_ITS_WAY["hiapi"])

    job = receiver.job(job_id)
    assert (job.status, job.attempt.task_id) == (Status.RUNNING, TASK)
    assert receiver.harness.seconds_until_due(job_id) == 30.0


def test_the_right_token_with_another_task_is_a_conflict(receiver: Receiver) -> None:
    job_id = receiver.running()
    for body in (SUCCESS["hiapi"], ON_ITS_WAY["hiapi"]):
        answer = receiver.deliver(job_id, {**body, "taskId": "another-task"})
        assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")

    assert receiver.job(job_id).status is Status.RUNNING
    assert receiver.job(job_id).attempt.task_id == TASK


def test_a_callback_for_a_job_that_is_gone_is_404(receiver: Receiver) -> None:
    job_id = receiver.running()
    path = receiver.path(job_id)
    receiver.harness.redis.flushdb()

    assert receiver.send(path, SUCCESS["hiapi"]).status_code == 404


def test_a_late_success_of_an_older_attempt_settles_a_job_that_has_no_outcome(
    receiver: Receiver,
) -> None:
    harness, job_id = receiver.harness, receiver.submitted()
    harness.clock.forward(61)
    lease = harness.ledger.claim(job_id, Step.SUBMIT, now=harness.clock(), lease_ms=60_000)
    assert isinstance(lease, Lease)
    now = harness.clock()
    harness.ledger.requeue(lease, now=now, due_at=now, tries=0, event="resubmitted", detail={})
    assert harness.ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=60_000)

    failed = receiver.deliver(job_id, FAILURE["hiapi"])
    succeeded = receiver.deliver(job_id, SUCCESS["hiapi"])

    assert (failed.status_code, failed.json) == (200, {"result": "superseded"})
    assert (succeeded.status_code, succeeded.json) == (200, {"result": "settled"})


# To be confirmed -----------------------------------------------------------------------------


def test_in_confirm_mode_a_callback_asks_for_a_poll_at_once_and_settles_nothing(
    open_receiver: Open,
) -> None:
    receiver = open_receiver(HIAPI_CONFIRM_CALLBACKS="1")
    job_id = receiver.running()
    receiver.harness.nudges.sent.clear()

    answer = receiver.deliver(job_id, SUCCESS["hiapi"])

    assert (answer.status_code, answer.json) == (200, {"result": "running"})
    assert receiver.job(job_id).status is Status.RUNNING
    assert receiver.harness.seconds_until_due(job_id) == 0
    assert receiver.harness.nudges.sent == [(Step.POLL, job_id)]


@pytest.mark.parametrize("results", [[], ["data:image/png;base64,iVBORw0KGgo="]])
def test_a_failure_after_a_success_without_links_asks_for_a_poll_and_settles_nothing(
    receiver: Receiver, results: list[str]
) -> None:
    job_id = receiver.running("evolink")
    receiver.deliver(job_id, {**SUCCESS["evolink"], "results": results}, "evolink")
    receiver.harness.nudges.sent.clear()

    answer = receiver.deliver(job_id, FAILURE["evolink"], "evolink")

    assert answer.status_code == 200
    assert receiver.job(job_id).status is Status.RUNNING
    assert receiver.harness.nudges.sent == [(Step.POLL, job_id)]


def test_in_confirm_mode_a_task_on_its_way_asks_for_nothing(open_receiver: Open) -> None:
    receiver = open_receiver(HIAPI_CONFIRM_CALLBACKS="1")
    job_id = receiver.running()
    receiver.harness.nudges.sent.clear()

    receiver.deliver(job_id, ON_ITS_WAY["hiapi"])

    assert receiver.harness.seconds_until_due(job_id) == 30.0
    assert receiver.harness.nudges.sent == []


def test_in_confirm_mode_a_callback_for_a_settled_job_asks_for_nothing(
    open_receiver: Open,
) -> None:
    job_id = (first := open_receiver()).running()
    first.deliver(job_id, SUCCESS["hiapi"])

    receiver = open_receiver(HIAPI_CONFIRM_CALLBACKS="1")
    answer = receiver.deliver(job_id, SUCCESS["hiapi"])

    assert (answer.status_code, answer.json) == (200, {"result": "duplicate"})
    assert receiver.harness.nudges.sent == []


# Secrets -------------------------------------------------------------------------------------


def test_a_callback_that_was_asked_for_with_an_older_secret_is_accepted(
    open_receiver: Open,
) -> None:
    old = "the secret before this one"
    job_id = (before := open_receiver(ORCHESTRATOR_SECRET_KEY=old)).running()
    path = before.path(job_id)

    receiver = open_receiver(
        ORCHESTRATOR_SECRET_KEY="a new secret of some length", ORCHESTRATOR_SECRET_KEYS_OLD=old
    )

    assert receiver.path(job_id) != path
    assert receiver.send(path, SUCCESS["hiapi"]).status_code == 200


def test_a_signed_callback_is_accepted_where_a_secret_is_set(open_receiver: Open) -> None:
    receiver = open_receiver(HIAPI_WEBHOOK_SECRET=SECRET)
    job_id, body = receiver.running(), b'{"taskId":"task-1","status":"success","output":[]}'

    headers = signed(body, receiver.harness.clock() // 1000)

    assert receiver.send(receiver.path(job_id), body, headers=headers).status_code == 200


def test_callbacks_with_the_old_and_the_new_signature_are_accepted_while_both_are_kept(
    open_receiver: Open,
) -> None:
    old, new = "whsec_before_the_exchange", "whsec_after_the_exchange"
    job_id = (before := open_receiver(HIAPI_WEBHOOK_SECRET=old)).running()
    path, body = before.path(job_id), b'{"taskId":"task-1","status":"success","output":[]}'

    def answer(receiver: Receiver, secret: str) -> int:
        headers = signed(body, receiver.harness.clock() // 1000, secret)
        return receiver.send(path, body, headers=headers).status_code

    exchanged = open_receiver(HIAPI_WEBHOOK_SECRET=new)
    both = open_receiver(HIAPI_WEBHOOK_SECRET=new, HIAPI_WEBHOOK_SECRETS_OLD=old)

    assert [answer(exchanged, secret) for secret in (old, new)] == [401, 200]
    assert [answer(both, secret) for secret in (old, new, "whsec_of_nobody")] == [200, 200, 401]
    assert both.send(path, body).status_code == 401


def test_a_secret_for_hiapi_asks_nothing_of_evolink(open_receiver: Open) -> None:
    receiver = open_receiver(HIAPI_WEBHOOK_SECRET=SECRET)
    job_id = receiver.running("evolink")

    assert receiver.deliver(job_id, SUCCESS["evolink"], "evolink").status_code == 200


# Redis ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [SUCCESS["hiapi"], FAILURE["hiapi"], ON_ITS_WAY["hiapi"]], ids=lambda b: b["status"]
)
def test_an_accepted_callback_costs_one_redis_command(
    receiver: Receiver, body: dict[str, Any]
) -> None:
    receiver.deliver(receiver.running(), body)  # from now on Redis knows the scripts
    job_id = receiver.running()
    commands = Commands.of(receiver.harness.redis)

    receiver.deliver(job_id, body)

    assert commands.names == ["EVALSHA"]


def test_while_the_ledger_is_away_the_provider_is_told_to_deliver_again(
    open_receiver: Open,
) -> None:
    receiver = open_receiver()
    job_id, harness = receiver.running(), receiver.harness
    server = fakeredis.FakeServer()
    server.connected = False
    away = fakeredis.FakeRedis(server=server, decode_responses=True)
    parts = Receiver.on(harness.on(Ledger(lambda: away)))

    path = CallbackAddress("hiapi", job_id, 1).url(harness.runtime.settings)
    for body in (SUCCESS["hiapi"], ON_ITS_WAY["hiapi"], b"no JSON"):
        answer = parts.send(path.removeprefix("https://hooks.example.com"), body)
        assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")


def test_a_provider_that_is_switched_off_is_told_to_deliver_again(receiver: Receiver) -> None:
    job_id = receiver.running()
    path = receiver.path(job_id)

    answer = Receiver.on(receiver.harness.provider_off()).send(path, SUCCESS["hiapi"])

    assert answer.status_code == 503
    assert receiver.job(job_id).status is Status.RUNNING
