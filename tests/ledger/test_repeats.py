"""Every script may be run again with the same arguments: the state is as after the first time.

redis-py repeats a call whose connection broke, not knowing whether the first one arrived. What the
second one answers, and which event it lists again, stands in the table below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest
from redis import Redis

from orchestrator.jobs.model import FollowUpStatus, SettledBy, Step
from orchestrator.ledger import Idempotency, Ledger, keys
from orchestrator.ledger.circuit_breaker import FAILURES_TO_OPEN, MIN_FAILING_MS, PROBE_INTERVAL_MS
from tests.ledger import kit
from tests.ledger.kit import COST, DEADLINE, FAILURE, HOST, LOOK, NOW, REQUEST, SUCCESS, Wire
from tests.ledger.test_scripts import BARE, SCRIPTS


class Repeat(NamedTuple):
    """A script, run twice: first as the last one of `run`."""

    script: str
    case: str
    run: Callable[[Ledger], object]
    first: str
    second: str
    #: Listed once more by the second run.
    event: str | None = None


def create_with_key(ledger: Ledger) -> None:
    key = Idempotency("caller", "order-17")
    ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=key)


def claim_after_death(ledger: Ledger) -> None:
    dead = kit.submitting(ledger)
    kit.claim(ledger, dead.job.id, now=dead.ends_at)


def claim_to_poll(ledger: Ledger) -> None:
    kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)


def accepted_after_callback(ledger: Ledger) -> None:
    job_id = kit.submitting(ledger).job.id
    ledger.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=LOOK, cost=COST)


def observe(ledger: Ledger, look: int | None) -> None:
    job_id = kit.submitting(ledger).job.id
    ledger.observe(job_id, 1, "task-1", now=NOW, due_at=look, fallback=LOOK)


def callback(ledger: Ledger) -> None:
    job_id = kit.running(ledger)
    ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)


def late_failure(ledger: Ledger) -> None:
    job_id = kit.resubmitting(ledger).job.id
    ledger.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)


def poll(ledger: Ledger) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)
    ledger.settle(lease, FAILURE, SettledBy.POLL, now=LOOK)


def poll_in_vain(ledger: Ledger) -> None:
    kit.defer(ledger, kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK))


def follow(ledger: Ledger, step: Step) -> None:
    kit.follow(ledger, kit.ended(ledger), step)


def follow_later(ledger: Ledger, step: Step) -> None:
    kit.later(ledger, kit.follow(ledger, kit.ended(ledger), step), step)


def give_up(ledger: Ledger) -> str:
    return kit.followed(ledger, kit.ended(ledger, FAILURE), Step.NOTIFY, FollowUpStatus.DEAD)


def again(ledger: Ledger, job_id: str) -> None:
    ledger.follow_ups.notify_again(job_id, now=LOOK)


def forget(ledger: Ledger) -> None:
    ledger.overview.forget(kit.quiet(ledger), before=LOOK)


REPEATS = [
    Repeat("create", "without a key", kit.create, "created", "created"),
    Repeat("create", "with a key", create_with_key, "created", "created"),
    Repeat("claim", "queued", kit.submitting, "claimed", "claimed"),
    Repeat("claim", "lease ran out", claim_after_death, "claimed", "claimed"),
    Repeat("claim", "to poll", claim_to_poll, "claimed", "claimed"),
    Repeat("accepted", "submitting", kit.running, "running", "running", "accepted"),
    Repeat("accepted", "settled", accepted_after_callback, "settled", "settled", "accepted"),
    Repeat("requeue", "", lambda x: kit.requeue(x, kit.submitting(x)), "queued", "stale"),
    Repeat(
        "unconfirmed", "", lambda x: kit.unconfirmed(x, kit.submitting(x)), "unconfirmed", "stale"
    ),
    Repeat("defer", "", poll_in_vain, "deferred", "stale"),
    Repeat("observe", "to confirm", lambda x: observe(x, NOW), "running", "running", "callback"),
    Repeat("observe", "news", lambda x: observe(x, None), "running", "running", "callback"),
    Repeat("settle", "by callback", callback, "settled", "duplicate", "duplicate"),
    Repeat("settle", "by poll", poll, "settled", "duplicate", "duplicate"),
    Repeat("settle", "too late", late_failure, "superseded", "superseded", "superseded"),
    Repeat("cancel", "", lambda x: x.cancel(kit.create(x), now=NOW), "cancelled", "duplicate"),
    Repeat("settle", "told of", kit.ended, "settled", "duplicate", "duplicate"),
    Repeat("follow_claim", "archive", lambda x: follow(x, Step.ARCHIVE), "claimed", "claimed"),
    Repeat("follow_claim", "notify", lambda x: follow(x, Step.NOTIFY), "claimed", "claimed"),
    Repeat("follow_later", "archive", lambda x: follow_later(x, Step.ARCHIVE), "recorded", "stale"),
    Repeat("follow_later", "notify", lambda x: follow_later(x, Step.NOTIFY), "recorded", "stale"),
    Repeat("follow_done", "last of all", kit.quiet, "recorded", "stale"),
    Repeat("follow_done", "given up", give_up, "recorded", "stale"),
    Repeat(
        "notify_again",
        "given up",
        lambda x: again(x, give_up(x)),
        "recorded",
        "recorded",
        "notify_again",
    ),
    Repeat("forget", "", forget, "forgotten", "missing"),
]


#: Those whose repetition has a test of its own, below.
ELSEWHERE = {"due", "due_archive", "tidy", "host_failed", "host_probe"}


def test_every_script_is_repeated_here() -> None:
    assert ELSEWHERE == BARE
    assert {repeat.script for repeat in REPEATS} | ELSEWHERE == set(SCRIPTS)


@pytest.mark.parametrize("repeat", REPEATS, ids=lambda r: f"{r.script} {r.case}".strip())
def test_a_script_run_twice_leaves_the_state_of_the_first_time(
    wired: Ledger, wire: Wire, redis: Redis, repeat: Repeat
) -> None:
    repeat.run(wired)
    first, state, told = wire.answer, kit.everything(redis), timelines(redis)
    kept = {key: kit.lifetime(redis, key) is None for key in state}
    assert first[0] == repeat.first

    second = wire.again()

    assert second[0] == repeat.second
    if repeat.second == repeat.first:
        assert second == first
    assert kit.everything(redis) == state
    assert {key: kit.lifetime(redis, key) is None for key in state} == kept
    assert set(timelines(redis)) == set(told)
    for key, lines in timelines(redis).items():
        added = [line.split(" ")[1] for line in lines[len(told[key]) :]]
        assert lines[: len(told[key])] == told[key]
        assert added == ([repeat.event] if repeat.event else [])


LISTINGS: Mapping[str, Callable[[Ledger], object]] = {
    "due": lambda ledger: ledger.due(0, now=NOW, limit=2),
    "due_archive": lambda ledger: ledger.follow_ups.due(0, Step.ARCHIVE, now=NOW, limit=4),
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_listing_run_twice_lists_the_same(
    wired: Ledger, wire: Wire, redis: Redis, listing: str
) -> None:
    for _ in range(4):
        kit.create(wired)
        kit.ended(wired)
    LISTINGS[listing](wired)
    first, state = wire.answer, kit.everything(redis)

    assert wire.again() == first
    assert len(first) == 4
    assert kit.everything(redis) == state


def test_tidying_up_twice_forgets_nothing_more(wired: Ledger, wire: Wire, redis: Redis) -> None:
    for job_id in (kit.create(wired), give_up(wired)):
        redis.delete(keys.job(job_id), keys.events(job_id))
    kept = kit.create(wired)
    wired.overview.tidy(oldest=LOOK)
    first, state = wire.answer, kit.everything(redis)

    assert (first, wire.again()) == ([3], [0])
    assert kit.everything(redis) == state
    assert wired.overview.size() == 1
    assert kit.job(wired, kept)


def test_the_turn_to_probe_is_not_had_twice(wired: Ledger, wire: Wire, redis: Redis) -> None:
    """Whoever lost the answer loses the turn with it: the host is probed an interval later."""
    now = kit.pause(wired) + PROBE_INTERVAL_MS
    wired.circuit_breaker.probe(HOST, now=now)
    first, state = wire.answer, kit.everything(redis)

    assert (first, wire.again()) == (["probe"], ["paused"])
    assert kit.everything(redis) == state


def test_a_hosts_failure_whose_answer_was_lost_is_counted_twice_and_that_pauses_none_too_soon(
    wired: Ledger, wire: Wire
) -> None:
    """The one script that is not as after the first time, on purpose.

    One failure too many does not pause a host before MIN_FAILING_MS have passed, and a pause loses
    no notification. A token for each failure would cost more than it is worth.
    """
    for number in range(FAILURES_TO_OPEN // 2):
        wired.circuit_breaker.failed(HOST, now=NOW + number)
        wire.again()
    assert wired.circuit_breaker.failing()[HOST].failures == FAILURES_TO_OPEN
    assert wired.circuit_breaker.failing()[HOST].next_probe is None

    wired.circuit_breaker.failed(HOST, now=NOW + MIN_FAILING_MS)
    assert (wire.answer, wire.again()) == (["paused"], ["still_paused"])

    found = wired.circuit_breaker.failing()[HOST]
    assert (found.failures, found.since) == (FAILURES_TO_OPEN + 2, NOW)
    assert found.next_probe == NOW + MIN_FAILING_MS + PROBE_INTERVAL_MS, (
        "the second one does not put it off"
    )


def timelines(redis: Redis) -> dict[str, list[str]]:
    found = [key for key, kind in kit.every_key(redis).items() if kind == "list"]
    return {key: list(map(str, redis.lrange(key, 0, -1))) for key in found}
