"""CircuitBreaker that fail: when they are paused, who may probe them, and what forgets them."""

from __future__ import annotations

import pytest
from redis import Redis

from orchestrator.ledger import Ledger
from orchestrator.ledger.circuit_breaker import (
    FAILURES_TO_OPEN,
    MIN_FAILING_MS,
    PROBE_INTERVAL_MS,
    Host,
    HostState,
)
from tests.ledger import kit
from tests.ledger.kit import HOST, NOW

OTHER = "other.example:8443"


def fail(ledger: Ledger, *times: int, host: str = HOST) -> list[HostState]:
    return [ledger.circuit_breaker.failed(host, now=time) for time in times]


def probe(ledger: Ledger, now: int, host: str = HOST) -> HostState:
    return ledger.circuit_breaker.probe(host, now=now)


def test_nothing_is_known_of_hosts_that_never_failed(ledger: Ledger) -> None:
    assert ledger.circuit_breaker.failing() == {}
    assert probe(ledger, NOW) is HostState.HEALTHY


def test_failures_in_a_row_are_counted_since_the_first(ledger: Ledger) -> None:
    assert fail(ledger, NOW, NOW + 7, NOW + 9) == [HostState.FAILING] * 3

    assert ledger.circuit_breaker.failing() == {HOST: Host(HOST, 3, NOW, None)}
    assert probe(ledger, NOW + 9) is HostState.HEALTHY, "not paused: ask it"


def test_a_burst_of_failures_pauses_no_host(ledger: Ledger) -> None:
    burst = [
        NOW + n * (MIN_FAILING_MS - 1) // (5 * FAILURES_TO_OPEN)
        for n in range(5 * FAILURES_TO_OPEN)
    ]

    assert set(fail(ledger, *burst, NOW + MIN_FAILING_MS - 1)) == {HostState.FAILING}

    assert ledger.circuit_breaker.failing()[HOST].next_probe is None


def test_few_failures_pause_no_host_however_long_it_lasts(ledger: Ledger) -> None:
    times = [NOW + n * MIN_FAILING_MS for n in range(FAILURES_TO_OPEN - 1)]

    assert set(fail(ledger, *times)) == {HostState.FAILING}


def test_a_host_is_paused_by_enough_failures_over_long_enough(ledger: Ledger) -> None:
    fail(ledger, *[NOW] * (FAILURES_TO_OPEN - 1))

    assert fail(ledger, NOW + MIN_FAILING_MS) == [HostState.PAUSED]

    paused = Host(HOST, FAILURES_TO_OPEN, NOW, NOW + MIN_FAILING_MS + PROBE_INTERVAL_MS)
    assert ledger.circuit_breaker.failing() == {HOST: paused}


def test_the_failure_that_makes_it_enough_may_be_the_one_that_makes_it_long(
    ledger: Ledger,
) -> None:
    assert fail(ledger, *[NOW] * FAILURES_TO_OPEN, NOW + MIN_FAILING_MS - 1, NOW + MIN_FAILING_MS)[
        -2:
    ] == [
        HostState.FAILING,
        HostState.PAUSED,
    ]


def test_a_paused_host_that_fails_again_stays_so_and_its_probe_is_not_put_off(
    ledger: Ledger,
) -> None:
    last = kit.pause(ledger)

    assert fail(ledger, last + 1, last + MIN_FAILING_MS) == [HostState.STILL_PAUSED] * 2

    assert ledger.circuit_breaker.failing() == {
        HOST: Host(HOST, FAILURES_TO_OPEN + 2, NOW, last + PROBE_INTERVAL_MS)
    }


def test_a_paused_host_is_probed_by_one_once_in_an_interval(ledger: Ledger) -> None:
    due = kit.pause(ledger) + PROBE_INTERVAL_MS

    assert probe(ledger, due - 1) is HostState.PAUSED
    assert probe(ledger, due) is HostState.PROBE
    assert probe(ledger, due) is HostState.PAUSED
    assert probe(ledger, due + PROBE_INTERVAL_MS - 1) is HostState.PAUSED
    assert probe(ledger, due + PROBE_INTERVAL_MS + 5) is HostState.PROBE
    assert ledger.circuit_breaker.failing() == {
        HOST: Host(HOST, FAILURES_TO_OPEN, NOW, due + 2 * PROBE_INTERVAL_MS + 5)
    }


def test_the_probe_that_failed_leaves_the_host_paused(ledger: Ledger) -> None:
    due = kit.pause(ledger) + PROBE_INTERVAL_MS
    probe(ledger, due)

    assert fail(ledger, due + 3) == [HostState.STILL_PAUSED]

    assert probe(ledger, due + PROBE_INTERVAL_MS - 1) is HostState.PAUSED
    assert probe(ledger, due + PROBE_INTERVAL_MS) is HostState.PROBE


def test_one_of_many_has_the_turn_to_probe(crowd: Ledger) -> None:
    due = kit.pause(crowd) + PROBE_INTERVAL_MS

    found = kit.together(16, lambda: probe(crowd, due))

    assert kit.counted(found) == {HostState.PROBE: 1, HostState.PAUSED: 15}


def test_one_failure_of_many_at_once_pauses_the_host(crowd: Ledger) -> None:
    fail(crowd, NOW)

    found = kit.together(16, lambda: crowd.circuit_breaker.failed(HOST, now=NOW + MIN_FAILING_MS))

    assert kit.counted(found) == {
        HostState.FAILING: FAILURES_TO_OPEN - 2,
        HostState.PAUSED: 1,
        HostState.STILL_PAUSED: 16 - (FAILURES_TO_OPEN - 1),
    }


def test_a_host_that_took_something_begins_anew(ledger: Ledger) -> None:
    last = kit.pause(ledger)

    ledger.circuit_breaker.forget(HOST)

    assert ledger.circuit_breaker.failing() == {}
    assert probe(ledger, last) is HostState.HEALTHY
    assert fail(ledger, last + 1) == [HostState.FAILING]
    assert ledger.circuit_breaker.failing() == {HOST: Host(HOST, 1, last + 1, None)}


def test_each_host_is_told_apart(ledger: Ledger) -> None:
    last = kit.pause(ledger)
    fail(ledger, NOW, host=OTHER)

    assert sorted(ledger.circuit_breaker.failing()) == sorted([HOST, OTHER])
    assert probe(ledger, last + PROBE_INTERVAL_MS, OTHER) is HostState.HEALTHY
    ledger.circuit_breaker.forget(OTHER, "never.failed")
    assert list(ledger.circuit_breaker.failing()) == [HOST]


def test_forgetting_no_host_asks_nothing_of_redis(redis: Redis) -> None:
    def connect() -> Redis:
        raise AssertionError("Redis was asked")

    Ledger(connect).circuit_breaker.forget()


@pytest.mark.parametrize("time", [0, 999, NOW, 10**15])
def test_times_come_back_to_the_millisecond(ledger: Ledger, time: int) -> None:
    last = kit.pause(ledger, now=time)

    assert ledger.circuit_breaker.failing() == {
        HOST: Host(HOST, FAILURES_TO_OPEN, time, last + PROBE_INTERVAL_MS)
    }


def test_times_of_hosts_are_compared_as_numbers(ledger: Ledger) -> None:
    due = kit.pause(ledger, now=0) + PROBE_INTERVAL_MS

    assert probe(ledger, 99_999) is HostState.PAUSED
    assert probe(ledger, due) is HostState.PROBE
