"""The shares of places: no host, domain or tenant takes them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from orchestrator.place_shares import (
    BUSY_WAIT_SECONDS,
    MAX_QUEUE_WAIT_SECONDS,
    MAX_REMEMBERED,
    RETURN_SHARE,
    RETURNS_PER_SECOND,
    PlaceShares,
)
from orchestrator.step_loop import StepLoop
from tests.ledger.kit import eventually
from tests.support.fakes import Timer
from tests.support.steps import begin

NOW = 1_000_000
PLACES = 64
CALL = ("shop", "hooks.example.com")


def low() -> float:
    return 0.0


def high() -> float:
    return 1.0


def held(shares: PlaceShares, calls: list[tuple[str, str]]) -> int:
    """Reserve a place for each tenant and host. Return how many got one."""
    return [shares.reserve(*call, NOW, low) for call in calls].count(None)


def hosts(tenant: str, domain: str, number: int) -> list[tuple[str, str]]:
    return [(tenant, f"h{n}.{domain}") for n in range(number)]


def test_many_hosts_of_one_domain_leave_places_for_the_others() -> None:
    shares = PlaceShares(PLACES, slots_per_host=4)

    assert held(shares, hosts("shop", "slow.example.com", 330)) == 43  # two thirds

    assert held(shares, [("shop", "hooks.example.net"), ("other", "hooks.example.org")]) == 2


def test_many_domains_of_one_tenant_leave_places_for_other_tenants() -> None:
    shares = PlaceShares(PLACES)

    assert held(shares, [("shop", f"hooks.slow{n}.com") for n in range(330)]) == 52  # four fifths

    assert held(shares, [("other", "hooks.example.org")]) == 1


def test_calls_without_a_host_are_shared_between_tenants_only() -> None:
    shares = PlaceShares(PLACES, slots_per_host=4)
    got = [shares.reserve("shop", None, NOW, low) for _ in range(330)].count(None)

    assert got == 52  # four fifths
    assert shares.reserve("other", None, NOW, low) is None


def test_one_slow_domain_leaves_places_to_its_tenant() -> None:
    shares = PlaceShares(PLACES)
    held(shares, hosts("shop", "slow.com", 330))

    assert held(shares, hosts("shop", "fine.com", 3)) == 3


@pytest.mark.parametrize("slow_domains", [1, 2, 5, 10])
def test_a_new_domain_gets_a_place_however_many_are_slow(slow_domains: int) -> None:
    shares = PlaceShares(PLACES)
    for _ in range(330):
        held(shares, [(f"t{n}", f"h.slow{n}.com") for n in range(slow_domains)])

    assert held(shares, [("other", "hooks.example.org")]) == 1


def test_a_domain_may_use_a_single_place() -> None:
    shares = PlaceShares(1)

    assert held(shares, hosts("shop", "example.com", 2)) == 1


def test_freed_places_are_given_again() -> None:
    shares = PlaceShares(PLACES, slots_per_host=4)
    calls = [("shop", "hooks.example.com")] * 4
    for _ in range(3):
        assert held(shares, [*calls, *calls]) == 4
        for call in calls:
            shares.free(*call)

    assert not shares._calls


def test_the_more_jobs_wait_the_longer_they_are_spread() -> None:
    shares = PlaceShares(2, slots_per_host=1)
    held(shares, [CALL])

    longest = [shares.reserve(*CALL, NOW, high) or 0 for _ in range(20_000)]

    assert longest[0] == BUSY_WAIT_SECONDS[1]
    assert longest == sorted(longest)
    many = longest[10 * RETURNS_PER_SECOND]
    assert many == pytest.approx(BUSY_WAIT_SECONDS[0] + 10, abs=0.01)
    assert longest[-1] == BUSY_WAIT_SECONDS[0] + MAX_QUEUE_WAIT_SECONDS
    assert shares.reserve(*CALL, NOW, low) == BUSY_WAIT_SECONDS[0]
    assert shares.reserve(*CALL, NOW + 3_600_000, high) == BUSY_WAIT_SECONDS[1]


def test_old_waits_are_forgotten() -> None:
    shares = PlaceShares(1)
    held(shares, [("shop", "busy.example.com")])
    for number in range(3 * MAX_REMEMBERED):
        shares.reserve(f"tenant{number}", f"h.example{number}.com", NOW + number * 60_000, low)

    assert len(shares._returns) <= MAX_REMEMBERED + 1


def call(shares: PlaceShares, timer: Timer, seconds: float, call: tuple[str, str] = CALL) -> None:
    """Make a call of this duration."""
    assert shares.reserve(*call, NOW, low) is None
    timer.now += seconds
    shares.free(*call)


def test_jobs_of_a_slow_host_come_back_as_fast_as_its_calls_end() -> None:
    timer = Timer()
    shares = PlaceShares(PLACES, slots_per_host=4, timer=timer)
    call(shares, timer, 14.0)
    held(shares, [CALL] * 4)

    waits = [shares.reserve(*CALL, NOW, high) for _ in range(10)]

    step = RETURN_SHARE * 14.0 / 4  # four calls end in 14 s
    assert waits[4:6] == pytest.approx([1.0 + 4 * step, 1.0 + 5 * step])


# Waiting --------------------------------------------------------------------------------------

Begin = Callable[..., "Future[float | None]"]


@pytest.fixture(params=["thread", "loop"])
def begin_waiting(request: pytest.FixtureRequest) -> Iterator[Begin]:
    """Return a function that reserves a place in a thread, or in a step of one step loop."""
    loop, pool = StepLoop(), ThreadPoolExecutor(8)

    def start(shares: PlaceShares, call: tuple[str, str] = CALL) -> Future[float | None]:
        before = shares._waiters["tenant", call[0]]
        if request.param == "loop":
            future = begin(loop, shares.reserve, *call, NOW, low)
        else:
            future = pool.submit(shares.reserve, *call, NOW, low)
        eventually(lambda: future.done() or shares._waiters["tenant", call[0]] > before)
        return future

    yield start
    loop.stop()
    pool.shutdown()


def test_a_step_waits_for_a_fast_host(begin_waiting: Begin) -> None:
    shares = PlaceShares(8, slots_per_host=1, max_wait=60)
    held(shares, [CALL])
    waiting = begin_waiting(shares)

    shares.free(*CALL)

    assert waiting.result(60) is None
    assert not shares._turns
    assert not shares._waiters


def test_the_first_that_waits_for_a_host_is_the_first_that_gets_its_place(
    begin_waiting: Begin,
) -> None:
    shares = PlaceShares(8, slots_per_host=1, max_wait=60)
    held(shares, [CALL])
    first, second, third = (begin_waiting(shares) for _ in range(3))

    for waiting, later in ((first, (second, third)), (second, (third,)), (third, ())):
        shares.free(*CALL)
        assert waiting.result(60) is None
        assert not any(each.done() for each in later)


def test_hosts_that_wait_take_turns(begin_waiting: Begin) -> None:
    shares = PlaceShares(1, max_wait=60)
    held(shares, [CALL])
    other = ("other", "hooks.example.net")
    begin_waiting(shares), begin_waiting(shares)
    begin_waiting(shares, other), begin_waiting(shares, other)

    order: list[tuple[str, str]] = []
    for _ in range(4):
        shares.free(*(order[-1] if order else CALL))
        order.append(CALL if shares._held(("host", CALL[1])) else other)

    assert order == [CALL, other, CALL, other]


def test_a_place_of_one_host_goes_to_a_step_that_may_use_it(begin_waiting: Begin) -> None:
    shares = PlaceShares(8, slots_per_host=1, max_wait=60)
    other = ("shop", "hooks.example.net")
    held(shares, [CALL, other])
    blocked, waiting = begin_waiting(shares), begin_waiting(shares, other)

    shares.free(*other)

    assert waiting.result(60) is None
    assert not blocked.done()
    shares.free(*CALL)


def test_a_tenant_with_its_share_of_places_delays_no_other_at_a_host(begin_waiting: Begin) -> None:
    shares = PlaceShares(10, slots_per_host=1, max_wait=60)
    assert held(shares, [("full", f"hooks.other{n}.com") for n in range(8)]) == 8
    held(shares, [("third", CALL[1])])
    full, waiting = begin_waiting(shares, ("full", CALL[1])), begin_waiting(shares)

    shares.free("third", CALL[1])

    assert waiting.result(60) is None
    assert not full.done()
    shares.free("full", "hooks.other0.com")
    shares.free(*CALL)
    assert full.result(60) is None


def test_a_freed_place_lets_each_step_begin_that_may(begin_waiting: Begin) -> None:
    """A free place is four more for a tenant that waits, and one more for a host."""
    shares = PlaceShares(10, slots_per_host=2, max_wait=60)
    used = [("full", f"hooks.other{n}.com") for n in range(4)]
    used += [("third", f"hooks.third{n}.com") for n in range(3)]
    assert held(shares, [*used, CALL, CALL]) == 9
    full, waiting = begin_waiting(shares, ("full", "hooks.new.com")), begin_waiting(shares)

    shares.free(*CALL)

    assert full.result(60) is None
    assert waiting.result(60) is None


def test_a_step_whose_turn_comes_late_does_not_wait() -> None:
    timer = Timer()
    shares = PlaceShares(PLACES, slots_per_host=4, max_wait=3600, timer=timer)
    call(shares, timer, 14_400.0)
    held(shares, [CALL] * 4)

    assert shares.reserve(*CALL, NOW, low) is not None


@pytest.mark.parametrize(("seconds", "waiters"), [(0.1, 79), (1.0, 7), (4.0, 1), (15.0, 0)])
def test_as_many_wait_as_get_a_turn_in_time(seconds: float, waiters: int) -> None:
    timer = Timer()
    shares = PlaceShares(PLACES, slots_per_host=4, max_wait=2.0, timer=timer)
    call(shares, timer, seconds)
    held(shares, [CALL] * 4)
    shares._waiters["host", CALL[1]] = waiters

    assert shares._expected_wait(("host", CALL[1]), {}) >= 2.0
    shares._waiters["host", CALL[1]] = waiters - 1
    assert waiters == 0 or shares._expected_wait(("host", CALL[1]), {}) < 2.0


def test_a_host_that_became_slow_is_waited_for_no_more(begin_waiting: Begin) -> None:
    shares = PlaceShares(2, slots_per_host=1, max_wait=0.05)
    held(shares, [CALL])
    shares._seconds["host", CALL[1]] = 0.001

    assert begin_waiting(shares).result(60) is not None  # after its longest wait
    shares._max_wait, shares._seconds = 3600, dict.fromkeys(shares._seconds, 3600.0)

    assert begin_waiting(shares).result(60) is not None  # at once: it is known to be slow
    assert not shares._turns
    assert not shares._waiters


def test_a_wait_that_was_too_long_does_not_make_a_fast_host_slow(begin_waiting: Begin) -> None:
    """The place is held by one call after another, and each is short."""
    timer = Timer()
    shares = PlaceShares(8, slots_per_host=1, max_wait=0.05, timer=timer)
    held(shares, [CALL])
    shares._seconds["host", CALL[1]] = 0.01
    timer.now += 0.02

    assert begin_waiting(shares).result(60) is not None

    assert shares._seconds["host", CALL[1]] == 0.02


@pytest.mark.parametrize("slow", ["old.example.com", "hooks.slow.net"])
def test_a_new_host_is_taken_for_one_like_the_others(slow: str) -> None:
    timer = Timer()
    shares = PlaceShares(PLACES, slots_per_host=4, max_wait=2.0, timer=timer)
    call(shares, timer, 600.0, ("shop", slow))
    held(shares, [CALL] * 4)

    assert shares.reserve(*CALL, NOW, low) is not None
    assert not shares._turns


def test_a_slow_tenant_is_waited_for_no_more_though_its_host_is_fast() -> None:
    timer = Timer()
    shares = PlaceShares(PLACES, max_wait=2.0, timer=timer)
    call(shares, timer, 600.0, ("shop", "hooks.slow0.com"))
    held(shares, [("shop", f"hooks.slow{number}.com") for number in range(52)])
    shares._seconds["host", CALL[1]] = 0.01

    assert shares.reserve(*CALL, NOW, low) is not None


def test_a_slow_domain_becomes_fast_again() -> None:
    timer = Timer()
    shares = PlaceShares(2, max_wait=2, timer=timer)
    call(shares, timer, 30.0)
    for _ in range(40):
        call(shares, timer, 0.1)

    assert list(shares._seconds.values()) == [pytest.approx(0.1, abs=0.01)] * 3


def test_the_times_of_many_domains_take_no_memory() -> None:
    timer = Timer()
    shares = PlaceShares(2, timer=timer)
    for number in range(3 * MAX_REMEMBERED):
        call(shares, timer, number % 3, ("shop", f"h.example{number}.com"))

    assert len(shares._seconds) <= MAX_REMEMBERED + 1
