"""Ends a process of the web server whose event loop stands still. The supervisor starts another.

The system goes on to give connections to such a process, and other threads of it go on, so nobody
would notice.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from contextlib import suppress

from orchestrator import log

#: Time between two checks. Seconds.
CHECK_SECONDS = 5.0
#: The loop hangs when it answered none of so many checks in a row. Checks are counted, and not the
#: time: a process that is suspended, or gets no CPU, makes no checks.
MAX_UNANSWERED = 12


class LoopWatch:
    """Checks from time to time that an event loop runs. It is made in the thread of the loop.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread_id = threading.get_ident()
        self._unanswered = 0

    def start(self) -> None:
        """Check in a thread, while the loop lives."""
        threading.Thread(target=self._run, name="loop-watch", daemon=True).start()

    def check(self) -> None:
        """End the process if the loop hangs.

        Raises:
            RuntimeError: the loop is closed.
        """
        if self._unanswered == MAX_UNANSWERED:
            self._report()
        if self._unanswered > MAX_UNANSWERED:
            os._exit(1)
        self._unanswered += 1
        self._loop.call_soon_threadsafe(self._answer)

    def _run(self) -> None:
        pause = threading.Event()
        with suppress(RuntimeError):  # the loop is closed
            while not pause.wait(CHECK_SECONDS):
                self.check()

    def _answer(self) -> None:
        self._unanswered = 0

    def _report(self) -> None:
        """Log where the loop stands still.

        The process ends at the next check. What stands still may be the log, and this line with it:
        then the loop goes on together with this thread, and answers.
        """
        frame = sys._current_frames().get(self._thread_id)
        seconds = MAX_UNANSWERED * CHECK_SECONDS
        log.get().error(
            "process_stuck",
            reason=f"its event loop has stood still for {seconds:g} s",
            action="this process ends, and its supervisor starts another",
            stack="".join(traceback.format_stack(frame)),
        )
