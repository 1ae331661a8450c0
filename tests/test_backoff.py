"""When to look next: pure decisions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backoff import asked_wait, back_off, first_poll_delay
from tests.support.cases import for_each


@for_each(
    ("tries", "first", "longest", "chance", "wait"),
    [
        (0, 1, 60, 0.0, 1.0),
        (0, 1, 60, 0.5, 1.25),
        (0, 1, 60, 1.0, 1.5),
        (1, 1, 60, 0.5, 2.5),
        (5, 1, 60, 0.0, 32.0),
        (5, 1, 60, 1.0, 48.0),
        (6, 1, 60, 0.0, 60.0),
        (10**9, 1, 60, 0.0, 60.0),
        (0, 2, 5, 0.0, 2.0),
        (1, 2, 5, 1.0, 6.0),
        (0, 30, 30, 1.0, 45.0),
        (0, 30, 30, 0.0, 30.0),
    ],
)
def test_the_wait_doubles_from_the_first_to_the_longest_with_up_to_half_as_much_again_as_jitter(
    tries: int, first: float, longest: float, chance: float, wait: float
) -> None:
    assert back_off(tries, first, longest, lambda: chance) == wait


@given(st.integers(0, 10**6), st.floats(0.1, 3600), st.floats(0, 86_400), st.floats(0, 1))
def test_a_wait_is_between_the_first_and_the_longest_with_its_jitter(
    tries: int, first: float, more: float, chance: float
) -> None:
    longest = first + more

    wait = back_off(tries, first, longest, lambda: chance)

    assert first <= wait <= longest * 1.5


@given(st.floats(-10, 7200), st.floats(0, 60), st.floats(0, 1))
def test_a_servers_number_never_undercuts_our_own_wait(
    asked: float, planned: float, chance: float
) -> None:
    wait = asked_wait(planned, asked, lambda: chance)

    assert wait >= planned
    assert wait >= asked
    assert wait <= max(planned, asked * 1.5)
    assert asked_wait(planned, None, lambda: chance) == planned


def test_a_servers_number_gets_jitter_so_that_jobs_come_back_one_by_one() -> None:
    assert asked_wait(1, 60, lambda: 0.0) == 60
    assert asked_wait(1, 60, lambda: 0.5) == 75
    assert asked_wait(1, 60, lambda: 1.0) == 90


@for_each(
    ("estimate", "grace", "poll", "wait"),
    [
        (None, 30, 3, 30),
        (45, 30, 3, 75),
        (0, 30, 3, 30),
        (45, 0, 3, 45),
        (None, None, 3, 3),
        (45, None, 3, 45),
        (1, None, 3, 3),
        (0, None, 3, 3),
    ],
)
def test_the_first_look_waits_for_the_estimate_and_for_a_callback_where_one_may_come(
    estimate: float | None, grace: float | None, poll: float, wait: float
) -> None:
    assert first_poll_delay(estimate=estimate, grace=grace, poll=poll) == wait
