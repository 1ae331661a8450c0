"""A paused provider: its jobs wait, say why, and come back spread over time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.jobs.model import Status, Step
from orchestrator.ledger import Ledger
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, LEASE, NOW, PAUSE_MS, REQUEST, THIN

#: The longest time over which the jobs come back. ms.
MAX_SPREAD_MS = 30_000


@pytest.mark.parametrize(("random", "spread"), [(0.0, 0), (0.5, MAX_SPREAD_MS // 2)])
def test_a_job_of_a_paused_provider_waits_and_says_why(
    ledger: Ledger, random: float, spread: int
) -> None:
    job_id = kit.create(ledger)
    kit.pause(ledger, Step.SUBMIT)

    for _ in range(2):
        assert not ledger.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=LEASE, random=random)
    job = kit.job(ledger, job_id)
    assert (job.status, job.attempts, job.refusal) == (Status.QUEUED, (), THIN)
    assert kit.event_names(ledger, job_id) == ["created", "paused"]
    due_at = NOW + PAUSE_MS + spread
    assert ledger.due(0, now=due_at - 1, limit=9) == []
    assert ledger.due(0, now=due_at, limit=9) == [(job_id, Step.SUBMIT)]
    assert kit.claim(ledger, job_id, now=due_at).job.status is Status.SUBMITTING


def test_a_pause_holds_for_one_step_of_one_provider(ledger: Ledger) -> None:
    running, other = (
        kit.running(ledger, due_at=NOW),
        kit.create(ledger, replace(REQUEST, provider="uniall")),
    )
    kit.pause(ledger, Step.SUBMIT)

    assert kit.claim(ledger, running, Step.POLL)
    assert kit.claim(ledger, other)


@pytest.mark.parametrize(("random", "part"), [(0.0, 2), (1.0, 4)])
def test_a_job_that_cannot_wait_for_the_end_is_tried_with_half_of_its_time_left(
    ledger: Ledger, random: float, part: int
) -> None:
    job_id, now = kit.create(ledger), DEADLINE - 60_000
    kit.pause(ledger, Step.SUBMIT, now=now)

    assert not ledger.claim(job_id, Step.SUBMIT, now=now, lease_ms=LEASE, random=random)
    due_at = now + 60_000 // part
    assert ledger.due(0, now=due_at - 1, limit=9) == []
    assert kit.claim(ledger, job_id, now=due_at).job.status is Status.SUBMITTING


def test_polls_wait_for_the_end_of_a_pause_or_the_deadline(ledger: Ledger) -> None:
    job_id, now = kit.running(ledger, due_at=NOW), DEADLINE - 60_000
    kit.pause(ledger, Step.POLL, now=now)

    assert not ledger.claim(job_id, Step.POLL, now=now, lease_ms=LEASE)
    assert not ledger.claim(job_id, Step.POLL, now=DEADLINE - 1, lease_ms=LEASE)
    assert kit.claim(ledger, job_id, Step.POLL, now=DEADLINE)


def test_a_job_at_its_deadline_is_claimed(ledger: Ledger) -> None:
    job_id = kit.create(ledger)
    kit.pause(ledger, Step.SUBMIT, now=DEADLINE - 1000)

    assert not ledger.claim(job_id, Step.SUBMIT, now=DEADLINE - 1, lease_ms=LEASE)
    assert kit.claim(ledger, job_id, now=DEADLINE).job.status is Status.QUEUED
