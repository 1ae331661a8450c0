"""The one clock of the domain: Redis' time, so that hosts whose clocks differ agree.

Between looks at Redis it is kept by this host's monotonic clock. The host's own wall clock is used
only until Redis has answered once; nothing can be stored before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: How long the time is kept without looking again, and after a look that failed. Seconds.
REFRESH = 30.0
RETRY = 5.0


def now_ms() -> int:
    """This host's own time: milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class LedgerClock:
    """Tells Redis' time, in ms since the Unix epoch. Shared by the threads of a process.

    Args:
        ask: Redis' time, in ms; raises `away` when there is no answer.
        away: what is taken for no answer.
        steady: a clock that never jumps, in ms.
    """

    def __init__(
        self,
        ask: Callable[[], int],
        away: type[Exception],
        steady: Callable[[], int] = _steady_ms,
    ) -> None:
        self._ask = ask
        self._away = away
        self._steady = steady
        self._offset = now_ms() - steady()
        self._look_again = steady()
        self._looking = threading.Lock()

    def __call__(self) -> int:
        """The time now; looks at Redis if that was long ago."""
        now = self._steady()
        if now >= self._look_again and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
            now = self._steady()
        return now + self._offset

    def _look(self) -> None:
        before = self._steady()
        try:
            told = self._ask()
        except self._away:
            self._look_again = self._steady() + int(RETRY * 1000)
            return
        after = self._steady()
        self._offset = told - (before + after) // 2
        self._look_again = after + int(REFRESH * 1000)
