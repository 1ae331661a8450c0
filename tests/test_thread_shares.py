"""The shares of threads: no host, domain or tenant takes them all."""

from __future__ import annotations

import pytest

from orchestrator.thread_shares import (
    BUSY_WAIT_SECONDS,
    MAX_QUEUE_WAIT_SECONDS,
    MAX_TURNS,
    RETURNS_PER_SECOND,
    ThreadShares,
)

NOW = 1_000_000
THREADS = 64


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

    assert not shares._held


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
    for number in range(3 * MAX_TURNS):
        shares.reserve(f"tenant{number}", f"h.example{number}.com", NOW + number * 60_000, low)

    assert len(shares._turns) <= MAX_TURNS + 1
