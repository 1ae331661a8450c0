"""The domain's clock: Redis' time, whatever this host's clock says."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from orchestrator.clock import MAX_LEAD_MS, REFRESH_SECONDS, RETRY_SECONDS, LedgerClock, now_ms
from orchestrator.ledger import LedgerUnavailable
from orchestrator.runtime import Runtime
from orchestrator.settings.settings import Settings
from tests.support.fakes import NOON, environment

HOUR = 3_600_000


@dataclass
class Redis:
    """Redis' clock and the host's steady one, in the test's hands; ms."""

    steady: int = 5_000
    ahead: int = NOON
    takes: int = 0
    away: bool = False
    asked: list[int] = field(default_factory=list)

    def time(self) -> int:
        self.asked.append(self.steady)
        self.steady += self.takes
        if self.away:
            raise LedgerUnavailable("away")
        return self.steady + self.ahead

    def clock(self) -> LedgerClock:
        return LedgerClock(self.time, LedgerUnavailable, lambda: self.steady)


def test_the_time_is_that_of_redis() -> None:
    redis = Redis()

    assert redis.clock()() == redis.steady + NOON


def test_it_goes_on_by_the_steady_clock_without_asking_again() -> None:
    redis = Redis()
    clock = redis.clock()
    first = clock()
    redis.steady += int(REFRESH_SECONDS * 1000) - 1

    assert clock() == first + int(REFRESH_SECONDS * 1000) - 1
    assert len(redis.asked) == 1


def test_it_looks_again_after_a_while_and_follows_a_clock_that_jumped() -> None:
    redis = Redis()
    clock = redis.clock()
    clock()
    redis.steady += int(REFRESH_SECONDS * 1000)
    redis.ahead -= HOUR

    assert clock() == redis.steady + NOON - HOUR
    assert len(redis.asked) == 2


def test_a_slow_answer_is_taken_for_the_middle_of_its_way() -> None:
    redis = Redis(takes=200)

    assert redis.clock()() == redis.steady + NOON + 100


def test_while_redis_is_away_the_known_time_goes_on_and_is_asked_for_now_and_then() -> None:
    redis = Redis()
    clock = redis.clock()
    clock()
    redis.away = True
    redis.steady += int(REFRESH_SECONDS * 1000)

    assert clock() == redis.steady + NOON
    redis.steady += int(RETRY_SECONDS * 1000) - 1
    assert clock() == redis.steady + NOON
    assert len(redis.asked) == 2
    redis.steady += 1
    clock()
    assert len(redis.asked) == 3


def test_until_redis_has_answered_once_the_hosts_time_is_all_there_is() -> None:
    clock = LedgerClock(Redis(away=True).time, LedgerUnavailable)

    assert abs(clock() - now_ms()) < 1000


def test_one_thread_looks_and_the_others_do_not_wait_for_it() -> None:
    answer, asked = threading.Event(), threading.Event()

    def slow() -> int:
        asked.set()
        assert answer.wait(60)
        return NOON

    clock = LedgerClock(slow, LedgerUnavailable)
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(clock)
        assert asked.wait(60)
        assert abs(clock() - now_ms()) < 1000
        answer.set()
        assert abs(looking.result(5) - NOON) < 1000


@pytest.mark.parametrize("skew_minutes", [-10, 0, 10])
def test_a_host_whose_clock_is_minutes_off_has_the_time_of_all_others(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, skew_minutes: int
) -> None:
    wall, off = time.time_ns, skew_minutes * 60 * 10**9
    settings: Settings = environment(monkeypatch, "http://x", ORCHESTRATOR_REDIS_URL=redis_url)
    monkeypatch.setattr(time, "time_ns", lambda: wall() + off)

    runtime = Runtime.from_settings(settings)

    assert abs(runtime.clock() - wall() // 10**6) < 1000


# The time of another process --------------------------------------------------------------------


def test_a_clock_that_is_behind_takes_the_time_of_another_process() -> None:
    ahead, behind = Redis().clock(), Redis(ahead=NOON - 145).clock()

    behind.tell(ahead.estimate())

    assert behind() == ahead()
    assert behind.estimate() == ahead() - 145, "it tells nobody what it was told"


@pytest.mark.parametrize("difference", [-1, -HOUR, MAX_LEAD_MS + 1, HOUR])
def test_an_earlier_time_and_one_far_ahead_are_not_taken(difference: int) -> None:
    clock = Redis().clock()
    now = clock()

    clock.tell(now + difference)

    assert clock() == now


def test_the_next_read_of_redis_ends_what_was_told() -> None:
    redis = Redis()
    clock = redis.clock()
    clock.tell(clock() + 145)
    assert clock() == redis.steady + NOON + 145
    redis.steady += int(REFRESH_SECONDS * 1000)

    assert clock() == redis.steady + NOON
