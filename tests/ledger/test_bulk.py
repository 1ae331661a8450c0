"""Bulk actions in the ledger: previews, turns, leases and counts."""

from __future__ import annotations

from dataclasses import replace

from redis import Redis

from orchestrator.ledger import Ledger, identifiers, keys
from orchestrator.ledger import bulk as module
from orchestrator.ledger.bulk import BulkAction, BulkPart, BulkResult, BulkState
from tests.ledger import kit
from tests.ledger.kit import BULK, LEASE, NOW
from tests.ledger.recording import RecordingClient


def jobs(number: int) -> list[str]:
    return [identifiers.new_job_id(0, NOW) for _ in range(number)]


def saved(ledger: Ledger, job_ids: list[str], **changes: object) -> BulkAction:
    action = replace(BULK, id=identifiers.new_bulk_id(NOW), **changes)  # type: ignore[arg-type]
    assert ledger.bulk.save(action, job_ids) is BulkResult.SAVED
    return action


def started(ledger: Ledger, job_ids: list[str], **changes: object) -> BulkAction:
    action = saved(ledger, job_ids, **changes)
    assert kit.start_bulk(ledger, action) is BulkResult.STARTED
    return action


def claimed(ledger: Ledger, now: int = NOW) -> BulkPart:
    part = ledger.bulk.claim(now=now, lease_ms=LEASE)
    assert part
    return part


def found(ledger: Ledger, action: BulkAction) -> BulkAction:
    known = ledger.bulk.get(action.id)
    assert known
    return known


def test_a_preview_is_kept_as_it_was_saved(ledger: Ledger) -> None:
    for changes in ({}, {"tenant": None}):
        action = saved(ledger, jobs(3), **changes)

        assert ledger.bulk.get(action.id) == action
        assert action.state is BulkState.PREVIEWED
    assert ledger.bulk.claim(now=NOW, lease_ms=LEASE) is None
    assert ledger.bulk.get("bulk_\n") is None


def test_a_start_is_recorded_once_with_one_entry_in_the_audit_trail(ledger: Ledger) -> None:
    action = saved(ledger, jobs(1))

    assert kit.start_bulk(ledger, action, NOW + 1) is BulkResult.STARTED
    assert kit.start_bulk(ledger, action, NOW + 2) is BulkResult.REPLAYED

    known = found(ledger, action)
    assert (known.started_at, known.actor, known.accept_risk) == (NOW + 1, "cli:ops", True)
    [entry] = ledger.audit.entries(9)
    assert (entry.actor, entry.action, entry.target) == ("cli:ops", "bulk_retry", action.id)
    assert entry.detail == {"tenant": "shop", "jobs": "1"}
    assert (
        kit.start_bulk(ledger, replace(BULK, id=identifiers.new_bulk_id(NOW))) is BulkResult.MISSING
    )


def test_the_parts_have_every_job_once_and_in_order(ledger: Ledger, redis: Redis) -> None:
    job_ids = jobs(2 * module.PART_JOBS + 1)
    action, seen = started(ledger, job_ids), list[str]()

    for _ in range(3):
        part = claimed(ledger)
        seen += part.job_ids
        result = ledger.bulk.advance(
            part, done=len(part.job_ids) - 1, refused={"no": 1}, now=NOW + 9, due_at=NOW
        )

    assert (seen, result) == (job_ids, BulkResult.FINISHED)
    known = found(ledger, action)
    assert (known.state, known.finished_at) == (BulkState.DONE, NOW + 9)
    assert (known.done, known.refused) == (len(job_ids) - 3, {"it is queued": 1, "no": 3})
    assert ledger.bulk.claim(now=NOW, lease_ms=LEASE) is None
    assert redis.exists(keys.bulk_parts(action.id)) == 0


def test_an_action_without_jobs_is_done_when_it_starts(ledger: Ledger) -> None:
    assert found(ledger, started(ledger, [])).state is BulkState.DONE


def test_a_part_of_a_dead_worker_is_claimed_again_after_the_lease(ledger: Ledger) -> None:
    started(ledger, jobs(2))
    dead = claimed(ledger)

    assert ledger.bulk.claim(now=NOW + LEASE - 1, lease_ms=LEASE) is None
    again = claimed(ledger, NOW + LEASE)

    assert (again.job_ids, again.since) == (dead.job_ids, NOW)
    late = ledger.bulk.advance(dead, done=2, refused={}, now=NOW, due_at=NOW)
    assert late is BulkResult.STALE
    assert found(ledger, dead.action).done == 0


def test_jobs_that_are_left_come_first_when_the_wait_is_over(ledger: Ledger) -> None:
    action, later = started(ledger, jobs(3)), NOW + 60_000
    part = claimed(ledger)

    ledger.bulk.advance(
        part,
        done=1,
        refused={},
        left=part.job_ids[1:],
        now=NOW,
        due_at=later,
        waits_for="a limit",
    )

    assert found(ledger, action).waits_for == "a limit"
    assert ledger.bulk.claim(now=later - 1, lease_ms=LEASE) is None
    rest = claimed(ledger, later)
    assert (rest.job_ids, rest.since) == (part.job_ids[1:], later)
    ledger.bulk.advance(rest, done=2, refused={}, now=later, due_at=later)
    assert (found(ledger, action).done, found(ledger, action).waits_for) == (3, None)


