"""Repeats actions in the background until they succeed, while the process lives."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from orchestrator import log
from orchestrator.background import start_thread
from orchestrator.backoff import back_off
from orchestrator.forks import renew_in_children

#: Waits between rounds. Seconds.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 2.0

Action = Callable[[], object]


class RetryQueue:
    """Actions that failed because a server is away. They are repeated in the order of adding.

    The queue has a thread while it holds actions.
    """

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without actions, also in a child of a fork."""
        self._actions: dict[str, tuple[Action, type[Exception]]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, name: str, action: Action, *, until_not: type[Exception]) -> None:
        """Repeat an action in the background, from a moment after now.

        Args:
            name: identifies the action. A second action of the same name replaces the first.
            action: is called again while it raises `until_not`. Another error ends it.
            until_not: the error of the server that is away.
        """
        with self._lock:
            self._actions[name] = (action, until_not)
            self._begin()

    def drain(self, seconds: float) -> list[str]:
        """Wait until no action is left, at most `seconds`. Return the names of those left."""
        with self._lock:
            self._begin()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)
        with self._lock:
            return list(self._actions)

    def _begin(self) -> None:
        """Start the thread, if there are actions and it does not run."""
        if self._actions and self._thread is None:
            self._thread = start_thread(self._run, "retry-queue")

    def _run(self) -> None:
        tries, tick = 0, threading.Event()
        while True:
            tick.wait(back_off(tries, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, random.random))
            tries = 0 if self._round() else tries + 1
            with self._lock:
                if not self._actions:
                    self._thread = None
                    return

    def _round(self) -> bool:
        """Call the actions in order, until one has to be repeated. Return whether one ended."""
        ended = False
        for name, added in list(self._actions.items()):
            action, until_not = added
            try:
                action()
            except until_not:
                return ended
            except Exception:
                log.get().exception("action_failed", action=name)
            with self._lock:
                if self._actions.get(name) is added:  # it was not replaced meanwhile
                    del self._actions[name]
            ended = True
        return ended
