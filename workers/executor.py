"""The threads that do a worker's steps, side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from orchestrator import log
from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable

#: Steps that one worker process does at once. Each waits for a provider most of its time.
THREADS = 32


class StepExecutor:
    """Takes steps off the message loop's hands.

    While all are busy it holds the loop back; or, with a `backlog`, it lets so many wait and drops
    the rest, which the next sweep brings again. A step that fails is logged and forgotten: its
    lease runs out, and the agenda brings it back.

    Args:
        run: does one step with one job.
        stopping: whether the process is told to stop; then no further step is begun.
        threads: how many are done at once.
        backlog: how many may wait for a thread; None holds back.
    """

    def __init__(
        self,
        run: Callable[[Step, str], None],
        *,
        stopping: Callable[[], bool],
        threads: int = THREADS,
        backlog: int | None = None,
    ) -> None:
        self._run = run
        self._stopping = stopping
        self._threads = threads
        self._holds_back = backlog is None
        self._free = threading.Semaphore(threads + (backlog or 0))
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: dict[Future[None], str] = {}

    def take(self, step: Step, job_ids: Sequence[str]) -> None:
        """Do `step` with each job; returns once each was begun, or waits, or the process stops."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="step")
        for job_id in job_ids:
            if not self._free.acquire(blocking=self._holds_back):
                return
            if self._stopping():
                self._free.release()
                return
            begun = self._pool.submit(self._step, step, job_id)
            self._under_way[begun] = job_id
            begun.add_done_callback(self._under_way.pop)

    def drain(self, seconds: float) -> list[str]:
        """Wait until every step that was begun is done; the jobs of those that are not in time."""
        if self._pool is None:
            return []
        wait(list(self._under_way), seconds)
        left = list(self._under_way.values())
        self._pool.shutdown(wait=not left)
        return left

    def _step(self, step: Step, job_id: str) -> None:
        try:
            if not self._stopping():
                self._run(step, job_id)
        except LedgerUnavailable as error:
            log.get().warning("step_failed", job=job_id, step=step, why=str(error))
        except Exception:
            log.get().exception("step_broke", job=job_id, step=step)
        finally:
            self._free.release()
