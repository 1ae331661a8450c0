"""When to look next: pure decisions, all in seconds."""

from __future__ import annotations

from collections.abc import Callable

#: A provider may need a moment before it knows the task it has just accepted.
NOT_FOUND_TOLERANCE = 120.0
#: Waits between submissions that the provider refused for now: first, and longest.
RETRY_FIRST, RETRY_LONGEST = 1.0, 60.0
#: Waits between sends of the same unconfirmed attempt: first, and longest.
RESEND_FIRST, RESEND_LONGEST = 1.0, 60.0
#: Each wait is the plain one times a random number in this range, so that jobs drift apart. Never
#: less than one: a provider that advises an interval is not asked sooner.
JITTER = (1.0, 1.5)

Random = Callable[[], float]


def back_off(tries: int, first: float, longest: float, random: Random) -> float:
    """The wait before try number `tries` + 1: doubling from `first`, jittered, at most `longest`.

    Args:
        tries: how many there were, from 0.
        random: gives a number from 0 to 1.
    """
    low, high = JITTER
    plain = first * 2.0 ** min(tries, 32)
    return min(plain * (low + (high - low) * random()), longest)


def first_poll_delay(*, estimate: float | None, grace: float | None, poll: float) -> float:
    """The wait between acceptance and the first poll.

    Args:
        estimate: the provider's own guess of the time it needs, if it made one.
        grace: how long to wait for a callback on top; None when none was asked for.
        poll: the provider's first poll interval.
    """
    if grace is None:
        return max(estimate or 0.0, poll)
    return (estimate or 0.0) + grace
