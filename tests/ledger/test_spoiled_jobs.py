"""A job that cannot be read, or an entry that names no job, stops no other job of its shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

import pytest
from redis import Redis
from structlog.testing import capture_logs

from orchestrator.jobs.model import FOLLOW_UPS, Status, Step
from orchestrator.ledger import Ledger, Result, keys
from orchestrator.ledger.refusals import FORMAT
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, NEXT_DUE, NOW
from tests.ledger.test_snapshots import SPOILED, rename, with_field, without_field
from tests.support.cases import for_each

Spoil = Callable[[Redis, str], None]

#: Ways to spoil a job of every status.
SPOILS: list[Spoil] = [
    *(spoil for spoil in SPOILED if spoil is not rename),
    *map(without_field, ("provider", "tenant")),
    *(with_field(name, "-") for name in ("tries", "sent.1", "format", "updated")),
    *(with_field("provider", text) for text in ("", "no name", b"\xff")),
    *(with_field("fallback", text) for text in ("", "{", "7", "[1]", "[{}]", '[{"provider":[]}]')),
]
#: Each makes a job that is due.
DUE: dict[str, Callable[[Ledger], str]] = {
    "queued": lambda ledger: kit.create(ledger, kit.MOVING),
    "submitting": lambda ledger: kit.submitting(ledger).job.id,
    "running": kit.running,
    "to follow": kit.settled,
    "to confirm": kit.confirming,
}
#: All jobs of these tests are due then, and none is past its deadline.
LATER = NEXT_DUE + 1


def spoiled(ledger: Ledger, redis: Redis, state: str, spoil: Spoil) -> str:
    """Create a job, and spoil it. Return its id."""
    job_id = DUE[state](ledger)
    redis.hsetnx(keys.job(job_id), "sent.1", NOW)  # some ways remove it
    spoil(redis, job_id)
    return job_id


@contextmanager
def step_of(job_id: str, bad: str) -> Iterator[None]:
    """Let the step of the spoiled job fail, as a worker does."""
    with suppress(Exception) if job_id == bad else nullcontext():
        yield


@pytest.mark.parametrize("state", DUE)
@for_each("spoil", SPOILS)
def test_a_sweep_lists_all_other_jobs(
    ledger: Ledger, redis: Redis, state: str, spoil: Spoil
) -> None:
    redis.flushdb()
    bad = spoiled(ledger, redis, state, spoil)
    to_follow, to_confirm = kit.settled(ledger, tenant="other"), kit.confirming(ledger)
    to_poll, to_submit = kit.running(ledger), kit.create(ledger, kit.MOVING)
    kit.pause(ledger, Step.SUBMIT, now=NOW)  # so the sweep looks at the fallbacks, too

    due = dict(ledger.agenda.due(0, now=LATER, limit=10))
    assert {to_submit: Step.SUBMIT, to_poll: Step.POLL}.items() <= due.items()
    for step in FOLLOW_UPS:
        expected = to_confirm if step is Step.CONFIRM else to_follow
        assert expected in ledger.follow_ups.due(0, step, now=LATER, limit=10)
    ledger.agenda.counts(now=LATER)
    assert redis.exists(keys.job(bad))


@for_each("spoil", SPOILS)
def test_a_spoiled_job_does_not_hold_the_only_place(
    ledger: Ledger, redis: Redis, spoil: Spoil
) -> None:
    """It is the longest overdue one, and each sweep lists one job."""
    redis.flushdb()
    bad, good = spoiled(ledger, redis, "queued", spoil), kit.create(ledger)

    for second in range(3):
        now = LATER + second * 1000
        for job_id, step in ledger.agenda.due(0, now=now, limit=1):
            with step_of(job_id, bad):
                ledger.claim(job_id, step, now=now, lease_ms=60_000)

    assert kit.job(ledger, good).status is Status.SUBMITTING


@pytest.mark.parametrize("step", [Step.ARCHIVE, Step.NOTIFY])
@for_each("spoil", SPOILS)
def test_a_follow_up_of_a_spoiled_job_does_not_hold_the_only_place(
    ledger: Ledger, redis: Redis, step: Step, spoil: Spoil
) -> None:
    redis.flushdb()
    bad, good = spoiled(ledger, redis, "to follow", spoil), kit.settled(ledger)
    claimed = set()

    for second in range(3):
        now = LATER + second * 1000
        for job_id in ledger.follow_ups.due(0, step, now=now, limit=1):
            with step_of(job_id, bad):
                claimed.add(job_id)
                ledger.follow_ups.claim(job_id, step, now=now, lease_ms=60_000)

    assert good in claimed


@for_each("spoil", [*SPOILS, with_field("format", str(FORMAT + 1))])
def test_the_turn_of_a_spoiled_job_stops_no_job_of_another_tenant(
    ledger: Ledger, redis: Redis, spoil: Spoil
) -> None:
    redis.flushdb()
    mine, bad = kit.create(ledger), kit.create(ledger, kit.MOVING, tenant="other")
    redis.hset(keys.job(bad), "sent.1", NOW)
    spoil(redis, bad)
    redis.zadd(keys.turns(0, "hiapi"), {"default": 1, "other": 0})  # the other tenant has the turn

    for now in (LATER, LATER + 1):
        with step_of(bad, bad):
            ledger.claim(mine, Step.SUBMIT, now=now, lease_ms=60_000)

    assert kit.job(ledger, mine).status is Status.SUBMITTING


def test_a_job_that_is_restored_is_due_again_within_a_minute(ledger: Ledger, redis: Redis) -> None:
    job_id = kit.create(ledger)
    backup = redis.dump(keys.job(job_id))
    redis.set(keys.job(job_id), "a text")
    with capture_logs() as logs:
        for now in (LATER, LATER + 1000):
            assert ledger.agenda.due(0, now=now, limit=10) == []
    assert [(line["event"], line["job"]) for line in logs] == [("job_left_out", job_id)]

    redis.restore(keys.job(job_id), 0, backup or b"", replace=True)

    assert ledger.agenda.due(0, now=LATER + 60_000, limit=10) == [(job_id, Step.SUBMIT)]


@for_each("spoil", SPOILS)
def test_a_spoiled_job_is_not_pruned_and_the_others_are(
    ledger: Ledger, redis: Redis, spoil: Spoil
) -> None:
    redis.flushdb()
    bad, good = spoiled(ledger, redis, "to follow", spoil), kit.finished(ledger, kit.FAILURE)

    results = {
        job_id: ledger.overview.forget(job_id, before=LATER)
        for page in ledger.overview.created_before(0, LATER)
        for job_id in page
    }

    assert results.pop(good) is Result.FORGOTTEN
    assert set(results.values()) <= {Result.KEPT, Result.MISSING}
    assert redis.exists(keys.job(bad))


def test_an_unreadable_job_is_given_back_with_tries_that_are_no_number(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.create(ledger)
    redis.hset(keys.job(job_id), mapping={"request": "{", "tries": "-"})

    with pytest.raises(Exception, match=job_id):
        ledger.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=1000)

    assert redis.hget(keys.job(job_id), "status") == Status.QUEUED


# Entries that name no job ----------------------------------------------------------------------

NO_JOB_IDS = ["", "garbage", "job with blanks", "x.y", "job_01kb5n4m0w0000000000000000zz"]


@pytest.mark.parametrize("entry", NO_JOB_IDS)
def test_an_entry_that_names_no_job_stops_nothing(ledger: Ledger, redis: Redis, entry: str) -> None:
    kit.unconfirmed(ledger, lease := kit.submitting(ledger))
    old, done = kit.finished(ledger, kit.FAILURE), kit.settled(ledger)
    queued, running = kit.create(ledger), kit.running(ledger)
    sets = [key for key in kit.every_key(redis) if redis.type(key) == "zset"]
    assert {keys.unconfirmed(0), keys.jobs(0), keys.tenant_jobs(0, "default")} <= set(sets)
    redis.zadd(keys.dead(0), {old: NOW})
    redis.zadd(keys.given_up(0), {done: DEADLINE})
    for key in [*sets, keys.dead(0), keys.given_up(0)]:
        redis.zadd(key, {entry: 0 if "jobs" in key else DEADLINE})

    _, attempts = ledger.overview.unconfirmed(10)
    assert [(each.job_id, each.attempt) for each in attempts] == [(lease.job.id, 1)]
    assert ledger.follow_ups.at_risk(10, now=LATER, before=DEADLINE, tenant="default")[1] == [done]
    assert {each.id for each in ledger.changes.jobs([entry, queued])} == {queued}
    faults = {each.job_id: each.fault for each in ledger.overview.snapshots(0) if each.fault}
    assert faults == {entry: f"{entry}: it is no job id"}
    with ledger.overview.watch_totals(0) as totals:
        assert totals()
    assert old in [each for page in ledger.overview.created_before(0, LATER) for each in page]
    ledger.overview.tidy(oldest=2 * DEADLINE)
    assert entry not in redis.zrange(keys.jobs(0), 0, -1)
    for step in FOLLOW_UPS:
        ledger.follow_ups.due(0, step, now=2 * DEADLINE, limit=10)
    assert {queued, running} <= {i for i, _ in ledger.agenda.due(0, now=2 * DEADLINE, limit=10)}
