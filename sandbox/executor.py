"""A bounded number of threads that send HTTP requests."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

import requests
import structlog

log = structlog.get_logger(__name__)

#: Callbacks that can be sent at the same time.
MAX_CONCURRENT_CALLBACKS = 32
#: Time to wait for each thread when the sandbox stops. Seconds.
STOP_TIMEOUT_SECONDS = 0.2

#: One piece of work. The session belongs to the thread that runs it.
Work = Callable[[requests.Session], None]


class TaskExecutor:
    """Threads that share one queue. Each thread has its own HTTP session."""

    def __init__(self, size: int = MAX_CONCURRENT_CALLBACKS) -> None:
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._run, name=f"sandbox-callbacks-{number}", daemon=True)
            for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work) -> None:
        """Run this work as soon as a thread is free."""
        self._queue.put(work)

    def stop(self) -> None:
        """Drop the work that has not started. Wait only briefly for open requests."""
        self._stopped = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=STOP_TIMEOUT_SECONDS)

    def _run(self) -> None:
        with requests.Session() as session:
            # Proxies and .netrc of the environment would change the request.
            session.trust_env = False
            while (work := self._queue.get()) is not None and not self._stopped:
                try:
                    work(session)
                except Exception:  # One failure must not end the thread.
                    log.exception("executor_work_failed")
