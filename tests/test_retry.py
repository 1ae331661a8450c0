"""Trying a job again: a new job from the same request, once, and never paid for unawares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.enqueue import place
from orchestrator.jobs import Attempt, ErrorCode, Job, SettledBy, Status, Step
from orchestrator.retry import MayBePaid, NotRetryable, may_be_paid, retry
from orchestrator.uploads import ImageFile
from orchestrator.validation import InvalidRequest
from tests import lives
from tests.fakes import REQUESTS, World
from tests.test_uploads import PNG


def again(world: World, job_id: str, **options: Any) -> Job:
    return retry(world.runtime, world.job(job_id), caller="tests", **options).job


def overdue(world: World) -> str:
    """A job that its provider took, and told nothing of until the deadline."""
    return lives.ended(world, lives.failure(ErrorCode.DEADLINE_EXCEEDED))


def bought_twice(world: World) -> str:
    """A job whose second attempt was refused, after a first one of unknown fate."""
    lease = lives.resubmitted(world)
    now = world.clock.now
    world.ledger.settle(lease, lives.failure(), SettledBy.SUBMIT, now=now)
    return lease.job.id


@pytest.mark.parametrize(
    "life", [lives.refused, lives.cancelled, lambda w: lives.ended(w, lives.failure())]
)
def test_a_job_that_failed_or_was_cancelled_becomes_a_new_job(
    world: World, life: Callable[[World], str]
) -> None:
    job_id = life(world)
    world.clock.forward(60)
    world.nudges.sent.clear()

    new = again(world, job_id)

    assert new.id != job_id
    assert new == world.job(new.id)
    assert (new.status, new.request) == (Status.QUEUED, world.job(job_id).request)
    assert new.created_at == world.clock.now
    assert new.deadline_at == world.clock.now + 3_600_000
    assert world.nudges.sent == [(Step.SUBMIT, new.id)]


# Refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life", "why"),
    [
        (World.enqueue, "it is queued: it still reaches its outcome"),
        (lambda w: lives.submitting(w).job.id, "it is submitting: it still reaches its outcome"),
        (lives.unconfirmed, "it is unconfirmed: it still reaches its outcome"),
        (lives.running, "it is running: it still reaches its outcome"),
        (lives.ended, "it succeeded: for more images, enqueue another job"),
    ],
)
@pytest.mark.parametrize("accept_risk", [False, True])
def test_a_job_that_is_not_over_or_succeeded_is_not_retried(
    world: World, life: Callable[[World], str], why: str, accept_risk: bool
) -> None:
    job_id = life(world)

    with pytest.raises(NotRetryable, match=f"^{why}$") as refused:
        again(world, job_id, accept_risk=accept_risk)

    assert not isinstance(refused.value, MayBePaid)
    assert world.ledger.overview.size() == 1


@pytest.mark.parametrize("life", [lives.given_up, overdue, bought_twice])
def test_a_job_that_may_be_paid_is_retried_only_by_who_accepts_the_risk(
    world: World, life: Callable[[World], str]
) -> None:
    job_id = life(world)

    with pytest.raises(MayBePaid, match="a retry may pay twice"):
        again(world, job_id)
    assert world.ledger.overview.size() == 1

    assert again(world, job_id, accept_risk=True).status is Status.QUEUED


def test_an_uploaded_file_is_not_there_any_more(world: World) -> None:
    request = {"provider": "uniall", "model": "NanoBanana", "prompt": "On a beach"}
    file = ImageFile("teal.png", PNG)
    job_id = place(world.runtime, request, scope="tests", file=file).job.id
    world.ledger.cancel(job_id, now=world.clock.now)

    with pytest.raises(NotRetryable, match="enqueue it again, with the file"):
        again(world, job_id, accept_risk=True)


def test_a_provider_that_was_switched_off_is_refused_and_nothing_is_stored(world: World) -> None:
    job_id = lives.refused(world)

    with pytest.raises(InvalidRequest, match="HIAPI_API_KEY"):
        again(world.provider_off(), job_id)

    assert world.ledger.overview.size() == 1


# Whether it may be paid --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "task", "resubmitted", "paid"),
    [
        (ErrorCode.CONTENT_POLICY, "task-1", False, False),
        (ErrorCode.CONTENT_POLICY, "task-1", True, True),
        (ErrorCode.DEADLINE_EXCEEDED, None, False, False),
        (ErrorCode.DEADLINE_EXCEEDED, "task-1", False, True),
        (ErrorCode.SUBMISSION_UNCONFIRMED, None, False, True),
        (ErrorCode.CANCELLED, None, True, True),
    ],
)
def test_what_may_be_paid(
    world: World, code: ErrorCode, task: str | None, resubmitted: bool, paid: bool
) -> None:
    job = replace(
        world.job(lives.refused(world)),
        error=lives.failure(code).error,
        attempts=(Attempt(1, world.clock.now, task), Attempt(2, world.clock.now)),
        resubmitted=resubmitted,
    )

    assert may_be_paid(job) is paid


# Once --------------------------------------------------------------------------------------


def test_a_second_retry_gives_the_same_job_whoever_asks(world: World) -> None:
    job_id = lives.refused(world)

    first = retry(world.runtime, world.job(job_id), caller="api:one")
    second = retry(world.runtime, world.job(job_id), caller="cli")

    assert (first.replayed, second.replayed) == (False, True)
    assert second.job.id == first.job.id
    assert world.ledger.overview.size() == 2


def test_a_callers_own_idempotency_key_cannot_stand_in_for_a_retry(world: World) -> None:
    job_id = lives.refused(world)
    other = place(world.runtime, REQUESTS["evolink"], scope="api:tests", key=job_id).job

    assert again(world, job_id).id != other.id


def test_a_retry_that_failed_can_be_retried_itself(world: World) -> None:
    first = lives.refused(world)
    second = again(world, first)
    world.ledger.cancel(second.id, now=world.clock.now)

    third = again(world, second.id)

    assert third.id not in (first, second.id)
    assert third.request == second.request


# What is carried over ----------------------------------------------------------------------

ASKED: dict[str, dict[str, Any]] = {
    "every unified field": {
        "provider": "hiapi",
        "model": "Nano-Banana-2",
        "prompt": "  A red cube\n",
        "images": ["https://images.example/a.png"],
        "aspect_ratio": "16:9",
        "resolution": "2K",
        "output_format": "png",
        "n": 1,
    },
    "a family": {"provider": "uniall", "model": "nano-banana-2", "prompt": "x", "resolution": "2K"},
    "provider_options": {
        "provider": "uniall",
        "model": "gpt-image-2",
        "prompt": "x",
        "provider_options": {"size": "2560x1440", "quality": "high"},
    },
    "native": {
        "provider": "evolink",
        "model": "nano-banana-2-lite",
        "request": {"model": "nano-banana-2-lite", "prompt": "x", "size": "16:9"},
    },
    "all the rest": {
        **REQUESTS["hiapi"],
        "metadata": {"order": [1, {"two": None}]},
        "deadline_seconds": 90.5,
        "on_unconfirmed": "resubmit",
    },
}


@pytest.mark.parametrize("name", ASKED)
def test_the_whole_request_is_carried_over(world: World, name: str) -> None:
    job_id = place(world.runtime, ASKED[name], scope="tests").job.id
    world.ledger.cancel(job_id, now=world.clock.now)

    new = world.job(again(world, job_id).id)

    assert new.request == world.job(job_id).request
    assert new.deadline_at - new.created_at == ASKED[name].get("deadline_seconds", 3600) * 1000
