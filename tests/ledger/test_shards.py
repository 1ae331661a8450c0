"""Shards: a job id contains its shard, and all keys of a job are in that shard."""

from __future__ import annotations

from typing import cast

import pytest
from redis import Redis
from redis.crc import key_slot

from orchestrator.jobs.model import SettledBy, Step
from orchestrator.ledger import Idempotency, Ledger, Result, identifiers, keys
from orchestrator.ledger.script import Script
from orchestrator.ledger.task_owners import CLAIM_MS
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, NEXT_DUE, NOW, REQUEST, SUCCESS
from tests.ledger.recording import RecordingClient
from tests.support.cases import for_each


@pytest.fixture
def sharded(recorder: RecordingClient) -> Ledger:
    return Ledger(lambda: cast(Redis, recorder), shards=3)


def test_jobs_are_spread_over_all_shards_and_their_ids_contain_the_shard(
    sharded: Ledger, redis: Redis
) -> None:
    ids = [kit.create(sharded) for _ in range(60)]

    assert {identifiers.shard_of(job_id) for job_id in ids} == {0, 1, 2}
    for job_id in ids:
        shard = identifiers.shard_of(job_id)
        assert job_id.endswith(f"{shard:02x}")
        assert redis.exists(f"{{orch:{shard}}}:job:{job_id}")
        assert redis.zscore(f"{{orch:{shard}}}:agenda", job_id) == NOW


def test_each_shard_has_its_own_agenda(sharded: Ledger) -> None:
    ids = [kit.create(sharded) for _ in range(30)]

    for shard in range(3):
        due = [job_id for job_id, _ in sharded.agenda.due(shard, now=NOW, limit=100)]
        assert sorted(due) == sorted(i for i in ids if identifiers.shard_of(i) == shard)


def test_every_transition_works_in_every_shard(sharded: Ledger, redis: Redis) -> None:
    ids = {
        identifiers.shard_of(job_id): job_id for job_id in (kit.create(sharded) for _ in range(60))
    }

    for shard, job_id in ids.items():
        kit.claim(sharded, job_id)
        task_id = f"task-{shard}"
        sharded.accepted(job_id, 1, task_id, now=NOW, due_at=NEXT_DUE)
        assert sharded.agenda.due(shard, now=NEXT_DUE, limit=100)[-1] == (job_id, Step.POLL)
        result = sharded.settle_attempt(job_id, 1, task_id, SUCCESS, now=NOW).result
        assert result is Result.SETTLED
        assert [e.name for e in sharded.events(job_id)][-1] == "settled"
        kit.check_job(redis, job_id)
        assert sharded.follow_ups.due(shard, Step.ARCHIVE, now=NOW, limit=9) == [job_id]
        kit.finish_follow_up(sharded, job_id, Step.ARCHIVE)
        kit.check_job(redis, job_id)
        assert sharded.overview.forget(job_id, before=NEXT_DUE) is Result.FORGOTTEN
        assert not [key for key in kit.every_key(redis) if job_id in key]


def test_an_idempotency_key_always_has_the_same_shard(
    sharded: Ledger, recorder: RecordingClient
) -> None:
    def create(ledger: Ledger, key: str) -> str:
        idempotency = Idempotency("caller", key)
        return ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=idempotency).job_id

    first = {key: create(sharded, key) for key in map(str, range(30))}
    other_process = Ledger(lambda: cast(Redis, recorder), shards=3)

    assert {key: create(other_process, key) for key in first} == first
    assert {identifiers.shard_of(job_id) for job_id in first.values()} == {0, 1, 2}


def test_a_script_uses_keys_of_one_cluster_slot(sharded: Ledger, recorder: RecordingClient) -> None:
    for number in range(10):
        sharded.create(
            REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=Idempotency("a", str(number))
        )
        lease = kit.resubmitting(sharded)
        kit.unconfirmed(sharded, lease, due_at=NOW)
        sharded.observe(lease.job.id, 2, f"task-{number}-2", now=NOW, due_at=NOW, fallback=NOW)
        poll = kit.claim(sharded, lease.job.id, Step.POLL)
        kit.defer(sharded, poll)
        sharded.settle(poll, FAILURE, SettledBy.POLL, now=NOW)
        sharded.cancel(kit.create(sharded), now=NOW)
        kit.running(sharded)
        sharded.agenda.due(number % 3, now=NOW, limit=10)
        sharded.follow_ups.due(number % 3, Step.ARCHIVE, now=NOW, limit=10)
        kit.retry_follow_up(
            sharded,
            kit.claim_follow_up(sharded, job_id := kit.settled(sharded), Step.NOTIFY),
            Step.NOTIFY,
        )
        sharded.follow_ups.notify_again(job_id, now=NOW)
        sharded.overview.forget(kit.finished(sharded), before=NEXT_DUE)
        sharded.overview.tidy(oldest=NOW)

    for _, count, *rest in recorder.calls:
        used = rest[:count]
        if used[0].endswith(":jobs"):  # so does tidy
            used.append(f"{rest[-2]}job_x")
        assert len({key_slot(key.encode()) for key in used}) == 1, used


