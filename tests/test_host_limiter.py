"""HostLimiter at hosts: few for a slow one, hardly any for a dead one, whichever process asks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog

from orchestrator.host_limiter import (
    HOST_CACHE_MS,
    PAUSED_WAIT_PROBES,
    SLOTS_PER_HOST,
    HostLimiter,
)
from orchestrator.ledger import Ledger
from orchestrator.ledger.circuit_breaker import (
    FAILURES_TO_OPEN,
    MIN_FAILING_MS,
    PROBE_INTERVAL_MS,
    CircuitBreaker,
    Host,
)
from orchestrator.place_shares import BUSY_WAIT_SECONDS
from orchestrator.settings.settings import DEFAULT_NOTIFY_THREADS
from tests.support.fakes import NOON

TENANT = "shop"
HOST, OTHER = "hooks.example.com", "hooks.example.net:8443"


def new() -> HostLimiter:
    """Return the limiter of a new process. Nothing waits for a slot."""
    return HostLimiter(DEFAULT_NOTIFY_THREADS, max_wait=0)


def low() -> float:
    return 0.0


def high() -> float:
    return 1.0


def fail(
    limiter: HostLimiter,
    hosts: CircuitBreaker,
    *,
    begin: int,
    times: int = FAILURES_TO_OPEN,
    every: int = MIN_FAILING_MS,
) -> int:
    """Failures, one after the other; when the last one was (ms)."""
    now = begin
    for number in range(times):
        now = begin + number * every
        assert limiter.acquire(hosts, HOST, TENANT, now, low) is None
        limiter.release(hosts, HOST, TENANT, now, works=False)
    return now


def paused(hosts: CircuitBreaker, limiter: HostLimiter | None = None) -> int:
    """A host that was paused, by another process unless told otherwise; when (ms)."""
    return fail(limiter or new(), hosts, begin=NOON)


# Slots ---------------------------------------------------------------------------------------


def test_a_host_has_four_slots_in_a_process(ledger: Ledger) -> None:
    limiter = new()

    waits = [limiter.acquire(ledger.circuit_breaker, HOST, TENANT, NOON, low) for _ in range(6)]

    assert SLOTS_PER_HOST == 4
    assert waits == [None] * 4 + [BUSY_WAIT_SECONDS[0]] * 2
    assert limiter.acquire(ledger.circuit_breaker, HOST, TENANT, NOON, high) == BUSY_WAIT_SECONDS[1]


def test_another_host_has_its_own(ledger: Ledger) -> None:
    limiter = new()
    for _ in range(SLOTS_PER_HOST):
        limiter.acquire(ledger.circuit_breaker, HOST, TENANT, NOON, low)

    assert limiter.acquire(ledger.circuit_breaker, HOST, TENANT, NOON, low) is not None
    assert limiter.acquire(ledger.circuit_breaker, OTHER, TENANT, NOON, low) is None
    assert new().acquire(ledger.circuit_breaker, HOST, TENANT, NOON, low) is None


@pytest.mark.parametrize("works", [True, False, None])
def test_a_slot_that_is_given_back_can_be_taken(ledger: Ledger, works: bool | None) -> None:
    limiter = new()
    for _ in range(SLOTS_PER_HOST):
        limiter.acquire(ledger.circuit_breaker, HOST, TENANT, NOON, low)

    for _ in range(3):
        limiter.release(ledger.circuit_breaker, HOST, TENANT, NOON, works=works)
        assert limiter.acquire(ledger.circuit_breaker, HOST, TENANT, NOON, low) is None
        assert (
            limiter.acquire(ledger.circuit_breaker, HOST, TENANT, NOON, low) == BUSY_WAIT_SECONDS[0]
        )


def test_threads_never_hold_more_than_there_are(redis_url: str, ledger: Ledger) -> None:
    shared, limiter = Ledger.from_url(redis_url), new()
    start, lock = threading.Barrier(16), threading.Lock()
    held, most = 0, 0

    def work(_: int) -> int:
        nonlocal held, most
        start.wait(60)
        got = 0
        for _ in range(50):
            if limiter.acquire(shared.circuit_breaker, HOST, TENANT, NOON, low) is None:
                with lock:
                    held, got = held + 1, got + 1
                    most = max(most, held)
                with lock:
                    held -= 1
                limiter.release(shared.circuit_breaker, HOST, TENANT, NOON, works=True)
        return got

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(work, range(16))) > 0
    assert 0 < most <= SLOTS_PER_HOST
    assert [limiter.acquire(shared.circuit_breaker, HOST, TENANT, NOON, low) for _ in range(5)] == [
        None
    ] * 4 + [BUSY_WAIT_SECONDS[0]]


def test_hosts_that_nobody_asks_any_more_take_no_memory(ledger: Ledger) -> None:
    limiter = new()
    for number in range(100):
        assert (
            limiter.acquire(ledger.circuit_breaker, f"{number}.example.com", TENANT, NOON, low)
            is None
        )
        limiter.release(ledger.circuit_breaker, f"{number}.example.com", TENANT, NOON, works=True)

    assert not limiter.shares._calls
    assert not limiter._failing


# Failures ------------------------------------------------------------------------------------


def test_a_host_that_fails_often_enough_for_long_enough_is_paused(ledger: Ledger) -> None:
    limiter = new()

    with structlog.testing.capture_logs() as logs:
        last = fail(limiter, ledger.circuit_breaker, begin=NOON)

    known = ledger.circuit_breaker.failing()[HOST]
    assert (known.failures, known.since, known.next_probe) == (
        FAILURES_TO_OPEN,
        NOON,
        last + PROBE_INTERVAL_MS,
    )
    assert [(line["event"], line["host"]) for line in logs] == [("host_paused", HOST)]
    assert (
        limiter.acquire(ledger.circuit_breaker, HOST, TENANT, last, low)
        == PAUSED_WAIT_PROBES[0] * 60
    )
    assert (
        limiter.acquire(ledger.circuit_breaker, HOST, TENANT, last, high)
        == PAUSED_WAIT_PROBES[1] * 60
    )


def test_few_failures_or_a_short_time_do_not_pause_it(ledger: Ledger) -> None:
    last = fail(
        new(),
        ledger.circuit_breaker,
        begin=NOON,
        times=FAILURES_TO_OPEN - 1,
    )
    assert new().acquire(ledger.circuit_breaker, HOST, TENANT, last, low) is None

    ledger.circuit_breaker.forget(HOST)
    last = fail(
        new(),
        ledger.circuit_breaker,
        begin=NOON,
        times=100,
        every=MIN_FAILING_MS // 100 - 1,
    )
    assert new().acquire(ledger.circuit_breaker, HOST, TENANT, last, low) is None


def test_an_answer_between_failures_begins_the_count_anew(ledger: Ledger) -> None:
    limiter = new()
    last = fail(limiter, ledger.circuit_breaker, begin=NOON, times=FAILURES_TO_OPEN - 1)

    limiter.acquire(ledger.circuit_breaker, HOST, TENANT, last, low)
    limiter.release(ledger.circuit_breaker, HOST, TENANT, last, works=True)

    assert ledger.circuit_breaker.failing() == {}
    fail(limiter, ledger.circuit_breaker, begin=last, times=FAILURES_TO_OPEN - 1)
    assert ledger.circuit_breaker.failing()[HOST].next_probe is None


def test_what_one_process_knows_the_others_learn_within_a_second(ledger: Ledger) -> None:
    here, there = (
        new(),
        new(),
    )
    paused_at = NOON + (FAILURES_TO_OPEN - 1) * MIN_FAILING_MS
    assert (
        there.acquire(ledger.circuit_breaker, OTHER, TENANT, paused_at, low) is None
    )  # has just looked
    assert paused(ledger.circuit_breaker, here) == paused_at

    assert here.acquire(ledger.circuit_breaker, HOST, TENANT, paused_at, low) is not None
    assert (
        there.acquire(ledger.circuit_breaker, HOST, TENANT, paused_at + HOST_CACHE_MS - 1, low)
        is None
    )
    assert (
        there.acquire(ledger.circuit_breaker, HOST, TENANT, paused_at + HOST_CACHE_MS, low)
        is not None
    )


def test_a_host_that_works_costs_one_look_in_a_second(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    failing = CircuitBreaker.failing

    def counted(hosts: CircuitBreaker) -> dict[str, Host]:
        looks.append(1)
        return failing(hosts)

    monkeypatch.setattr(CircuitBreaker, "failing", counted)
    limiter = new()

    for millisecond in range(0, 2 * HOST_CACHE_MS, 10):
        limiter.acquire(ledger.circuit_breaker, HOST, TENANT, NOON + millisecond, low)
        limiter.release(ledger.circuit_breaker, HOST, TENANT, NOON + millisecond, works=True)

    assert len(looks) == 2


def test_a_clock_that_goes_back_does_not_keep_old_news(ledger: Ledger) -> None:
    limiter = new()
    limiter.acquire(ledger.circuit_breaker, OTHER, TENANT, NOON + 3_600_000, low)
    last = paused(ledger.circuit_breaker)

    assert limiter.acquire(ledger.circuit_breaker, HOST, TENANT, last, low) is not None


# Probes --------------------------------------------------------------------------------------


def test_of_two_processes_one_probes_in_each_interval(ledger: Ledger) -> None:
    one, two = new(), new()
    due = paused(ledger.circuit_breaker) + PROBE_INTERVAL_MS

    assert one.acquire(ledger.circuit_breaker, HOST, TENANT, due - 1, low) is not None
    taken = [
        each.acquire(ledger.circuit_breaker, HOST, TENANT, due, low)
        for each in (one, two, one, two)
    ]

    assert taken == [None] + [PAUSED_WAIT_PROBES[0] * 60] * 3
    assert (
        two.acquire(ledger.circuit_breaker, HOST, TENANT, due + PROBE_INTERVAL_MS - 1, low)
        is not None
    )
    assert two.acquire(ledger.circuit_breaker, HOST, TENANT, due + PROBE_INTERVAL_MS, low) is None


def test_a_probe_that_fails_leaves_it_paused(ledger: Ledger) -> None:
    one, two = new(), new()
    due = paused(ledger.circuit_breaker) + PROBE_INTERVAL_MS
    one.acquire(ledger.circuit_breaker, HOST, TENANT, due, low)

    with structlog.testing.capture_logs() as logs:
        one.release(ledger.circuit_breaker, HOST, TENANT, due + 15_000, works=False)

    assert logs == []
    assert ledger.circuit_breaker.failing()[HOST].failures == FAILURES_TO_OPEN + 1
    for each in (one, two):
        assert each.acquire(ledger.circuit_breaker, HOST, TENANT, due + 15_000, low) is not None
    assert two.acquire(ledger.circuit_breaker, HOST, TENANT, due + PROBE_INTERVAL_MS, low) is None


def test_a_probe_that_is_answered_resumes_it_for_all(ledger: Ledger) -> None:
    one, two = new(), new()
    due = paused(ledger.circuit_breaker) + PROBE_INTERVAL_MS
    assert two.acquire(ledger.circuit_breaker, HOST, TENANT, due, low) is None
    assert one.acquire(ledger.circuit_breaker, HOST, TENANT, due, low) is not None

    with structlog.testing.capture_logs() as logs:
        two.release(ledger.circuit_breaker, HOST, TENANT, due + 100, works=True)

    assert [(line["event"], line["host"]) for line in logs] == [("host_resumed", HOST)]
    assert ledger.circuit_breaker.failing() == {}
    assert two.acquire(ledger.circuit_breaker, HOST, TENANT, due + 100, low) is None
    assert one.acquire(ledger.circuit_breaker, HOST, TENANT, due + HOST_CACHE_MS, low) is None


def test_that_it_was_resumed_is_told_once(ledger: Ledger) -> None:
    limiter = new()
    due = paused(ledger.circuit_breaker) + PROBE_INTERVAL_MS
    assert limiter.acquire(ledger.circuit_breaker, HOST, TENANT, due, low) is None

    with structlog.testing.capture_logs() as logs:
        limiter.release(ledger.circuit_breaker, HOST, TENANT, due, works=True)
        limiter.acquire(ledger.circuit_breaker, HOST, TENANT, due, low)
        limiter.release(ledger.circuit_breaker, HOST, TENANT, due, works=True)

    assert [line["event"] for line in logs] == ["host_resumed"]


def test_before_a_probe_is_due_redis_is_not_asked_for_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = new()
    due = paused(ledger.circuit_breaker) + PROBE_INTERVAL_MS
    assert limiter.acquire(ledger.circuit_breaker, OTHER, TENANT, due - 1, low) is None
    monkeypatch.delattr(CircuitBreaker, "probe")

    assert limiter.acquire(ledger.circuit_breaker, HOST, TENANT, due - 1, low) is not None


def test_whoever_learns_late_that_it_was_resumed_may_ask(ledger: Ledger) -> None:
    limiter = new()
    due = paused(ledger.circuit_breaker) + PROBE_INTERVAL_MS
    assert limiter.acquire(ledger.circuit_breaker, HOST, TENANT, due - 1, low) is not None
    ledger.circuit_breaker.forget(HOST)

    assert limiter.acquire(ledger.circuit_breaker, HOST, TENANT, due, low) is None


def test_a_host_that_was_not_asked_stays_paused(ledger: Ledger) -> None:
    limiter = new()
    due = paused(ledger.circuit_breaker) + PROBE_INTERVAL_MS
    limiter.acquire(ledger.circuit_breaker, HOST, TENANT, due, low)

    limiter.release(ledger.circuit_breaker, HOST, TENANT, due, works=None)

    assert ledger.circuit_breaker.failing()[HOST].failures == FAILURES_TO_OPEN
    assert limiter.acquire(ledger.circuit_breaker, HOST, TENANT, due, low) is not None


def test_that_all_is_well_is_not_told(ledger: Ledger) -> None:
    limiter = new()
    fail(limiter, ledger.circuit_breaker, begin=NOON, times=2)

    with structlog.testing.capture_logs() as logs:
        limiter.acquire(ledger.circuit_breaker, HOST, TENANT, NOON + MIN_FAILING_MS, low)
        limiter.release(ledger.circuit_breaker, HOST, TENANT, NOON + MIN_FAILING_MS, works=True)

    assert logs == []
