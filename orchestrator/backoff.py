"""Waits between tries. All times are seconds."""

from __future__ import annotations

from collections.abc import Callable

#: A provider may need this long before it knows a task that it has just accepted. Seconds.
NOT_FOUND_TOLERANCE_SECONDS = 120.0
#: A provider that knew a task answers "not found" this often before that is final.
NOT_FOUND_POLLS = 5
#: An unconfirmed attempt whose worker died waits this long for the worker's last record. Seconds.
LOST_LEASE_SECONDS = 30.0
#: Waits between submissions that the provider refused for now. Seconds.
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 60.0
#: Waits between sends of the same unconfirmed attempt. Seconds.
FIRST_RESEND_SECONDS, LONGEST_RESEND_SECONDS = 1.0, 60.0
#: A wait is its plain length times a random factor in this range, so that jobs drift apart. The
#: factor is never below one: a provider that advises an interval is not polled sooner.
JITTER_FACTORS = (1.0, 1.5)
#: The wait after a poll that saw the task run, as a part of the time since its submission.
RUNNING_WAIT_PART = 0.6
#: The same as JITTER_FACTORS, for such a wait. Tasks end at different times, so there is no herd.
RUNNING_JITTER_FACTORS = (1.0, 1.1)

Random = Callable[[], float]


def back_off(tries: int, first: float, longest: float, random: Random) -> float:
    """Return the wait after `tries` tries: it doubles from `first` up to `longest`, then jitter.

    The jitter is added at the ceiling too, so that a herd of jobs drifts apart.

    Args:
        tries: the number of tries so far, from 0.
        first: seconds.
        longest: seconds.
        random: returns a number from 0 to 1.
    """
    return with_jitter(min(first * 2.0 ** min(tries, 32), longest), random)


def with_jitter(seconds: float, random: Random) -> float:
    """Return a wait that is longer by a random factor of JITTER_FACTORS."""
    return seconds * between(JITTER_FACTORS, random)


def between(bounds: tuple[float, float], random: Random) -> float:
    """Return a random number between two bounds."""
    low, high = bounds
    return low + (high - low) * random()


def running_wait(elapsed: float, first: float, longest: float, random: Random) -> float:
    """Return the wait after a poll that saw the task run.

    The wait grows with the time that the task has taken, so that a result is seen late by a part of
    that time at most.

    Args:
        elapsed: since the submission, seconds.
        first: the shortest wait, seconds.
        longest: the longest wait, seconds.
        random: returns a number from 0 to 1.
    """
    wait = max(first, min(RUNNING_WAIT_PART * elapsed, longest))
    return wait * between(RUNNING_JITTER_FACTORS, random)


def asked_wait(planned: float, asked: float | None, random: Random) -> float:
    """Return the wait after an answer that may ask for one. It is never below our own.

    Args:
        planned: our back-off, seconds.
        asked: the `Retry-After` of the answer, seconds; None without one.
        random: returns a number from 0 to 1.
    """
    return planned if asked is None else max(planned, with_jitter(asked, random))


def first_poll_delay(*, estimate: float | None, grace: float | None, poll: float) -> float:
    """Return the wait between acceptance and the first poll if no duration is known, seconds.

    Args:
        estimate: the provider's own estimate of its time, or None.
        grace: the wait for a callback after the estimate, or None when no callback was requested.
        poll: the provider's first poll interval.
    """
    if grace is None:
        return max(estimate or 0.0, poll)
    return (estimate or 0.0) + grace
