"""The clock of the domain: Redis' time, so that hosts with different clocks agree.

This host's monotonic clock keeps the time between two reads. The host's wall clock is used only
until Redis has answered once. Nothing can be stored before that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

from orchestrator.forks import renew_in_children

#: ms.
DAY_MS = 86_400_000
#: Time between two reads of Redis' clock, and after a read that failed. Seconds.
REFRESH_SECONDS = 30.0
RETRY_SECONDS = 5.0
#: The most that the time of another process moves this clock ahead. ms.
MAX_LEAD_MS = 1000


def now_ms() -> int:
    """Return this host's own time, ms since the Unix epoch."""
    return time.time_ns() // 1_000_000


@lru_cache
def iso_date(day: int) -> str:
    """Return the date of a day, in UTC. Days are counted from 1970.

    Raises:
        ValueError: the day is outside the calendar.
    """
    return datetime.fromtimestamp(day * DAY_MS / 1000, UTC).date().isoformat()


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class LedgerClock:
    """Returns Redis' time, ms since the Unix epoch. All threads of a process share it.

    Args:
        read: returns Redis' time, ms. Raises `away` without an answer.
        away: the error of a Redis that does not answer.
        steady: a clock that never jumps, ms.
    """

    def __init__(
        self,
        read: Callable[[], int],
        away: type[Exception],
        steady: Callable[[], int] = _steady_ms,
    ) -> None:
        self._read_redis = read
        self._away = away
        self._steady = steady
        self._offset = now_ms() - steady()
        #: How far another process is ahead of our own estimate. ms.
        self._lead = 0
        self._refresh_at = steady()
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Make a new lock, in the child of a fork."""
        self._refreshing = threading.Lock()

    def __call__(self) -> int:
        """Return the time: our own estimate, or the later time that another process has told."""
        return self.estimate() + self._lead

    def tell(self, time: int) -> None:
        """Take the estimate of another process, if it is later. Then our own one is behind.

        A busy process reads Redis' answer late, so its clock is behind by up to half of that time.
        It would find that a job which just became due is not due. Only estimates are told, and each
        read of Redis' clock ends their effect. So no error goes from process to process.
        """
        ahead = time - self.estimate()
        if self._lead < ahead <= MAX_LEAD_MS:
            self._lead = ahead

    def estimate(self) -> int:
        """Return our own estimate. Reads Redis' clock when the last read is too old."""
        now = self._steady()
        if now >= self._refresh_at and self._refreshing.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._refreshing.release()
            now = self._steady()
        return now + self._offset

    def _refresh(self) -> None:
        before = self._steady()
        try:
            redis_ms = self._read_redis()
        except self._away:
            self._refresh_at = self._steady() + int(RETRY_SECONDS * 1000)
            return
        after = self._steady()
        self._offset, self._lead = redis_ms - (before + after) // 2, 0
        self._refresh_at = after + int(REFRESH_SECONDS * 1000)
