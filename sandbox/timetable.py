"""Runs actions later, with one thread and a heap for all of them."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

Action = Callable[[], None]


class Timetable:
    """Runs short actions at their time. An action submits slow work to another thread."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action]] = []
        # Breaks ties, because two actions cannot be compared.
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="sandbox-timetable", daemon=True)
        self._thread.start()

    def after(self, seconds: float, action: Action) -> None:
        """Run an action on the timetable's thread after this time."""
        with self._changed:
            due = time.monotonic() + seconds
            heapq.heappush(self._heap, (due, next(self._order), action))
            self._changed.notify()

    def stop(self) -> None:
        """Drop the remaining actions and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:  # One failure must not end the thread.
                log.exception("timetable_action_failed")

    def _next(self) -> Action | None:
        with self._changed:
            while not self._stopped:
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(wait)
            return None
