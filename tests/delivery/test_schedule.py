"""The times of a notification's retries: schedule, jitter and Retry-After."""

from __future__ import annotations

import pytest

from orchestrator.delivery.schedule import (
    JITTER_FRACTION,
    LONGEST_PAUSE_SECONDS,
    SCHEDULE,
    wait_after,
)
from tests.support.cases import for_each

#: Standard Webhooks' own table. Seconds.
PUBLISHED = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]


def no_jitter() -> float:
    return 0.0


def most() -> float:
    return 1.0


def test_the_schedule_is_that_of_standard_webhooks() -> None:
    assert list(SCHEDULE) == PUBLISHED
    assert sum(PUBLISHED) == LONGEST_PAUSE_SECONDS


@for_each("tries", range(1, 10))
def test_each_wait_is_the_planned_one_or_up_to_a_tenth_longer(tries: int) -> None:
    assert JITTER_FRACTION == 0.1
    assert wait_after(tries, None, no_jitter) == PUBLISHED[tries]
    assert wait_after(tries, None, most) == pytest.approx(PUBLISHED[tries] * 1.1)
    assert wait_after(tries, None, lambda: 0.5) == pytest.approx(PUBLISHED[tries] * 1.05)


@for_each("tries", [10, 11, 1000])
@for_each("retry_after", [None, 1.0, 1e9])
def test_the_tenth_try_is_the_last(tries: int, retry_after: float | None) -> None:
    assert wait_after(tries, retry_after, no_jitter) is None


@for_each(
    ("tries", "retry_after", "expected"),
    [
        (1, 0.0, 5),
        (1, 4.9, 5),
        (1, 60.0, 60),
        (3, 60.0, 1800),
        (3, 3600.0, 3600),
        (9, 3600.0, 86_400),
    ],
)
def test_a_longer_retry_after_is_followed(tries: int, retry_after: float, expected: float) -> None:
    assert wait_after(tries, retry_after, no_jitter) == expected
    assert wait_after(tries, retry_after, most) == pytest.approx(expected * 1.1)
