"""A small proof that the ledger also runs on fakeredis, which stands for a Redis that is away."""

from __future__ import annotations

import fakeredis
import pytest

from orchestrator.jobs.model import FollowUpStatus, Status, Step
from orchestrator.ledger import Ledger, Result
from tests.ledger import kit
from tests.ledger.kit import NEXT_DUE, NOTIFYING, NOW, SUCCESS

pytestmark = pytest.mark.one_server


@pytest.fixture
def ledger() -> Ledger:
    client = fakeredis.FakeRedis(decode_responses=True)
    return Ledger(lambda: client)


def test_a_job_runs_from_its_creation_to_the_end_of_its_follow_ups(ledger: Ledger) -> None:
    job_id = kit.create(ledger, NOTIFYING)
    lease = kit.claim(ledger, job_id)
    assert lease.job.status is Status.SUBMITTING
    assert ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NEXT_DUE) is Result.RUNNING
    poll = kit.claim(ledger, job_id, Step.POLL, now=NEXT_DUE)
    assert ledger.defer(poll, now=NEXT_DUE, due_at=NEXT_DUE, tries=1, detail={}) is Result.DEFERRED
    settlement = ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NEXT_DUE)
    assert (settlement.result, settlement.due) == (Result.SETTLED, (Step.ARCHIVE, Step.NOTIFY))
    for step in settlement.due:
        held = kit.claim_follow_up(ledger, job_id, step, now=NEXT_DUE)
        ended = ledger.follow_ups.done(held, step, FollowUpStatus.DONE, now=NEXT_DUE, tries=1)
        assert ended is Result.RECORDED
    assert ledger.agenda.due(0, now=NEXT_DUE, limit=9) == []
    job = kit.job(ledger, ledger.overview.newest(9, below="k")[0])
    assert (job.id, job.done) == (job_id, True)


def test_a_queued_job_is_cancelled(ledger: Ledger) -> None:
    job_id = kit.create(ledger)
    assert ledger.cancel(job_id, now=NOW).result is Result.CANCELLED
    assert ledger.get(job_id) is not None
