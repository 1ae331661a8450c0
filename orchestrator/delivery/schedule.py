"""When to try again to tell a caller: Standard Webhooks' published schedule, with jitter."""

from __future__ import annotations

from orchestrator.backoff import Random

MINUTE, HOUR = 60.0, 3600.0
#: The wait before each try, seconds: 10 tries over about three days.
SCHEDULE = (0, 5, 5 * MINUTE, 30 * MINUTE, *(hours * HOUR for hours in (2, 5, 10, 14, 20, 24)))
#: How long after its outcome, or its last try, a job is given up whose host is paused all the time.
#: Seconds; as long as the schedule.
PATIENCE = sum(SCHEDULE)
#: Each wait is up to this much longer, so that what failed together does not come back together.
JITTER = 0.1


def wait_after(tries: int, retry_after: float | None, random: Random) -> float | None:
    """The wait after so many failed tries, seconds; None when that was the last one.

    Args:
        tries: how many there were, from 1.
        retry_after: what the receiver asked for, seconds; it counts where it is the longer wait.
        random: gives a number from 0 to 1.
    """
    if tries >= len(SCHEDULE):
        return None
    return max(SCHEDULE[tries], retry_after or 0.0) * (1 + JITTER * random())
