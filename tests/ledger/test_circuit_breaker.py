"""The circuit breaker: when it pauses a host, who may probe it, and what resets it."""

from __future__ import annotations

from collections import Counter

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


def test_a_host_that_never_failed_has_no_record(ledger: Ledger) -> None:
    assert ledger.circuit_breaker.failing() == {}
    assert probe(ledger, NOW) is HostState.HEALTHY


def test_consecutive_failures_are_counted_since_the_first(ledger: Ledger) -> None:
    assert fail(ledger, NOW, NOW + 7, NOW + 9) == [HostState.FAILING] * 3

    assert ledger.circuit_breaker.failing() == {HOST: Host(HOST, 3, NOW, None)}
    assert probe(ledger, NOW + 9) is HostState.HEALTHY, "a host that is not paused may be called"


def test_a_burst_of_failures_pauses_no_host(ledger: Ledger) -> None:
    burst = [
        NOW + n * (MIN_FAILING_MS - 1) // (5 * FAILURES_TO_OPEN)
        for n in range(5 * FAILURES_TO_OPEN)
    ]

    assert set(fail(ledger, *burst, NOW + MIN_FAILING_MS - 1)) == {HostState.FAILING}

    assert ledger.circuit_breaker.failing()[HOST].next_probe is None


def test_few_failures_pause_no_host_after_any_time(ledger: Ledger) -> None:
    times = [NOW + n * MIN_FAILING_MS for n in range(FAILURES_TO_OPEN - 1)]

    assert set(fail(ledger, *times)) == {HostState.FAILING}


def test_enough_failures_over_the_minimum_time_pause_a_host(ledger: Ledger) -> None:
    fail(ledger, *[NOW] * (FAILURES_TO_OPEN - 1))

    assert fail(ledger, NOW + MIN_FAILING_MS) == [HostState.PAUSED]

    paused = Host(HOST, FAILURES_TO_OPEN, NOW, NOW + MIN_FAILING_MS + PROBE_INTERVAL_MS)
    assert ledger.circuit_breaker.failing() == {HOST: paused}


def test_enough_failures_pause_a_host_when_the_minimum_time_ends(
    ledger: Ledger,
) -> None:
    fail(ledger, *[NOW] * FAILURES_TO_OPEN)

    last = fail(ledger, NOW + MIN_FAILING_MS - 1, NOW + MIN_FAILING_MS)

    assert last == [HostState.FAILING, HostState.PAUSED]


def test_another_failure_of_a_paused_host_does_not_delay_its_probe(
    ledger: Ledger,
) -> None:
    last = kit.pause_host(ledger)

    assert fail(ledger, last + 1, last + MIN_FAILING_MS) == [HostState.STILL_PAUSED] * 2

    assert ledger.circuit_breaker.failing() == {
        HOST: Host(HOST, FAILURES_TO_OPEN + 2, NOW, last + PROBE_INTERVAL_MS)
    }


def test_a_paused_host_has_one_probe_per_interval(ledger: Ledger) -> None:
    due = kit.pause_host(ledger) + PROBE_INTERVAL_MS

    assert probe(ledger, due - 1) is HostState.PAUSED
    assert probe(ledger, due) is HostState.PROBE
    assert probe(ledger, due) is HostState.PAUSED
    assert probe(ledger, due + PROBE_INTERVAL_MS - 1) is HostState.PAUSED
    assert probe(ledger, due + PROBE_INTERVAL_MS + 5) is HostState.PROBE
    assert ledger.circuit_breaker.failing() == {
        HOST: Host(HOST, FAILURES_TO_OPEN, NOW, due + 2 * PROBE_INTERVAL_MS + 5)
    }


def test_a_host_stays_paused_after_a_failed_probe(ledger: Ledger) -> None:
    due = kit.pause_host(ledger) + PROBE_INTERVAL_MS
    probe(ledger, due)

    assert fail(ledger, due + 3) == [HostState.STILL_PAUSED]

    assert probe(ledger, due + PROBE_INTERVAL_MS - 1) is HostState.PAUSED
    assert probe(ledger, due + PROBE_INTERVAL_MS) is HostState.PROBE


def test_one_of_many_threads_may_probe(shared_ledger: Ledger) -> None:
    due = kit.pause_host(shared_ledger) + PROBE_INTERVAL_MS

    results = kit.in_parallel(16, lambda: probe(shared_ledger, due))

    assert Counter(results) == {HostState.PROBE: 1, HostState.PAUSED: 15}


def test_one_of_many_concurrent_failures_pauses_the_host(shared_ledger: Ledger) -> None:
    fail(shared_ledger, NOW)

    results = kit.in_parallel(
        16, lambda: shared_ledger.circuit_breaker.failed(HOST, now=NOW + MIN_FAILING_MS)
    )

    assert Counter(results) == {
        HostState.FAILING: FAILURES_TO_OPEN - 2,
        HostState.PAUSED: 1,
        HostState.STILL_PAUSED: 16 - (FAILURES_TO_OPEN - 1),
    }


def test_a_success_resets_a_host(ledger: Ledger) -> None:
    last = kit.pause_host(ledger)

    ledger.circuit_breaker.forget(HOST)

    assert ledger.circuit_breaker.failing() == {}
    assert probe(ledger, last) is HostState.HEALTHY
    assert fail(ledger, last + 1) == [HostState.FAILING]
    assert ledger.circuit_breaker.failing() == {HOST: Host(HOST, 1, last + 1, None)}


def test_hosts_are_independent(ledger: Ledger) -> None:
    last = kit.pause_host(ledger)
    fail(ledger, NOW, host=OTHER)

    assert sorted(ledger.circuit_breaker.failing()) == sorted([HOST, OTHER])
    assert probe(ledger, last + PROBE_INTERVAL_MS, OTHER) is HostState.HEALTHY
    ledger.circuit_breaker.forget(OTHER, "never.failed")
    assert list(ledger.circuit_breaker.failing()) == [HOST]


def test_forgetting_no_host_sends_no_command() -> None:
    def connect() -> Redis:
        raise AssertionError("a command was sent")

    Ledger(connect).circuit_breaker.forget()


@pytest.mark.parametrize("time", [0, 999, NOW, 10**15])
def test_times_keep_their_milliseconds(ledger: Ledger, time: int) -> None:
    last = kit.pause_host(ledger, now=time)

    assert ledger.circuit_breaker.failing() == {
        HOST: Host(HOST, FAILURES_TO_OPEN, time, last + PROBE_INTERVAL_MS)
    }


def test_times_are_compared_as_numbers(ledger: Ledger) -> None:
    due = kit.pause_host(ledger, now=0) + PROBE_INTERVAL_MS

    assert probe(ledger, 99_999) is HostState.PAUSED
    assert probe(ledger, due) is HostState.PROBE
