"""A provider that is paused for polls: its jobs wait, say why, and come back spread over time."""

from __future__ import annotations

import pytest

from orchestrator.jobs.model import Status, Step
from orchestrator.ledger import Ledger
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, LEASE, NOW, PAUSE_MS, THIN

#: The longest time over which the jobs come back. ms.
MAX_SPREAD_MS = 30_000


@pytest.mark.parametrize(("random", "spread"), [(0.0, 0), (0.5, MAX_SPREAD_MS // 2)])
def test_a_poll_of_a_paused_provider_waits_and_says_why(
    ledger: Ledger, random: float, spread: int
) -> None:
    job_id = kit.running(ledger, due_at=NOW)
    kit.pause(ledger, Step.POLL)

    for _ in range(2):
        assert ledger.claim(job_id, Step.POLL, now=NOW, lease_ms=LEASE, random=random) is None
    job = kit.job(ledger, job_id)
    assert (job.status, job.refusal) == (Status.RUNNING, THIN)
    assert kit.event_names(ledger, job_id)[-1] == "paused"
    due_at = NOW + PAUSE_MS + spread
    assert ledger.agenda.due(0, now=due_at - 1, limit=9) == []
    assert ledger.agenda.due(0, now=due_at, limit=9) == [(job_id, Step.POLL)]
    assert kit.claim(ledger, job_id, Step.POLL, now=due_at)


def test_a_pause_of_polls_holds_for_polls_of_one_provider(ledger: Ledger) -> None:
    running = kit.running(ledger, due_at=NOW)
    kit.pause(ledger, Step.POLL, provider="evolink")
    kit.pause(ledger, Step.SUBMIT)

    assert kit.claim(ledger, running, Step.POLL)


def test_a_poll_at_the_deadline_is_claimed(ledger: Ledger) -> None:
    job_id = kit.running(ledger, due_at=NOW)
    kit.pause(ledger, Step.POLL, now=DEADLINE - 1000)

    assert ledger.claim(job_id, Step.POLL, now=DEADLINE - 1, lease_ms=LEASE) is None
    assert ledger.agenda.due(0, now=DEADLINE, limit=9) == [(job_id, Step.POLL)]
    assert kit.claim(ledger, job_id, Step.POLL, now=DEADLINE)
