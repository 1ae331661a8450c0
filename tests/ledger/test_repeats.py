"""Every script may be run again with the same arguments: the state is as after the first time.

redis-py repeats a call whose connection broke, not knowing whether the first one arrived. What the
second one answers, and which event it lists again, stands in the table below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from redis import Redis

from orchestrator.jobs import SettledBy, Step
from orchestrator.ledger import Idempotency, Ledger
from tests.ledger import kit
from tests.ledger.kit import COST, DEADLINE, FAILURE, LOOK, NOW, REQUEST, SUCCESS, Wire
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
    ledger.accepted(job_id, 1, "task-1", now=NOW, next_look=LOOK, cost=COST)


def observe(ledger: Ledger, look: int | None) -> None:
    job_id = kit.submitting(ledger).job.id
    ledger.observe(job_id, 1, "task-1", now=NOW, next_look=look, fallback=LOOK)


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


def due(ledger: Ledger) -> None:
    kit.create(ledger)
    ledger.due(0, now=NOW, limit=1)


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
]


def test_every_script_is_repeated_here() -> None:
    assert {repeat.script for repeat in REPEATS} | BARE == set(SCRIPTS)


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
    for key, lines in timelines(redis).items():
        added = [line.split(" ")[1] for line in lines[len(told[key]) :]]
        assert lines[: len(told[key])] == told[key]
        assert added == ([repeat.event] if repeat.event else [])


def test_a_listing_run_twice_lists_the_same(wired: Ledger, wire: Wire, redis: Redis) -> None:
    due(wired)
    first, state = wire.answer, kit.everything(redis)

    assert wire.again() == first
    assert len(first) == 2
    assert kit.everything(redis) == state


def timelines(redis: Redis) -> dict[str, list[str]]:
    found = [key for key, kind in kit.every_key(redis).items() if kind == "list"]
    return {key: list(map(str, redis.lrange(key, 0, -1))) for key in found}
