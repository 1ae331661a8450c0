"""Restarts a process of Celery that has stopped reading messages, or, as beat, sending them.

Celery's message loop can hang in a call that never returns. A connection can look alive and deliver
nothing. Other threads of the process go on, so nobody would notice. All times here come from a
clock that never jumps.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from kombu.exceptions import OperationalError

from orchestrator import log

#: Time between two checks. Seconds.
CHECK_SECONDS = 5.0
#: A message loop that stands still for this long hangs. Seconds.
HUNG_SECONDS = 20.0
#: Celery waits up to 30 s between its attempts to connect. Seconds.
RECONNECT_SECONDS = 40.0
#: After this time without a message, the process sends one to its own queue. Seconds.
PING_SECONDS = 15.0
#: A process that got no message for this long, while messages wait, has stopped reading. Seconds.
SILENT_SECONDS = 30.0


class Queues(Protocol):
    """The queues that the process reads, over a new connection."""

    def ping(self) -> None:
        """Send a message that does nothing.

        Raises:
            OperationalError: the broker is away.
        """

    def waiting(self) -> int:
        """Return how many messages wait.

        Raises:
            OperationalError: the broker is away.
        """


class ConsumerWatch:
    """Checks from time to time that the message loop of this process works.

    Args:
        queues: the queues of the process. None: it may rightly get no message for hours.
        connecting: says whether Celery has no connection now, and tries to get one.
        stopping: says whether the process ends anyway.
        restart: starts the process anew. It gets the reason.
        hung_seconds: a loop that stands still for this long hangs; None: HUNG_SECONDS.
        steady: a clock that never jumps, seconds.
    """

    def __init__(
        self,
        queues: Queues | None,
        *,
        connecting: Callable[[], bool],
        stopping: Callable[[], bool],
        restart: Callable[[str], None],
        hung_seconds: float | None = None,
        steady: Callable[[], float] = monotonic,
    ) -> None:
        self._queues = queues
        self._connecting = connecting
        self._stopping = stopping
        self._restart = restart
        self._hung_seconds = hung_seconds or HUNG_SECONDS
        self._steady = steady
        self._ticked = self._heard = self._checked = steady()
        #: Checks in a row at which messages waited, and this process got none for a long time.
        self._ignored = 0

    def tick(self) -> None:
        """Note that the message loop runs."""
        self._ticked = self._steady()

    def heard(self) -> None:
        """Note that a message has arrived."""
        self._heard = self._ticked = self._steady()

    def start(self) -> None:
        """Check in a thread, while the process lives."""
        threading.Thread(target=self._run, name="consumer-watch", daemon=True).start()

    def check(self) -> None:
        """Restart the process if it has stopped reading messages."""
        now, before = self._steady(), self._checked
        self._checked = now
        if now - before > 2 * CHECK_SECONDS:
            # The whole process was suspended. The message loop has just as long to catch up.
            self._ticked = self._heard = now
        if self._stopping():
            return
        if self._connecting():
            self._heard = now
        reason = self._hang(now) or self._silence(now)
        if reason and not self._stopping():
            self._restart(reason)

    def _hang(self, now: float) -> str | None:
        connecting = self._connecting()
        if connecting and not self._broker_answers():
            self._ticked = now  # the time counts from the return of the broker
        still = now - self._ticked
        if still > (RECONNECT_SECONDS if connecting else self._hung_seconds):
            return f"its loop has stood still for {still:.0f} s"
        return None

    def _broker_answers(self) -> bool:
        if self._queues is None:
            return False
        try:
            self._queues.waiting()
        except OperationalError:
            return False
        return True

    def _silence(self, now: float) -> str | None:
        silent, waiting = now - self._heard, 0
        if self._queues is None or silent < PING_SECONDS:
            self._ignored = 0
            return None
        try:
            self._queues.ping()
            if silent > SILENT_SECONDS:
                waiting = self._queues.waiting()
        except OperationalError:
            self._heard = now
            return None
        self._ignored = self._ignored + 1 if waiting else 0
        if self._ignored < 2:
            return None
        return f"it has read no message for {silent:.0f} s, and {waiting} wait"

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(CHECK_SECONDS):
            try:
                self.check()
            except Exception:
                log.get().exception("consumer_watch_failed")


def run_again() -> None:
    """Replace this process by a new one with the same number and the same command line."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # no shell
