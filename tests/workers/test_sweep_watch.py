"""A worker says that sweeps are missing, and does not repeat it all the time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from orchestrator.ledger.installation import SWEEP_STALE_SECONDS
from orchestrator.steps.reconcile import reconcile
from tests.support.fakes import Clock, Harness, unavailable_ledger
from workers.sweep_watch import REPEAT_SECONDS, SweepWatch

Lines = list[Any]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs() as logs:
        yield logs


@pytest.fixture
def steady() -> Clock:
    return Clock(0)


@pytest.fixture
def watch(harness: Harness, steady: Clock) -> SweepWatch:
    return SweepWatch(harness.runtime, lambda: steady() / 1000)


def events(lines: Lines) -> list[str]:
    return [line["event"] for line in lines]


def test_nothing_is_said_while_sweeps_come(
    harness: Harness, watch: SweepWatch, lines: Lines
) -> None:
    for _ in range(10):
        reconcile(harness.runtime)
        harness.clock.forward(SWEEP_STALE_SECONDS)
        watch.check()

    assert "sweeps_missing" not in events(lines)


def test_missing_sweeps_are_said_once_in_ten_minutes_and_so_is_their_return(
    harness: Harness, watch: SweepWatch, steady: Clock, lines: Lines
) -> None:
    reconcile(harness.runtime)
    harness.clock.forward(SWEEP_STALE_SECONDS + 1)
    for _ in range(int(REPEAT_SECONDS / 15)):
        watch.check()
        steady.forward(15)
    assert events(lines) == ["sweeps_missing"]
    assert "start beat" in lines[0]["reason"]

    watch.check()
    assert events(lines) == ["sweeps_missing"] * 2

    reconcile(harness.runtime)
    watch.check()
    watch.check()
    assert events(lines) == ["sweeps_missing", "sweeps_missing", "sweeps_resumed"]


def test_a_new_installation_gets_time_for_its_first_sweep(
    watch: SweepWatch, steady: Clock, lines: Lines
) -> None:
    watch.check()
    assert events(lines) == []

    steady.forward(SWEEP_STALE_SECONDS + 1)
    watch.check()
    assert events(lines) == ["sweeps_missing"]


def test_nothing_is_said_of_sweeps_while_redis_is_away(
    harness: Harness, steady: Clock, lines: Lines
) -> None:
    watch = SweepWatch(harness.on(unavailable_ledger()).runtime, lambda: steady() / 1000)
    steady.forward(SWEEP_STALE_SECONDS + 1)

    watch.check()

    assert events(lines) == []
