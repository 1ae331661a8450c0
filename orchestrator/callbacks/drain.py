"""Brings spooled callbacks to the ledger, once it is back, in the order in which they came.

A file is removed after the ledger has answered, so a crash at any point leads to a second delivery
at most, which the ledger takes for the duplicate that it is.
"""

from __future__ import annotations

import atexit
import threading
from time import monotonic

from orchestrator import log
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.apply import UnreadableCallback, apply_callback, read_callback
from orchestrator.callbacks.spool import BadEntry, Entry, Spool
from orchestrator.ledger import LedgerUnavailable
from orchestrator.runtime import Runtime

#: The first and the longest wait after a round that left something. Seconds.
FIRST_PAUSE, LAST_PAUSE = 0.2, 5.0
#: How often the folder is looked at without reason: its files may be a dead process'. Seconds.
LOOK = 5.0
#: How long a stop waits for the entry in hand. Seconds.
STOPS_WITHIN = 5.0


class Drainer:
    """A thread that takes callbacks out of the spool. Of several with one folder, one does."""

    def __init__(self, runtime: Runtime, spool: Spool) -> None:
        self._runtime = runtime
        self._spool = spool
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._told: dict[str, float] = {}

    def keep(self, entry: Entry) -> None:
        """Spool a callback, to be brought to the ledger later.

        Raises:
            SpoolError: it is not kept.
        """
        self._spool.keep(entry)
        self.start()
        self._woken.set()

    def start(self) -> None:
        """Begin, unless it has begun."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="drainer", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def close(self) -> None:
        """Stop, after the entry in hand."""
        self._stopping.set()
        self._woken.set()
        if self._thread:
            self._thread.join(STOPS_WITHIN)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                left = self.drain()
            except Exception as error:
                # Whatever it is: a drainer that ended would leave what waits to the next start.
                self._tell("spool_broke", why=f"{type(error).__name__}: {error}")
                left = True
            if left:
                self._stopping.wait(pause)
                pause = min(pause * 2, LAST_PAUSE)
            else:
                pause = FIRST_PAUSE
                self._woken.wait(LOOK)

    def drain(self) -> bool:
        """Take out what can be; whether anything is left.

        Raises:
            OSError: the folder cannot be used.
        """
        if not self._spool.waiting():
            return False
        with self._spool.locked() as ours:
            if not ours:
                return True
            self._spool.sweep()
            try:
                left = [name for name in self._spool.waiting() if not self._take(name)]
            except LedgerUnavailable:
                return True
            return bool(left)

    def _take(self, name: str) -> bool:
        """Whether it is out of the way."""
        if self._stopping.is_set():
            return False
        try:
            entry = self._spool.load(name)
        except FileNotFoundError:
            return True
        except BadEntry as error:
            self._spool.put_aside(name)
            log.get().error("spool_entry_bad", file=name, why=str(error))
            return True
        if self._runtime.enabled_provider(entry.provider) is None:
            self._tell("spool_entry_waits", why="its provider is switched off", file=name)
            return False
        try:
            self._feed(entry)
        except LedgerUnavailable:
            raise
        except Exception as error:
            self._tell("spool_entry_broke", why=f"{type(error).__name__}: {error}", file=name)
            return False
        self._spool.remove(name)
        return True

    def _feed(self, entry: Entry) -> None:
        address = CallbackAddress(entry.provider, entry.job_id, entry.attempt)
        try:
            report = read_callback(self._runtime, address, entry.body, entry.received)
        except UnreadableCallback as error:  # it was one when it came: the adapter is another now
            log.get().warning("callback_refused", provider=entry.provider, why=str(error))
            return
        now = self._runtime.clock()
        waited = round(max(now - entry.received, 0) / 1000, 3)
        apply_callback(self._runtime, address, report, now, spooled_seconds=waited)

    def _tell(self, event: str, *, why: str, **context: str) -> None:
        """One line a minute for each event: it comes again with every round."""
        now = monotonic()
        if now - self._told.get(event, -60.0) >= 60.0:
            self._told[event] = now
            log.get().error(event, why=why[:200], **context)
