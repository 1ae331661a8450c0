"""The times of repeated notifications: the schedule of Standard Webhooks, with jitter."""

from __future__ import annotations

from orchestrator.backoff import Random

MINUTE, HOUR = 60.0, 3600.0
#: The wait before each try: 10 tries over about three days. Seconds.
SCHEDULE = (0, 5, 5 * MINUTE, 30 * MINUTE, *(hours * HOUR for hours in (2, 5, 10, 14, 20, 24)))
#: A notification to a paused host is given up after this time: the length of the schedule. Seconds.
LONGEST_PAUSE_SECONDS = sum(SCHEDULE)
#: Each wait is longer by up to this fraction, so that notifications drift apart.
JITTER_FRACTION = 0.1


def wait_after(tries: int, retry_after: float | None, random: Random) -> float | None:
    """Return the wait after a failed try, seconds, or None after the last try.

    Args:
        tries: the number of tries so far, from 1.
        retry_after: the wait that the receiver asks for, seconds. It counts when it is longer.
        random: returns a number from 0 to 1.
    """
    if tries >= len(SCHEDULE):
        return None
    return max(SCHEDULE[tries], retry_after or 0.0) * (1 + JITTER_FRACTION * random())
