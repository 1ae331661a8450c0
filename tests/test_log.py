"""An event that outsiders cause at will: few lines, and every one counted."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog

from orchestrator.log import MAX_LINES_PER_SECOND, RateLimitedLog
from tests.ledger import kit
from tests.support.fakes import Clock

Lines = list[Any]


@pytest.fixture
def lines() -> Iterator[Lines]:
    with structlog.testing.capture_logs() as logs:
        yield logs


@pytest.fixture
def clock() -> Clock:
    return Clock(0)


@pytest.fixture
def flood(clock: Clock) -> Iterator[RateLimitedLog]:
    flood = RateLimitedLog("refused", clock=lambda: clock() / 1000)
    yield flood
    silence(flood)


def silence(flood: RateLimitedLog) -> None:
    """Let it tell nothing by itself any more."""
    if flood._timer:
        flood._timer.cancel()
    atexit.unregister(flood.flush)


def test_few_are_written_as_they_are(flood: RateLimitedLog, lines: Lines) -> None:
    flood.warning("404", provider="hiapi", why="not found")

    [line] = lines
    assert line == {
        "event": "refused",
        "log_level": "warning",
        "provider": "hiapi",
        "why": "not found",
    }


def test_many_are_written_as_few_lines_and_a_number(flood: RateLimitedLog, lines: Lines) -> None:
    for _ in range(1000):
        flood.warning("404")
    flood.flush()

    assert [line["event"] for line in lines] == ["refused"] * MAX_LINES_PER_SECOND + [
        "refused_unlogged"
    ]
    assert (lines[-1]["kind"], lines[-1]["number"]) == ("404", 1000 - MAX_LINES_PER_SECOND)


def test_one_kind_does_not_hide_another(flood: RateLimitedLog, lines: Lines) -> None:
    for _ in range(100):
        flood.warning("404")
    flood.warning("401", why="wrong")

    assert lines[-1]["why"] == "wrong"


def test_every_second_begins_anew(flood: RateLimitedLog, clock: Clock, lines: Lines) -> None:
    for _ in range(3):
        for _ in range(100):
            flood.warning("404")
        clock.forward(1)
    flood.flush()

    assert len(lines) == 3 * MAX_LINES_PER_SECOND + 1
    assert lines[-1]["number"] == 300 - 3 * MAX_LINES_PER_SECOND


def test_no_number_is_told_twice(flood: RateLimitedLog, lines: Lines) -> None:
    for _ in range(100):
        flood.warning("404")
    flood.flush()
    flood.flush()

    assert [line["event"] for line in lines].count("refused_unlogged") == 1


def test_the_number_is_told_by_itself(flood: RateLimitedLog, lines: Lines) -> None:
    for _ in range(MAX_LINES_PER_SECOND + 1):
        flood.warning("404")

    kit.eventually(lambda: any(line["event"] == "refused_unlogged" for line in lines))


def test_from_all_threads_none_is_lost(lines: Lines) -> None:
    flood = RateLimitedLog("refused")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4000):
            pool.submit(flood.warning, "404")
    silence(flood)
    flood.flush()

    written = [line["event"] for line in lines].count("refused")
    held = sum(line["number"] for line in lines if line["event"] == "refused_unlogged")
    assert flood.counts["404"] == written + held == 4000
