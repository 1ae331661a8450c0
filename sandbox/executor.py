"""A bounded number of threads that talk to the outside."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

import requests
import structlog

log = structlog.get_logger(__name__)

#: how many callbacks can be under way at once
CREW_SIZE = 32

#: one piece of work; the session belongs to the thread that does it
Job = Callable[[requests.Session], None]


class TaskExecutor:
    """Threads with an HTTP session each, fed from one queue."""

    def __init__(self, size: int = CREW_SIZE) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._run, name=f"sandbox-crew-{number}", daemon=True)
            for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def hand(self, job: Job) -> None:
        """Have a job done as soon as a thread is free."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Drop what has not begun; a request under way is not waited for long."""
        self._stopped = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout=0.2)

    def _run(self) -> None:
        with requests.Session() as session:
            # No proxies and no .netrc from the environment: the URL is called as it was given.
            session.trust_env = False
            while (job := self._jobs.get()) is not None and not self._stopped:
                try:
                    job(session)
                except Exception:  # One bad job must not end the thread.
                    log.exception("crew_job_failed")
