"""Waits between tries. All times are seconds."""

from __future__ import annotations

from collections.abc import Callable

#: A provider may need this long before it knows a task that it has just accepted. Seconds.
NOT_FOUND_TOLERANCE_SECONDS = 120.0
#: Waits between submissions that the provider refused for now. Seconds.
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 60.0
#: Waits between sends of the same unconfirmed attempt. Seconds.
FIRST_RESEND_SECONDS, LONGEST_RESEND_SECONDS = 1.0, 60.0
#: A wait is its plain length times a random factor in this range, so that jobs drift apart. The
#: factor is never below one: a provider that advises an interval is not polled sooner.
JITTER_FACTORS = (1.0, 1.5)

Random = Callable[[], float]


def back_off(tries: int, first: float, longest: float, random: Random) -> float:
    """Return the wait after `tries` tries: it doubles from `first`, with jitter, up to `longest`.

    Args:
        tries: the number of tries so far, from 0.
        first: seconds.
        longest: seconds.
        random: returns a number from 0 to 1.
    """
    low, high = JITTER_FACTORS
    plain = first * 2.0 ** min(tries, 32)
    return min(plain * (low + (high - low) * random()), longest)


def first_poll_delay(*, estimate: float | None, grace: float | None, poll: float) -> float:
    """Return the wait between acceptance and the first poll, seconds.

    Args:
        estimate: the provider's own estimate of its time, or None.
        grace: the wait for a callback after the estimate, or None when no callback was requested.
        poll: the provider's first poll interval.
    """
    if grace is None:
        return max(estimate or 0.0, poll)
    return (estimate or 0.0) + grace