def test_the_highest_shard_fits_into_an_id() -> None:
    job_id = identifiers.new_job_id(identifiers.MAX_SHARDS - 1, NOW)

    assert identifiers.is_job_id(job_id)
    assert identifiers.shard_of(job_id) == identifiers.MAX_SHARDS - 1
    assert keys.job(job_id).startswith("{orch:255}:job:job_")


def test_ids_are_unique_and_sort_by_their_creation_time() -> None:
    early = identifiers.new_job_id(200, NOW)

    assert identifiers.new_job_id(0, NOW + 1) > early
    assert identifiers.created_at(early) == NOW
    assert len({identifiers.new_job_id(0, NOW) for _ in range(1000)}) == 1000


@for_each(
    "text",
    [
        "",
        "job_",
        "nonsense",
        "job_01jd00000000000000000000000",
        "job_01jd000000000000000000000000 ",
        "job_01jd000000000000000000000000\n",
        "JOB_01JD000000000000000000000000",
        "job_01jd0000000000000000000000zz",
        "job_01jd00000000000000000000i000",
        "job_01jd0000000000000000000000\u0660\u0660",
        "*",
    ],
)
def test_text_that_is_no_job_id_sends_no_command(text: str) -> None:
    def connect() -> Redis:
        raise AssertionError("a command was sent")

    ledger = Ledger(connect)

    assert not identifiers.is_job_id(text)
    assert ledger.get(text) is None
    assert ledger.events(text) == []
    assert ledger.outcomes.wait(text, 1) is None
    assert ledger.cancel(text, now=NOW).result is Result.MISSING


def test_an_unused_job_id_is_unknown(ledger: Ledger) -> None:
    job_id = identifiers.new_job_id(0, NOW)

    assert ledger.get(job_id) is None
    assert ledger.events(job_id) == []
    assert ledger.outcomes.wait(job_id, 1) is None
    assert ledger.cancel(job_id, now=NOW).result is Result.MISSING


# Provider tasks of several shards ------------------------------------------------------------


def submitted(ledger: Ledger) -> list[str]:
    """A submitted job in each shard."""
    ids = {
        identifiers.shard_of(job_id): job_id for job_id in (kit.create(ledger) for _ in range(60))
    }
    for job_id in ids.values():
        kit.claim(ledger, job_id)
    return [ids[shard] for shard in sorted(ids)]


def test_a_task_is_bound_to_one_job_of_all_shards(sharded: Ledger) -> None:
    first, second, third = submitted(sharded)

    assert sharded.accepted(first, 1, "task-1", now=NOW, due_at=NEXT_DUE) is Result.RUNNING
    again = [
        sharded.accepted(second, 1, "task-1", now=NOW, due_at=NEXT_DUE),
        sharded.settle_attempt(third, 1, "task-1", SUCCESS, now=NOW).result,
        sharded.observe(third, 1, "task-1", now=NOW, due_at=None, fallback=NOW).result,
    ]

    assert again == [Result.MISMATCH] * 3
    assert [kit.job(sharded, i).attempt.task_id for i in (second, third)] == [None, None]
    assert sharded.accepted(first, 1, "task-1", now=NOW, due_at=NEXT_DUE) is Result.RUNNING
    assert sharded.settle_attempt(first, 1, "task-1", SUCCESS, now=NOW).result is Result.SETTLED


def test_a_task_that_is_not_bound_in_the_end_is_free_for_its_job(sharded: Ledger) -> None:
    first, second, _ = submitted(sharded)
    sharded.accepted(first, 1, "task-1", now=NOW, due_at=NEXT_DUE)

    assert sharded.settle_attempt(first, 1, "task-2", SUCCESS, now=NOW).result is Result.MISMATCH

    assert sharded.accepted(second, 1, "task-2", now=NOW, due_at=NEXT_DUE) is Result.RUNNING


def test_a_process_that_dies_between_claim_and_binding_binds_later(
    sharded: Ledger, redis: Redis
) -> None:
    first, second, _ = submitted(sharded)
    redis.set(keys.task_owner("hiapi", "task-1"), first)  # the claim of the dead process

    assert sharded.accepted(second, 1, "task-1", now=NOW, due_at=NEXT_DUE) is Result.MISMATCH
    assert sharded.accepted(first, 1, "task-1", now=NOW, due_at=NEXT_DUE) is Result.RUNNING


def test_a_process_that_dies_before_a_refusal_blocks_the_task_for_a_short_time(
    sharded: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, _ = submitted(sharded)
    owner = keys.task_owner("hiapi", "task-1")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Script, "run", die)
        with pytest.raises(KeyboardInterrupt):
            sharded.accepted(first, 1, "task-1", now=NOW, due_at=NEXT_DUE)
    assert 0 < redis.pttl(owner) <= CLAIM_MS

    sharded.accepted(first, 1, "task-1", now=NOW, due_at=NEXT_DUE)
    assert redis.pttl(owner) > CLAIM_MS
