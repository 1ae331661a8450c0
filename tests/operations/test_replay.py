"""Replays of notifications: of one job, or of every dead one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog

from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.operations.replay import (
    NO_RECEIVER,
    NothingToNotify,
    failed_notifications,
    failed_page,
    notify_again,
    notify_all_again,
)
from orchestrator.steps.notify import notify
from tests.support import job_states, notify_kit
from tests.support.fakes import NOON, Answer, FakeProvider, Harness
from tests.support.notify_kit import (
    again,
    ended,
    host,
    notification,
    once,
    pause,
    redis_holds,
    url,
    wait,
)

PENDING, DONE, DEAD = FollowUpStatus.PENDING, FollowUpStatus.DONE, FollowUpStatus.DEAD


@pytest.fixture
def harness(start: Callable[..., Harness]) -> Harness:
    """A process that may notify callers on this machine."""
    return start(**notify_kit.VARIABLES)


def given_up(harness: Harness, receiver: FakeProvider) -> str:
    """Return a job with a dead notification. The clock is set back to the start."""
    began, job_id = harness.clock.now, ended(harness, receiver)
    answers, receiver.handler = receiver.handler, lambda _: Answer(400)
    while wait(harness, job_id) is not None:
        notify(harness.runtime, job_id)
        harness.clock.forward(wait(harness, job_id) or 0)
    assert notification(harness, job_id).status is DEAD
    receiver.handler = answers
    receiver.requests.clear()
    harness.clock.now = began
    return job_id


# One job --------------------------------------------------------------------------------------


def test_a_dead_notification_starts_again_with_the_same_id(
    harness: Harness, receiver: FakeProvider
) -> None:
    job_id = given_up(harness, receiver)
    harness.clock.forward(7 * 86_400)
    harness.nudges.sent.clear()

    notify_again(harness.runtime, harness.job(job_id), actor="tests")

    assert harness.nudges.sent == [(Step.NOTIFY, job_id)]
    now = notification(harness, job_id)
    assert (now.status, now.tries, now.since) == (PENDING, 0, harness.clock.now)
    assert failed_notifications(harness.runtime) == (0, [], [])
    assert wait(harness, job_id) == 0
    receiver.answers(Answer(500), Answer(200))
    assert again(harness, job_id).tries == 1
    assert wait(harness, job_id) == 5
    assert again(harness, job_id).status is DONE
    assert {request.headers["webhook-id"] for request in receiver.requests} == {f"msg_{job_id}"}


@pytest.mark.parametrize("status", [200, 410])
def test_a_delivered_or_gone_notification_is_sent_again(
    harness: Harness, receiver: FakeProvider, status: int
) -> None:
    receiver.answers(Answer(status), Answer(200))
    job_id = ended(harness, receiver)
    once(harness, job_id)
    harness.clock.forward(60)

    notify_again(harness.runtime, harness.job(job_id), actor="tests")

    assert once(harness, job_id).status is DONE
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert second.headers["webhook-timestamp"] == str(NOON // 1000 + 60)


def test_a_pending_notification_is_sent_at_once(harness: Harness, receiver: FakeProvider) -> None:
    receiver.answers(Answer(500), Answer(200))
    job_id = ended(harness, receiver)
    once(harness, job_id)

    notify_again(harness.runtime, harness.job(job_id), actor="tests")

    assert once(harness, job_id).status is DONE


def test_a_replay_resumes_the_paused_host(harness: Harness, receiver: FakeProvider) -> None:
    job_id, other = ended(harness, receiver), ended(harness, receiver)
    pause(harness, host(receiver))
    pause(harness, "other.example.com")
    assert once(harness, other).status is PENDING

    notify_again(harness.runtime, harness.job(job_id), actor="tests")

    assert list(harness.ledger.circuit_breaker.failing()) == ["other.example.com"]
    harness.clock.forward(1)
    assert once(harness, job_id).status is DONE


@pytest.mark.parametrize("way", ["notify_task", "notify_stream"])
def test_a_host_with_the_name_of_a_task_or_stream_stays_paused(harness: Harness, way: str) -> None:
    named: dict[str, Any] = {way: "shop.example.com"}
    job_id = job_states.ended(harness, **named)
    pause(harness, "shop.example.com")

    notify_again(harness.runtime, harness.job(job_id), actor="tests")

    assert list(harness.ledger.circuit_breaker.failing()) == ["shop.example.com"]


def test_the_log_line_names_only_the_host(harness: Harness, receiver: FakeProvider) -> None:
    job_id = ended(harness, receiver)

    with structlog.testing.capture_logs() as logs:
        notify_again(harness.runtime, harness.job(job_id), actor="tests")

    [line] = logs
    assert (line["event"], line["job"], line["to"]) == ("notify_again", job_id, host(receiver))
    assert redis_holds(harness, "token") == []


# Refusals ------------------------------------------------------------------------------------


def test_a_job_without_an_outcome_cannot_be_notified(
    harness: Harness, receiver: FakeProvider
) -> None:
    for job_id in (
        harness.enqueue(notify_url=url(receiver)),
        job_states.running(harness, notify_url=url(receiver)),
        job_states.running(harness),
    ):
        job = harness.job(job_id)
        with pytest.raises(NothingToNotify, match=f"it is {job.status} "):
            notify_again(harness.runtime, job, actor="tests")
        assert "notify_again" not in harness.events(job_id)


def test_a_job_without_a_target_cannot_be_notified(harness: Harness) -> None:
    job = harness.job(job_states.ended(harness))

    with pytest.raises(NothingToNotify, match="has no notify_url, notify_task or notify_stream"):
        notify_again(harness.runtime, job, actor="tests")

    assert (Step.NOTIFY, job.id) not in harness.nudges.sent


@pytest.mark.parametrize("job_id", ["job_" + "0" * 28, "nonsense"])
def test_an_expired_job_cannot_be_notified(harness: Harness, job_id: str) -> None:
    job = replace(harness.job(job_states.ended(harness, notify_stream="shop")), id=job_id)

    with pytest.raises(NothingToNotify, match="it has expired"):
        notify_again(harness.runtime, job, actor="tests")


def test_nothing_is_nudged_while_the_ledger_is_away(harness: Harness, away: Ledger) -> None:
    job = harness.job(job_states.ended(harness, notify_stream="shop"))
    harness.nudges.sent.clear()

    with pytest.raises(LedgerUnavailable):
        notify_again(harness.on(away).runtime, job, actor="tests")

    assert harness.nudges.sent == []


# Dead notifications -------------------------------------------------------------------------


def test_dead_notifications_are_listed_oldest_first_and_counted(
    harness: Harness, receiver: FakeProvider
) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(given_up(harness, receiver))
        harness.clock.forward(3600)
    job_states.ended(harness, notify_stream="shop")

    number, listed, _ = failed_notifications(harness.runtime)

    assert (number, [job.id for job in listed]) == (3, jobs)
    assert failed_notifications(harness.runtime, limit=2)[0] == 3
    assert [job.id for job in failed_notifications(harness.runtime, limit=2)[1]] == jobs[:2]


def test_pages_of_failed_notifications_are_of_one_tenant_or_of_all(
    harness: Harness, receiver: FakeProvider
) -> None:
    jobs = [given_up(harness, receiver) for _ in range(3)]
    job_states.ended(harness, notify_stream="shop")
    tenant = harness.job(jobs[0]).tenant

    first = failed_page(harness.runtime, limit=2)
    rest = failed_page(harness.runtime, limit=2, cursor=first.cursor)

    assert [job.id for job in (*first.jobs, *rest.jobs)] == sorted(jobs, reverse=True)
    assert failed_page(harness.runtime, tenant=tenant, limit=2).jobs == first.jobs
    assert failed_page(harness.runtime, tenant="other", limit=9).jobs == []


def test_chosen_notifications_are_sent_again_and_others_refused(
    harness: Harness, receiver: FakeProvider
) -> None:
    dead = given_up(harness, receiver)
    silent = job_states.ended(harness)

    result = notify_all_again(harness.runtime, map(harness.job, (silent, dead)), actor="tests")

    assert result.begun == [dead]
    assert result.refused == {silent: NO_RECEIVER}


def test_since_excludes_older_notifications(harness: Harness, receiver: FakeProvider) -> None:
    given_up(harness, receiver)
    harness.clock.forward(3600)
    second = given_up(harness, receiver)
    tried = notification(harness, second).tried_at
    assert tried is not None

    assert [job.id for job in failed_notifications(harness.runtime, since=tried)[1]] == [second]
    assert failed_notifications(harness.runtime, since=tried + 1) == (0, [], [])
    assert failed_notifications(harness.runtime, since=tried - 3600_000)[0] == 2


def test_a_new_ledger_has_no_dead_notification(harness: Harness) -> None:
    assert failed_notifications(harness.runtime) == (0, [], [])
