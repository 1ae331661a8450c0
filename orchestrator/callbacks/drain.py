"""Applies spooled callbacks when the ledger is back, in the order of receipt.

A file is removed after the ledger has answered. So a crash causes at most one repeated callback,
which the ledger recognises as a duplicate.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from time import monotonic

from orchestrator import log
from orchestrator.background import start_thread
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.apply import (
    UnreadableCallback,
    apply_callback,
    note_unreadable,
    read_callback,
)
from orchestrator.callbacks.spool import BadEntry, Entry, Spool
from orchestrator.ledger import LedgerUnavailable, UnreadableJob
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import provider_label
from orchestrator.runtime import Runtime

#: First and longest wait after a round that left entries. Seconds.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
#: Interval of checks without a signal: another process may have died and left files. Seconds.
CHECK_INTERVAL_SECONDS = 5.0
#: A stop waits this long for the current entry. Seconds.
STOP_TIMEOUT_SECONDS = 5.0
#: An error that repeats is logged once in this time. Seconds.
LOG_INTERVAL_SECONDS = 60.0


class SpoolDrainer:
    """A thread that applies the entries of a spool. Of several on one folder, one works.

    Args:
        runtime: of this process.
        spool: the folder.
        record_answer: records the answer to a submission.
    """

    def __init__(
        self, runtime: Runtime, spool: Spool, record_answer: Callable[[Runtime, Entry], None]
    ) -> None:
        self._runtime = runtime
        self._record_answer = record_answer
        self._spool = spool
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._logged_at: dict[str, float] = {}

    def keep(self, entry: Entry) -> None:
        """Store a callback in the spool.

        Raises:
            SpoolError: the callback is not stored.
        """
        self._spool.keep(entry)
        self.start()
        self._woken.set()

    def start(self) -> None:
        """Start the thread, unless it runs. The next entry tries again if it cannot start."""
        with self._starting:
            if self._thread is None:
                self._thread = start_thread(self._run, "drainer")
                if self._thread is not None:
                    atexit.register(self.close)

    def close(self) -> None:
        """Stop after the current entry."""
        self._stopping.set()
        self._woken.set()
        if self._thread:
            self._thread.join(STOP_TIMEOUT_SECONDS)

    def _run(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                left = self.drain()
            except Exception as error:
                # A thread that ends would leave the files until the next start.
                self._log("spool_failed", reason=f"{type(error).__name__}: {error}")
                left = True
            if left:
                self._stopping.wait(wait)
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)
            else:
                wait = FIRST_WAIT_SECONDS
                self._woken.wait(CHECK_INTERVAL_SECONDS)

    def drain(self) -> bool:
        """Apply the entries, and return whether any entry is left.

        Raises:
            OSError: the folder cannot be used.
        """
        if not self._spool.waiting():
            return False
        with self._spool.locked() as locked:
            if not locked:
                return True
            self._spool.sweep()
            try:
                left = [name for name in self._spool.waiting() if not self._apply(name)]
            except LedgerUnavailable:
                return True
            return bool(left)

    def _apply(self, name: str) -> bool:
        """Apply one entry, and return True when its file needs no more work."""
        if self._stopping.is_set():
            return False
        try:
            entry = self._spool.load(name)
        except FileNotFoundError:
            return True
        except BadEntry as error:
            self._spool.set_aside(name)
            log.get().error("spool_entry_unreadable", file=name, reason=str(error))
            return True
        if self._runtime.enabled_provider(entry.provider) is None:
            self._log("spool_entry_delayed", reason="its provider is switched off", file=name)
            return False
        try:
            self._record(entry)
        except Exception as error:
            is_away = isinstance(error, LedgerUnavailable) and not isinstance(error, UnreadableJob)
            if is_away:
                raise
            self._log("spool_entry_failed", reason=f"{type(error).__name__}: {error}", file=name)
            return False
        self._spool.remove(name)
        return True

    def _record(self, entry: Entry) -> None:
        if entry.answer_status is not None:
            self._record_answer(self._runtime, entry)
            return
        address = CallbackAddress(entry.provider, entry.job_id, entry.attempt)
        try:
            report = read_callback(self._runtime, address, entry.body, entry.received)
        except UnreadableCallback as error:  # the adapter has changed since the receipt
            log.get().warning("callback_refused", provider=entry.provider, reason=str(error))
            note_unreadable(self._runtime, address, self._runtime.clock())
            return
        now = self._runtime.clock()
        waited = round(max(now - entry.received, 0) / 1000, 3)
        apply_callback(
            self._runtime,
            address,
            report,
            now,
            complete=not entry.shortened,
            spooled_seconds=waited,
        )
        label = provider_label(entry.provider)
        self._runtime.timings.observe(metrics.CALLBACK_DELAY, label, seconds=waited)

    def _log(self, event: str, *, reason: str, **context: str) -> None:
        """Log an event, at most once a minute, because it repeats with every round."""
        now = monotonic()
        if now - self._logged_at.get(event, -LOG_INTERVAL_SECONDS) >= LOG_INTERVAL_SECONDS:
            self._logged_at[event] = now
            log.get().error(event, reason=reason[:200], **context)
