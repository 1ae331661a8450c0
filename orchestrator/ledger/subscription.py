"""One connection that listens to any number of channels."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

from redis import Redis

from orchestrator import log
from orchestrator.background import start_thread
from orchestrator.forks import renew_in_children
from orchestrator.ledger.connection import listener
from orchestrator.ledger.refusals import LedgerMisconfigured, LedgerUnavailable

#: New channels of this time are subscribed in one command. Seconds.
BATCH_SECONDS = 0.05
#: Redis is asked for a sign of life this often. Seconds.
PING_SECONDS = 5.0
#: A connection without any answer for this time is replaced. Seconds.
DEAD_SECONDS = 2.5 * PING_SECONDS
#: The pause before a new connection after a failed one. Seconds.
RETRY_SECONDS = 1.0


class Subscription:
    """Listens to channels, with one thread and one connection for all of them.

    The connection is open only while there are channels.

    Args:
        client: returns the client of this thread.
        changed: is called in the thread of the subscription with the name of a channel: after each
            message, and when listening to the channel begins, also again. So whoever reads the
            state after such a call misses nothing.
    """

    def __init__(
        self,
        client: Callable[[], AbstractContextManager[Redis]],
        changed: Callable[[str], None],
    ) -> None:
        self._redis = client
        self._changed = changed
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Forget the channels and the thread. A child of a fork has neither."""
        #: The number of users of each channel.
        self._wanted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, channel: str) -> None:
        """Listen to a channel. Each call needs one call of `remove`."""
        with self._lock:
            self._wanted[channel] += 1
            if self._thread is None:
                self._thread = start_thread(self._run, "subscription")
        self._work.set()

    def remove(self, channel: str) -> None:
        """End one use of a channel."""
        with self._lock:
            self._wanted[channel] -= 1
            if not self._wanted[channel]:
                del self._wanted[channel]

    def close(self) -> None:
        """End the thread and its connection."""
        self._closed.set()
        self._work.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._work.wait()
            try:
                with self._redis() as client, listener(client) as channels:
                    self._listen(channels)
            except (LedgerUnavailable, LedgerMisconfigured) as error:
                log.get().warning("subscription_broken", reason=str(error))
                self._closed.wait(RETRY_SECONDS)
            except Exception as error:
                log.get().exception("subscription_crashed", error=type(error).__name__)
                self._closed.wait(RETRY_SECONDS)

    def _listen(self, channels: Any) -> None:
        """Listen until there are no channels."""
        listening: set[str] = set()
        heard_at = pinged_at = monotonic()
        while not self._closed.is_set():
            with self._lock:
                wanted = set(self._wanted)
                if not wanted:
                    self._work.clear()
                    return
            if wanted - listening:
                channels.subscribe(*wanted - listening)
            if listening - wanted:
                channels.unsubscribe(*listening - wanted)
            listening = wanted
            now = monotonic()
            if now - pinged_at > PING_SECONDS:
                channels.ping()
                pinged_at = now
            if self._received(channels):
                heard_at = monotonic()
            elif now - heard_at > DEAD_SECONDS:
                raise LedgerUnavailable("the connection of the subscription does not answer")

    def _received(self, channels: Any) -> bool:
        """Report what has arrived. Return whether anything has."""
        heard, timeout = False, BATCH_SECONDS
        while message := channels.get_message(timeout=timeout):
            heard, timeout = True, 0.0
            if message["type"] in ("message", "subscribe"):
                self._changed(message["channel"])
        return heard
