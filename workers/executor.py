"""The threads that do a worker's steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from orchestrator import log
from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable

#: Steps that one worker process does at once. Each step mostly waits for a provider.
PROVIDER_THREADS = 32


class StepExecutor:
    """Runs steps in threads, so that the message loop does not wait for them.

    Without a `backlog`, the message loop waits while all threads are busy. With a `backlog`, this
    many jobs may wait for a thread, and further jobs are dropped: the next sweep nudges them again.
    A step that fails is logged. Its lease ends, and the agenda brings the job back.

    Args:
        run: does one step of one job.
        stopping: says whether the process is stopping. Then no further step is started.
        threads: steps that run at once.
        backlog: jobs that may wait for a thread; None makes the message loop wait.
    """

    def __init__(
        self,
        run: Callable[[Step, str], None],
        *,
        stopping: Callable[[], bool],
        threads: int = PROVIDER_THREADS,
        backlog: int | None = None,
    ) -> None:
        self._run = run
        self._stopping = stopping
        self._threads = threads
        self._blocks = backlog is None
        self._free = threading.Semaphore(threads + (backlog or 0))
        self._pool: ThreadPoolExecutor | None = None
        self._running: dict[Future[None], str] = {}

    def execute(self, step: Step, job_ids: Sequence[str]) -> None:
        """Start `step` for each job. Returns when each job has started, waits or was dropped."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="step")
        for job_id in job_ids:
            if not self._free.acquire(blocking=self._blocks):
                return
            if self._stopping():
                self._free.release()
                return
            future = self._pool.submit(self._step, step, job_id)
            self._running[future] = job_id
            future.add_done_callback(self._running.pop)

    def drain(self, seconds: float) -> list[str]:
        """Wait for the started steps, and return the jobs whose steps did not end in time."""
        if self._pool is None:
            return []
        wait(list(self._running), seconds)
        left = list(self._running.values())
        self._pool.shutdown(wait=not left)
        return left

    def _step(self, step: Step, job_id: str) -> None:
        try:
            if not self._stopping():
                self._run(step, job_id)
        except LedgerUnavailable as error:
            log.get().warning("step_failed", job=job_id, step=step, reason=str(error))
        except Exception:
            log.get().exception("step_crashed", job=job_id, step=step)
        finally:
            self._free.release()
