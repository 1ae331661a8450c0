"""When a caller is told again: the published schedule, its jitter, and what receivers ask for."""

from __future__ import annotations

import pytest

from orchestrator.delivery.schedule import (
    JITTER_FRACTION,
    LONGEST_PAUSE_SECONDS,
    SCHEDULE,
    wait_after,
)

#: Standard Webhooks' own table. Seconds.
PUBLISHED = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]


def none() -> float:
    return 0.0


def most() -> float:
    return 1.0


def test_the_schedule_is_that_of_standard_webhooks() -> None:
    assert list(SCHEDULE) == PUBLISHED
    assert sum(PUBLISHED) == LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize("tries", range(1, 10))
def test_each_wait_is_the_planned_one_or_up_to_a_tenth_longer(tries: int) -> None:
    assert JITTER_FRACTION == 0.1
    assert wait_after(tries, None, none) == PUBLISHED[tries]
    assert wait_after(tries, None, most) == pytest.approx(PUBLISHED[tries] * 1.1)
    assert wait_after(tries, None, lambda: 0.5) == pytest.approx(PUBLISHED[tries] * 1.05)


@pytest.mark.parametrize("tries", [10, 11, 1000])
@pytest.mark.parametrize("retry_after", [None, 1.0, 1e9])
def test_the_tenth_try_is_the_last(tries: int, retry_after: float | None) -> None:
    assert wait_after(tries, retry_after, none) is None


@pytest.mark.parametrize(
    ("tries", "asked", "given"),
    [
        (1, 0.0, 5),
        (1, 4.9, 5),
        (1, 60.0, 60),
        (3, 60.0, 1800),
        (3, 3600.0, 3600),
        (9, 3600.0, 86_400),
    ],
)
def test_a_longer_retry_after_is_followed(tries: int, asked: float, given: float) -> None:
    assert wait_after(tries, asked, none) == given
    assert wait_after(tries, asked, most) == pytest.approx(given * 1.1)
