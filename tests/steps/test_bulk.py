"""Bulk actions: every job of the preview is acted on once, also after a worker was killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.ledger.bulk import BulkAction, BulkActions, BulkKind, BulkState
from orchestrator.operations import bulk as operations
from orchestrator.operations import rerun
from orchestrator.steps import bulk as module
from orchestrator.steps.bulk import act_on_part, act_on_parts
from orchestrator.storage.storage import StorageError
from tests.support import job_states
from tests.support.fakes import TENANT, Harness, Killed, killed

CANCEL, RETRY, NOTIFY = BulkKind
STREAM = {"notify_stream": "orders"}


def started(
    harness: Harness, kind: BulkKind, *, accept_risk: bool = False, **filters: Any
) -> BulkAction:
    """Preview an action, and start it a second later."""
    action = operations.preview(harness.runtime, kind, filters, actor="ops")
    harness.clock.forward(1)
    action, _ = operations.start(harness.runtime, action, actor="ops", accept_risk=accept_risk)
    return action


def work(harness: Harness) -> None:
    """Act on every part that is due."""
    while act_on_part(harness.runtime, inf):
        pass


def now(harness: Harness, action: BulkAction) -> BulkAction:
    return operations.find(harness.runtime, action.id)


def done(harness: Harness, action: BulkAction) -> tuple[int, Mapping[str, int]]:
    """Return the number of jobs that were acted on, and the others by reason."""
    work(harness)
    known = now(harness, action)
    assert known.state is BulkState.DONE
    assert known.done + sum(known.refused.values()) == known.total
    return known.done, known.refused


def told(harness: Harness) -> str:
    """Return a job whose notification was sent."""
    job_id = job_states.ended(harness, job_states.failure(), **STREAM)
    notified(harness, job_id)
    return job_id


def notified(harness: Harness, job_id: str) -> None:
    time = harness.clock()
    lease = harness.ledger.follow_ups.claim(job_id, Step.NOTIFY, now=time, lease_ms=1000)
    assert lease
    harness.ledger.follow_ups.done(lease, Step.NOTIFY, FollowUpStatus.DONE, now=time, tries=1)


#: For each action: a job to act on, and what shows how often the action was done to it.
JOBS: Mapping[BulkKind, tuple[Callable[[Harness], str], Callable[[Harness, str], int]]] = {
    CANCEL: (Harness.enqueue, lambda harness, job_id: harness.events(job_id).count("settled")),
    RETRY: (
        job_states.refused,
        # Their requests are the same, so the queued jobs are counted.
        lambda harness, _: harness.ledger.overview.counts()["queued"],
    ),
    NOTIFY: (told, lambda harness, job_id: harness.events(job_id).count("notify_again")),
}


@pytest.mark.parametrize("kind", BulkKind)
def test_each_job_is_acted_on_once_and_the_others_are_counted(
    harness: Harness, kind: BulkKind
) -> None:
    make, times = JOBS[kind]
    job_id, other = make(harness), job_states.running(harness)
    action = started(harness, kind)

    number, refused = done(harness, action)

    assert (number, sum(refused.values()), times(harness, job_id)) == (1, 1, 1)
    assert "running" in next(iter(refused))
    assert harness.job(other).status == "running"
    assert [entry.action for entry in harness.ledger.audit.entries(9)] == [f"bulk_{kind}"]


@pytest.mark.parametrize("kind", BulkKind)
def test_a_worker_that_is_killed_before_it_records_a_part_repeats_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, kind: BulkKind
) -> None:
    make, times = JOBS[kind]
    job_ids = [make(harness) for _ in range(3)]
    action = started(harness, kind)
    with monkeypatch.context() as patch:
        patch.setattr(BulkActions, "advance", killed)
        with pytest.raises(Killed):
            work(harness)
    if kind is NOTIFY:
        for job_id in job_ids:
            notified(harness, job_id)

    work(harness)
    assert now(harness, action).done == 0, "the lease of the dead worker holds"
    harness.clock.forward(module.LEASE_MS / 1000)

    assert done(harness, action) == (3, {})
    number = len(job_ids) if kind is RETRY else 1  # their requests are the same
    assert {times(harness, job_id) for job_id in job_ids} == {number}


def test_a_worker_that_is_killed_between_jobs_leaves_the_rest_to_another(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_ids = [job_states.refused(harness) for _ in range(4)]
    action, left = started(harness, RETRY), [0, 1]
    retry = rerun.retry_unaudited

    def second_dies(*args: Any, **options: Any) -> Any:
        if not left:
            raise Killed
        left.pop()
        return retry(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "retry_unaudited", second_dies)
        with pytest.raises(Killed):
            work(harness)
    assert harness.ledger.overview.size() == len(job_ids) + 2
    harness.clock.forward(module.LEASE_MS / 1000)

    assert done(harness, action) == (4, {})
    assert harness.ledger.overview.size() == 2 * len(job_ids)


def test_only_the_jobs_of_the_preview_are_acted_on(harness: Harness) -> None:
    queued, submitting = harness.enqueue(), job_states.submitting(harness)
    changed = harness.enqueue()
    preview = operations.preview(harness.runtime, CANCEL, {}, actor="ops")
    job_states.claimed(harness, changed)
    time = harness.clock()
    harness.ledger.requeue(submitting, now=time, due_at=time, tries=1, event="refused", detail={})
    newer = harness.enqueue()

    action, _ = operations.start(harness.runtime, preview, actor="ops", accept_risk=False)

    sentence = "it is submitting; only a queued job can be cancelled"
    assert done(harness, action) == (1, {sentence: 2})
    assert harness.job(queued).status == "cancelled"
    assert harness.job(newer).status == harness.job(submitting.job.id).status == "queued"


def test_a_job_that_somebody_else_treated_before_is_refused(harness: Harness) -> None:
    job_id = harness.enqueue()
    action = operations.preview(harness.runtime, CANCEL, {}, actor="ops")
    harness.ledger.cancel(job_id, now=harness.clock())
    harness.clock.forward(1)
    action, _ = operations.start(harness.runtime, action, actor="ops", accept_risk=False)
    assert done(harness, action)[0] == 0

    again = started(harness, RETRY)
    assert done(harness, again) == (1, {})
    harness.clock.forward(1)
    _, refused = done(harness, started(harness, RETRY, status="cancelled"))
    assert refused == {rerun.RETRIED: 1}
    harness.ledger.overview.forget(job_id, before=harness.clock() + 1)


@pytest.mark.parametrize("accept_risk", [False, True])
def test_a_job_that_may_have_been_charged_is_retried_with_consent_only(
    harness: Harness, accept_risk: bool
) -> None:
    job_states.given_up(harness)
    action = started(harness, RETRY, accept_risk=accept_risk)

    number, refused = done(harness, action)

    assert (number, bool(refused)) == (int(accept_risk), not accept_risk)
    assert all("may pay twice" in reason for reason in refused)


def test_an_action_waits_for_a_limit_of_the_tenant(harness: Harness) -> None:
    for _ in range(3):
        job_states.refused(harness)
    harness.ledger.access.set_tenant(TENANT, {"max_open": "2"})
    action = started(harness, RETRY)

    work(harness)
    known = now(harness, action)
    assert (known.done, known.state) == (2, BulkState.RUNNING)
    assert "max_open" in (known.waits_for or "")

    harness.ledger.access.set_tenant(TENANT, {"max_open": None})
    harness.clock.forward(module.MAX_LIMIT_WAIT_MS / 1000)
    assert done(harness, action) == (3, {})
    assert now(harness, action).waits_for is None


def test_a_retry_of_a_forgotten_job_waits_for_the_history(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = job_states.refused(harness)
    action, job = started(harness, RETRY), harness.job(job_id)

    def away(*_: object) -> None:
        raise HistoryUnavailable("away")

    monkeypatch.setattr(module, "find_job", away)
    work(harness)
    assert "history" in (now(harness, action).waits_for or "")
    monkeypatch.setattr(module, "find_job", lambda *_: job)
    harness.clock.forward(module.AWAY_WAIT_MS / 1000)

    assert done(harness, action) == (1, {})


def test_a_retry_waits_for_the_archive_that_has_its_image(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_states.refused(harness)
    action = started(harness, RETRY)

    def away(*_: object) -> None:
        raise StorageError("away")

    with monkeypatch.context() as patch:
        patch.setattr(rerun, "kept_references", away)
        work(harness)
        assert "archive" in (now(harness, action).waits_for or "")
    harness.clock.forward(module.AWAY_WAIT_MS / 1000)

    assert done(harness, action) == (1, {})


def test_a_part_that_was_interrupted_for_a_day_pays_for_nothing_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_states.refused(harness)
    action = started(harness, RETRY)
    with monkeypatch.context() as patch:
        patch.setattr(BulkActions, "advance", killed)
        with pytest.raises(Killed):
            work(harness)
    harness.clock.forward(86_400)

    assert done(harness, action) == (0, {module.INTERRUPTED: 1})
    assert harness.ledger.overview.size() == 2


def test_a_job_that_breaks_the_step_does_not_stop_the_others(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = job_states.refused(harness)
    job_states.refused(harness)
    retry = rerun.retry_unaudited

    def breaks(runtime: Any, job: Any, **options: Any) -> Any:
        if job.id == broken:
            raise KeyError("a fault of ours")
        return retry(runtime, job, **options)

    monkeypatch.setattr(module, "retry_unaudited", breaks)
    assert done(harness, started(harness, RETRY)) == (1, {module.OUR_ERROR: 1})


@pytest.mark.parametrize("kind", BulkKind)
def test_a_job_that_cannot_be_read_any_more_does_not_stop_the_others(
    harness: Harness, kind: BulkKind
) -> None:
    made: Mapping[BulkKind, Callable[[Harness], str]] = {
        CANCEL: Harness.enqueue,
        RETRY: job_states.refused,
        NOTIFY: told,
    }
    jobs = [made[kind](harness) for _ in range(2)]
    action = started(harness, kind)
    job_states.make_unreadable(harness, jobs[0], {"created": "yesterday"})

    number, refused = done(harness, action)

    assert number + sum(refused.values()) == 2
    assert kind is CANCEL or refused == {operations.UNREADABLE: 1}


def test_a_request_that_is_not_accepted_any_more_is_counted(harness: Harness) -> None:
    job_states.refused(harness)
    action = started(harness, RETRY)

    assert done(harness.provider_off(), action) == (0, {module.NOT_ACCEPTED: 1})


def test_notifications_wait_behind_those_that_are_due(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(harness)
    job_states.ended(harness, job_states.failure(), **STREAM)
    action = started(harness, NOTIFY, status="failed")
    with monkeypatch.context() as patch:
        patch.setattr(module, "MAX_DUE_NOTIFICATIONS", 0)
        work(harness)
        assert now(harness, action).waits_for == "1 notifications that are due"
    harness.clock.forward(module.NOTIFY_WAIT_MS / 1000)

    assert done(harness, action) == (2, {})


def test_a_worker_that_stops_records_what_it_did(harness: Harness) -> None:
    for _ in range(3):
        harness.enqueue()
    action = started(harness, CANCEL)
    stops = iter([False, False, True])

    act_on_part(harness.runtime, inf, lambda: next(stops))

    assert now(harness, action).done == 2
    assert act_on_parts(harness.runtime, lambda: True) == 0
    assert done(harness, action) == (3, {})


def test_a_turn_ends_in_time_and_leaves_the_rest(harness: Harness) -> None:
    for _ in range(3):
        harness.enqueue()
    action = started(harness, CANCEL)

    assert act_on_part(harness.runtime, ends=0)

    assert now(harness, action).done == 1


def test_while_redis_is_away_nothing_is_lost(harness: Harness, monkeypatch: Any) -> None:
    harness.enqueue()
    action = started(harness, CANCEL)

    def away(*_: object, **__: object) -> None:
        raise LedgerUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "cancel", away)
        with pytest.raises(LedgerUnavailable):
            work(harness)
    harness.clock.forward(module.LEASE_MS / 1000)

    assert done(harness, action) == (1, {})


def test_a_clock_behind_the_one_that_started_an_action_does_not_begin_it(harness: Harness) -> None:
    harness.enqueue()
    action = started(harness, CANCEL)
    behind = replace(harness.runtime, clock=lambda: harness.clock() - 1)

    assert not act_on_part(behind, inf)
    assert done(harness, action) == (1, {})
