"""The state of an installation in figures."""

from __future__ import annotations

import pytest

from orchestrator.jobs import Status
from orchestrator.ledger import Ledger, keys
from orchestrator.reconcile import reconcile
from orchestrator.stats import CONTRADICTIONS, stats
from tests import lives
from tests.fakes import World
from tests.ledger.kit import RECORDED


def test_an_empty_installation_has_only_noughts(world: World) -> None:
    assert stats(world.runtime) == {
        "jobs": dict.fromkeys(Status, 0),
        "agenda": {"open": 0, "due": 0, "lag_seconds": 0},
        "contradictions": dict.fromkeys(CONTRADICTIONS, 0),
        "unconfirmed": {"attempts": 0, "money_at_risk": {"amounts": [], "unpriced": 0}},
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