def test_several_actions_are_taken_in_turn(ledger: Ledger) -> None:
    many = 2 * module.PART_JOBS
    ids = [started(ledger, jobs(many)).id, started(ledger, jobs(many), tenant="other").id]
    turns = []

    for now in range(NOW + 1, NOW + 5):
        part = claimed(ledger, now)
        turns.append(part.action.id)
        ledger.bulk.advance(part, done=0, refused={}, now=now, due_at=now)

    assert sorted(turns[:2]) == sorted(turns[2:]) == sorted(ids)


def test_the_oldest_previews_of_a_tenant_give_way(ledger: Ledger, redis: Redis) -> None:
    kept = saved(ledger, jobs(1), tenant="other")
    running = started(ledger, jobs(1))
    first, *others = [
        saved(ledger, jobs(1), created_at=NOW + number) for number in range(module.MAX_PREVIEWS + 1)
    ]

    assert ledger.bulk.get(first.id) is None
    assert redis.exists(keys.bulk_parts(first.id)) == 0
    assert all(ledger.bulk.get(each.id) for each in (kept, running, *others))


def test_a_tenant_has_a_most_of_running_actions(ledger: Ledger) -> None:
    actions = [started(ledger, jobs(1)) for _ in range(module.MAX_STARTED)]
    more, last = saved(ledger, jobs(1)), saved(ledger, jobs(1))

    assert kit.start_bulk(ledger, more) is BulkResult.LIMITED
    kit.advance_bulk(ledger)
    assert kit.start_bulk(ledger, more) is BulkResult.STARTED
    assert kit.start_bulk(ledger, last) is BulkResult.LIMITED
    ledger.bulk.stop(actions[-1], actor="cli:ops", now=NOW)
    assert kit.start_bulk(ledger, last) is BulkResult.STARTED
    started(ledger, jobs(1), tenant=None)


def test_an_expired_action_leaves_the_running_ones(ledger: Ledger, redis: Redis) -> None:
    lost, other = started(ledger, jobs(1)), started(ledger, jobs(1))
    redis.delete(keys.bulk(lost.id))

    assert claimed(ledger).action.id == other.id
    assert redis.zscore(keys.BULK_STARTED, lost.id) is None


def test_the_second_run_of_each_script_leaves_the_state_unchanged(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis
) -> None:
    answers = []
    for run in (
        lambda: recorded_ledger.bulk.save(BULK, jobs(1)),
        lambda: kit.start_bulk(recorded_ledger),
        lambda: recorded_ledger.bulk.claim(now=NOW, lease_ms=LEASE),
        lambda: kit.advance_bulk(recorded_ledger),
    ):
        if run.__code__.co_names[-1] == "advance_bulk":
            redis.zadd(keys.BULK_STARTED, {BULK.id: NOW})
        run()
        first, state = recorder.answer[0], kit.state(redis)
        answers.append((first, recorder.repeat()[0]))
        assert kit.state(redis) == state

    assert answers == [
        ("saved", "saved"),
        ("started", "replayed"),
        ("claimed", "not_due"),
        ("finished", "stale"),
    ]


def test_a_stopped_action_gives_no_part_and_counts_what_a_worker_did(
    ledger: Ledger, redis: Redis
) -> None:
    action = started(ledger, jobs(120))
    part = claimed(ledger)

    for result in (BulkResult.STOPPED, BulkResult.REPLAYED):
        assert ledger.bulk.stop(action, actor="cli:ops", now=NOW + 5) is result
    done = ledger.bulk.advance(part, done=7, refused={}, left=["job"], now=NOW + 6, due_at=NOW + 6)

    assert done is BulkResult.FINISHED
    assert ledger.bulk.claim(now=NOW + kit.DAY, lease_ms=LEASE) is None
    known = found(ledger, action)
    assert (known.state, known.done, known.stopped_by) == (BulkState.STOPPED, 7, "cli:ops")
    assert [e.action for e in ledger.audit.entries(9)] == ["bulk_stop", "bulk_retry"]
    assert not redis.exists(keys.bulk_parts(known.id))
    preview = saved(ledger, jobs(1))
    assert ledger.bulk.stop(preview, actor="cli:ops", now=NOW) is BulkResult.MISSING


def test_started_actions_are_listed_newest_first_of_one_tenant_or_all(ledger: Ledger) -> None:
    first = saved(ledger, jobs(1), tenant=None)
    second, _ = saved(ledger, jobs(1)), saved(ledger, jobs(1))
    kit.start_bulk(ledger, first, NOW)
    kit.start_bulk(ledger, second, NOW + 1)
    ledger.bulk.stop(first, actor="cli:ops", now=NOW + 2)

    assert [each.id for each in ledger.bulk.newest(9)] == [second.id, first.id]
    assert [each.id for each in ledger.bulk.newest(1)] == [second.id]
    assert [each.id for each in ledger.bulk.newest(9, tenant="shop")] == [second.id]
