"""The state of an installation in figures."""

from __future__ import annotations

import pytest

from orchestrator.jobs import FollowUpStatus, Image, Outcome, Status, Step
from orchestrator.ledger import Ledger, keys
from orchestrator.ledger.hosts import ENOUGH, LONG, PROBE_EVERY
from orchestrator.reconcile import reconcile
from orchestrator.stats import CONTRADICTIONS, RISK_HOURS, stats
from tests import lives
from tests.fakes import World
from tests.ledger.kit import RECORDED

#: A follow-up that nothing waits for, and that never ended.
NONE = {
    "pending": 0,
    "due": 0,
    "lag_seconds": 0,
    "ended": {"done": 0, "dead": 0, "gone": 0},
}


def ending(world: World, step: Step, job_id: str, how: FollowUpStatus) -> None:
    now = world.clock.now
    lease = world.ledger.follow_ups.claim(job_id, step, now=now, lease_ms=1000)
    assert lease is not None
    world.ledger.follow_ups.done(lease, step, how, now=now, tries=1)


def dying(world: World, hours: float | None) -> str:
    """A job whose image's link dies then, or does not say when; its id."""
    dies = None if hours is None else world.clock.now + int(hours * 3_600_000)
    return lives.ended(world, Outcome.succeeded((Image("https://e.example/0.png", dies),)))


def test_an_empty_installation_has_only_noughts(world: World) -> None:
    assert stats(world.runtime) == {
        "jobs": dict.fromkeys(Status, 0),
        "agenda": {"open": 0, "due": 0, "lag_seconds": 0},
        "contradictions": dict.fromkeys(CONTRADICTIONS, 0),
        "unconfirmed": {"attempts": 0, "money_at_risk": {"amounts": [], "unpriced": 0}},
        "archive": {**NONE, "at_risk": 0, "at_risk_hours": RISK_HOURS},
        "notifications": {**NONE, "dead": 0, "paused_hosts": []},
        "last_sweep_seconds_ago": None,
    }


def test_every_contradiction_that_the_ledger_counts_is_shown() -> None:
    assert set(CONTRADICTIONS) == RECORDED


@pytest.mark.parametrize("shards", [1, 3])
def test_figures_of_a_busy_installation(world: World, shards: int) -> None:
    busy = world.on(Ledger(lambda: world.redis, shards=shards))
    busy.enqueue()
    lives.submitting(busy)
    lives.unconfirmed(busy)
    running = lives.running(busy)
    lives.ended(busy)
    lives.given_up(busy)
    lives.cancelled(busy)
    task = lives.task_of(running)
    for named in ("other", task, task, task):
        busy.ledger.settle_attempt(running, 1, named, lives.SUCCESS, now=busy.clock.now)
    busy.ledger.settle_attempt(running, 1, task, lives.failure(), now=busy.clock.now)
    busy.clock.forward(2.5)

    told = stats(busy.runtime)

    assert told["jobs"] == {
        **dict.fromkeys(Status, 1),
        Status.RUNNING: 0,
        Status.SUCCEEDED: 2,
    }
    assert told["agenda"] == {"open": 3, "due": 2, "lag_seconds": 2.5}
    assert told["contradictions"] == {"duplicate": 2, "conflict": 1, "mismatch": 1, "superseded": 0}
    assert told["unconfirmed"]["attempts"] == 2
    assert told["unconfirmed"]["money_at_risk"]["unpriced"] == 2


def test_jobs_that_ended_are_counted_beyond_their_expiry(world: World) -> None:
    world.redis.delete(keys.job(lives.ended(world)))

    assert stats(world.runtime)["jobs"]["succeeded"] == 1


def test_the_last_sweep_is_told(world: World) -> None:
    reconcile(world.runtime)
    world.clock.forward(1.5)

    assert stats(world.runtime)["last_sweep_seconds_ago"] == 1.5


@pytest.mark.parametrize("shards", [1, 3])
def test_images_to_archive_are_counted_with_how_overdue_they_are(world: World, shards: int) -> None:
    busy = world.on(Ledger(lambda: world.redis, shards=shards))
    for how in (FollowUpStatus.DONE, FollowUpStatus.DONE, FollowUpStatus.DEAD):
        ending(busy, Step.ARCHIVE, lives.ended(busy), how)
    lives.ended(busy)
    busy.clock.forward(1.5)
    lives.ended(busy)
    lease = busy.ledger.follow_ups.claim(
        lives.ended(busy), Step.ARCHIVE, now=busy.clock.now, lease_ms=60_000
    )
    assert lease is not None
    busy.clock.forward(1)

    told = stats(busy.runtime)["archive"]

    assert told == {
        "pending": 3,
        "due": 2,
        "lag_seconds": 2.5,
        "ended": {"done": 2, "dead": 1, "gone": 0},
        "at_risk": 0,
        "at_risk_hours": RISK_HOURS,
    }


def test_images_are_at_risk_when_their_links_may_die_soon(world: World) -> None:
    hours = (0, 1, RISK_HOURS, RISK_HOURS + 0.001, 24, None)
    jobs = {hour: dying(world, hour) for hour in hours}

    assert stats(world.runtime)["archive"]["at_risk"] == 3
    world.clock.forward(0.001 * 3600)
    assert stats(world.runtime)["archive"]["at_risk"] == 4
    ending(world, Step.ARCHIVE, jobs[1], FollowUpStatus.DONE)
    ending(world, Step.ARCHIVE, jobs[0], FollowUpStatus.DEAD)
    assert stats(world.runtime)["archive"]["at_risk"] == 2
    world.clock.forward((24 - RISK_HOURS) * 3600)
    assert stats(world.runtime)["archive"]["at_risk"] == 4, "and what does not say, after a day"


def test_callers_to_be_told_are_counted(world: World) -> None:
    def failed() -> str:
        return lives.ended(world, lives.failure(), notify_stream="told")

    ends = (FollowUpStatus.DONE, FollowUpStatus.DEAD, FollowUpStatus.DEAD, FollowUpStatus.GONE)
    for how in ends:
        ending(world, Step.NOTIFY, failed(), how)
    failed()
    lives.ended(world, lives.failure())
    world.clock.forward(0.5)

    assert stats(world.runtime)["notifications"] == {
        "pending": 1,
        "due": 1,
        "lag_seconds": 0.5,
        "ended": {"done": 1, "dead": 2, "gone": 1},
        "dead": 2,
        "paused_hosts": [],
    }


def test_callers_that_are_told_again_are_no_longer_given_up(world: World) -> None:
    job_id = lives.ended(world, lives.failure(), notify_stream="told")
    ending(world, Step.NOTIFY, job_id, FollowUpStatus.DEAD)
    world.ledger.follow_ups.notify_again(job_id, now=world.clock.now)

    told = stats(world.runtime)["notifications"]

    assert (told["dead"], told["pending"], told["ended"]["dead"]) == (0, 1, 1)


def test_hosts_that_are_paused_are_named_and_those_that_only_fail_are_not(world: World) -> None:
    now = world.clock.now
    for _ in range(ENOUGH):
        world.ledger.hosts.failed("down.example", now=now)
    world.ledger.hosts.failed("down.example", now=now + LONG)
    world.ledger.hosts.failed("shaky.example", now=now)

    assert PROBE_EVERY == LONG == 60_000
    assert stats(world.runtime)["notifications"]["paused_hosts"] == [
        {
            "host": "down.example",
            "failures": ENOUGH + 1,
            "since": "2026-11-30T00:53:20.000Z",
            "next_probe_at": "2026-11-30T00:55:20.000Z",
        }
    ]
