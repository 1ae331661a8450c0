"""Counts and timings of this process. A thread adds them to the sums in Redis every few seconds.

A step only adds a number in memory, so it waits for nothing and cannot fail here. What a process
did not send before it was killed is lost: at most the last seconds, or the time for which Redis was
away. The sums of jobs, outcomes and costs do not come from here: see history/increments.py.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from orchestrator import log
from orchestrator.background import start_thread
from orchestrator.forks import renew_in_children
from orchestrator.metrics.definitions import Definition
from orchestrator.metrics.sums import Sums

#: Time between two sends. Seconds.
SEND_SECONDS = 5.0

Send = Callable[[Mapping[str, float]], None]


@dataclass
class Measured:
    """A measured action. The labels can be set until the action ends; None: it is not counted."""

    labels: tuple[str, ...] | None = None


class Timings:
    """Adds up what this process counts and measures. Threads may share it.

    Args:
        send: adds sums to those in Redis; None: nothing is sent.
    """

    def __init__(self, send: Send | None = None) -> None:
        self._send = send
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without sums. After a fork, the parent sends the sums of before the fork."""
        self._sums = Sums()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._away = False

    def add(self, definition: Definition, *labels: str, amount: float = 1.0) -> None:
        """Add to a counter. Never raises a network error."""
        with self._lock:
            self._sums.add(definition, *labels, amount=amount)
        self._start()

    def observe(self, definition: Definition, *labels: str, seconds: float) -> None:
        """Add an observation to a histogram. Never raises a network error."""
        with self._lock:
            self._sums.observe(definition, *labels, seconds=seconds)
        self._start()

    @contextmanager
    def measured(self, definition: Definition, *labels: str) -> Iterator[Measured]:
        """Measure the time of a block. The block may set other labels. An error is not counted."""
        started, action = perf_counter(), Measured(labels)
        yield action
        if action.labels is not None:
            self.observe(definition, *action.labels, seconds=perf_counter() - started)

    def flush(self) -> None:
        """Send what was added since the last send. Sums that cannot be sent are sent later.

        When the answer of Redis is lost, it is not known whether the sums were added. They are sent
        again, so a few seconds of timings may count twice.
        """
        with self._lock:
            sums, self._sums = self._sums, Sums()
        if not sums or self._send is None:
            return
        try:
            self._send(sums.stored())
        except Exception as error:
            with self._lock:
                self._sums.merge(sums)
            if not self._away:
                log.get().warning("timings_delayed", reason=str(error))
            self._away = True
        else:
            self._away = False

    def _start(self) -> None:
        if self._thread is not None or self._send is None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = start_thread(self._run, "timings")
                if self._thread is not None:
                    atexit.register(self.flush)

    def _run(self) -> None:
        tick = threading.Event()
        while not tick.wait(SEND_SECONDS):
            self.flush()
