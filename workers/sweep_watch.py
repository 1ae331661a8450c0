"""Says in a worker's log that sweeps are missing: beat, or the way from it, does not work.

Without sweeps nothing is done that is due later: no poll, no retry, no deadline. New jobs continue,
so nobody would notice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from orchestrator import log
from orchestrator.ledger import LedgerUnavailable
from orchestrator.ledger.installation import SWEEP_STALE_SECONDS
from orchestrator.runtime import Runtime

#: Time between two checks. Seconds.
CHECK_SECONDS = 15.0
#: While sweeps stay missing, the line is repeated after this time. Seconds.
REPEAT_SECONDS = 600.0


class SweepWatch:
    """Checks from time to time that a sweep has finished lately, by Redis' clock.

    Args:
        runtime: of this process.
        steady: a clock that never jumps, seconds.
    """

    def __init__(self, runtime: Runtime, steady: Callable[[], float] = monotonic) -> None:
        self._runtime = runtime
        self._steady = steady
        self._started = steady()
        self._logged: float | None = None

    def start(self) -> None:
        """Check in a thread, while the process lives."""
        threading.Thread(target=self._run, name="sweep-watch", daemon=True).start()

    def check(self) -> None:
        """Log that sweeps are missing, or that they are back. At most a line in ten minutes."""
        try:
            age = self._age()
        except LedgerUnavailable:
            return  # other lines say so
        if age > SWEEP_STALE_SECONDS:
            self._missing(age)
        elif self._logged is not None:
            log.get().warning("sweeps_resumed")
            self._logged = None

    def _age(self) -> float:
        """Return the seconds since the last sweep. Without any, since the start of this process."""
        swept = self._runtime.ledger.installation.last_sweep()
        running = self._steady() - self._started
        return running if swept is None else (self._runtime.clock() - swept) / 1000

    def _missing(self, age: float) -> None:
        now = self._steady()
        if self._logged is not None and now - self._logged < REPEAT_SECONDS:
            return
        self._logged = now
        reason = "no beat process runs, or its messages do not arrive; start beat"
        log.get().error("sweeps_missing", seconds=round(age), reason=reason)

    def _run(self) -> None:
        tick = threading.Event()
        while not tick.wait(CHECK_SECONDS):
            try:
                self.check()
            except Exception:
                log.get().exception("sweep_watch_failed")
