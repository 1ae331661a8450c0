"""The thread of the sweeps, or of other rounds of work that a sweep begins.

It waits neither for a step nor for the message loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from orchestrator import log
from orchestrator.background import start_thread
from orchestrator.ledger import LedgerUnavailable

#: The shortest time from the end of a sweep to the next one. Seconds.
PACE_SECONDS = 0.05


class Sweeper:
    """Sweeps when it is asked to. Requests that come during a sweep make one more sweep.

    Args:
        sweep: looks for all due jobs, and returns their number.
        refill: looks for the due jobs that were left to the agenda and may have a place now.
        pace: the shortest time from the end of a sweep to the next one, seconds.
        name: what a sweep is called in the log.
    """

    def __init__(
        self,
        sweep: Callable[[], int],
        refill: Callable[[], int] = lambda: 0,
        *,
        pace: float = PACE_SECONDS,
        name: str = "sweep",
    ) -> None:
        self._name = name
        self._actions = {"sweep": sweep, "refill": refill}
        self._pace = pace
        self._wanted: set[str] = set()
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def sweep(self) -> None:
        """Ask for a sweep of all due jobs. Returns at once."""
        self._want("sweep")

    def refill(self) -> None:
        """Ask for the due jobs that were left to the agenda. Returns at once."""
        self._want("refill")

    def stop(self, seconds: float = 0.0) -> None:
        """Start no further sweep, and wait this long for the running one."""
        self._stopped.set()
        with self._changed:
            self._changed.notify()
        if self._thread is not None and seconds:
            self._thread.join(seconds)

    def _want(self, name: str) -> None:
        with self._changed:
            self._wanted.add(name)
            if self._thread is None:
                self._thread = start_thread(self._run, self._name)
            self._changed.notify()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._stopped.is_set())
                wanted, self._wanted = self._wanted, set()
            if wanted and not self._stopped.is_set():
                self._do("sweep" if "sweep" in wanted else "refill")
            self._stopped.wait(self._pace)

    def _do(self, name: str) -> None:
        try:
            due = self._actions[name]()
        except LedgerUnavailable as error:
            log.get().warning(f"{self._name}_failed", reason=str(error))
        except Exception:
            # A thread that ends would leave the due jobs to other processes.
            log.get().exception(f"{self._name}_crashed", kind=name)
        else:
            log.get().debug(f"{self._name}_done", kind=name, due=due)


class SweepTimer:
    """Asks for a sweep again and again, in a thread, where no message does.

    Args:
        sweep: asks for a sweep, and returns at once.
        seconds: the time between two sweeps.
    """

    def __init__(self, sweep: Callable[[], None], seconds: float) -> None:
        self._sweep = sweep
        self._seconds = seconds

    def start(self) -> None:
        """Start the thread. It ends with the process."""
        threading.Thread(target=self._run, name="sweep timer", daemon=True).start()

    def _run(self) -> None:
        tick = threading.Event()
        while not tick.wait(self._seconds):
            self._sweep()
