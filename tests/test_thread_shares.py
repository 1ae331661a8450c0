"""The shares of threads: no host, domain or tenant takes them all."""

from __future__ import annotations

import threading

import pytest

from orchestrator.thread_shares import (
    BUSY_WAIT_SECONDS,
    MAX_QUEUE_WAIT_SECONDS,
    MAX_REMEMBERED,
    RETURNS_PER_SECOND,
    ThreadShares,
)

NOW = 1_000_000
THREADS = 64
CALL = ("shop", "hooks.example.com")


def low() -> float:
    return 0.0


def held(shares: ThreadShares, calls: list[tuple[str, str]]) -> int:
    """Reserve a thread for each tenant and host. Return how many got one."""
    return [shares.reserve(*call, NOW, low) for call in calls].count(None)


def hosts(tenant: str, domain: str, number: int) -> list[tuple[str, str]]:
    return [(tenant, f"h{n}.{domain}") for n in range(number)]


def test_many_hosts_of_one_domain_leave_threads_for_the_others() -> None:
    shares = ThreadShares(THREADS, slots_per_host=4)

    assert held(shares, hosts("shop", "slow.example.com", 330)) == 43  # two thirds

    assert held(shares, [("shop", "hooks.example.net"), ("other", "hooks.example.org")]) == 2


def test_many_domains_of_one_tenant_leave_threads_for_other_tenants() -> None:
    shares = ThreadShares(THREADS)

    assert held(shares, [("shop", f"hooks.slow{n}.com") for n in range(330)]) == 52  # four fifths

    assert held(shares, [("other", "hooks.example.org")]) == 1


def test_calls_without_a_host_are_shared_between_tenants_only() -> None:
    shares = ThreadShares(THREADS, slots_per_host=4)
    got = [shares.reserve("shop", None, NOW, low) for _ in range(330)].count(None)

    assert got == 52  # four fifths
    assert shares.reserve("other", None, NOW, low) is None


def test_one_slow_domain_leaves_threads_to_its_tenant() -> None:
    shares = ThreadShares(THREADS)
    held(shares, hosts("shop", "slow.com", 330))

    assert held(shares, hosts("shop", "fine.com", 3)) == 3


@pytest.mark.parametrize("slow_domains", [1, 2, 5, 10])
def test_a_new_domain_gets_a_thread_however_many_are_slow(slow_domains: int) -> None:
    shares = ThreadShares(THREADS)
    for _ in range(330):
        held(shares, [(f"t{n}", f"h.slow{n}.com") for n in range(slow_domains)])

    assert held(shares, [("other", "hooks.example.org")]) == 1


def test_a_domain_may_use_a_single_thread() -> None:
    shares = ThreadShares(1)

    assert held(shares, hosts("shop", "example.com", 2)) == 1


def test_freed_threads_are_given_again() -> None:
    shares = ThreadShares(THREADS, slots_per_host=4)
    calls = [("shop", "hooks.example.com")] * 4
    for _ in range(3):
        assert held(shares, [*calls, *calls]) == 4
        for call in calls:
            shares.free(*call)

    assert not shares._calls


def test_the_more_jobs_wait_the_later_they_come_back() -> None:
    shares = ThreadShares(2, slots_per_host=1)
    held(shares, [("shop", "hooks.example.com")])

    waits = [shares.reserve("shop", "hooks.example.com", NOW, low) for _ in range(20_000)]

    assert waits[0] == BUSY_WAIT_SECONDS[0]
    assert waits == sorted(waits, key=lambda wait: wait or 0)
    in_one_second = [wait for wait in waits if wait and 10 <= wait < 11]
    assert len(in_one_second) == pytest.approx(RETURNS_PER_SECOND, abs=1)
    assert waits[-1] == BUSY_WAIT_SECONDS[0] + MAX_QUEUE_WAIT_SECONDS
    assert shares.reserve("shop", "hooks.example.com", NOW + 3_600_000, low) == waits[0]


def test_old_waits_are_forgotten() -> None:
    shares = ThreadShares(1)
    held(shares, [("shop", "busy.example.com")])
    for number in range(3 * MAX_REMEMBERED):
        shares.reserve(f"tenant{number}", f"h.example{number}.com", NOW + number * 60_000, low)

    assert len(shares._turns) <= MAX_REMEMBERED + 1


class Timer:
    """A time that only the test moves. Seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def call(shares: ThreadShares, timer: Timer, seconds: float, call: tuple[str, str] = CALL) -> None:
    """Make a call of this duration."""
    assert shares.reserve(*call, NOW, low) is None
    timer.now += seconds
    shares.free(*call)


def test_jobs_of_a_slow_domain_come_back_as_fast_as_its_calls_end() -> None:
    timer = Timer()
    shares = ThreadShares(THREADS, slots_per_host=4, timer=timer)
    call(shares, timer, 14.0)
    held(shares, [CALL] * 4)

    waits = [shares.reserve(*CALL, NOW, low) for _ in range(10)]

    assert waits[4:6] == [1.0 + 5 * 3.5 - 2, 1.0 + 6 * 3.5 - 2]  # four calls end in 14 s


def test_a_thread_waits_for_a_fast_domain() -> None:
    shares = ThreadShares(1, max_wait=60)
    held(shares, [CALL])
    waits: list[float | None] = []
    waiting = threading.Thread(target=lambda: waits.append(shares.reserve(*CALL, NOW, low)))
    waiting.start()

    shares.free(*CALL)
    waiting.join(60)

    assert waits == [None]


def test_one_thread_waits_for_a_domain_that_became_slow_and_the_others_do_not() -> None:
    timer = Timer()
    shares = ThreadShares(1, max_wait=0.05, timer=timer)
    held(shares, [CALL])

    assert shares.reserve(*CALL, NOW, low) is not None  # after its longest wait
    shares._max_wait = 3600
    shares._seconds = dict.fromkeys(shares._seconds, 3600.0)

    assert shares.reserve(*CALL, NOW, low) is not None  # at once: it is known to be slow


def test_a_slow_domain_becomes_fast_again() -> None:
    timer = Timer()
    shares = ThreadShares(2, max_wait=2, timer=timer)
    call(shares, timer, 30.0)
    for _ in range(40):
        call(shares, timer, 0.1)

    assert list(shares._seconds.values()) == [pytest.approx(0.1, abs=0.01)]


def test_the_times_of_many_domains_take_no_memory() -> None:
    timer = Timer()
    shares = ThreadShares(2, timer=timer)
    for number in range(3 * MAX_REMEMBERED):
        call(shares, timer, number % 3, ("shop", f"h.example{number}.com"))

    assert len(shares._seconds) <= MAX_REMEMBERED + 1
