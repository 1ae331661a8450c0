"""The threads of one kind of work, with a short queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from orchestrator import log
from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable
from orchestrator.metrics.labels import StepFailure


class StepExecutor:
    """Runs steps in its own threads. `offer` never waits.

    As many jobs may wait for a thread as there are threads. A job without a place is left to the
    agenda: it stays due, because only a thread claims it. A step that fails is logged. Its lease
    ends, and the agenda brings the job back.

    Args:
        run: does one step of one job.
        stopping: says whether the process is stopping. Then no further step is started.
        threads: steps that run at once.
        refill: is called when jobs were left to the agenda and there are places for them again.
        count: is called when a step breaks off.
    """

    def __init__(
        self,
        run: Callable[[Step, str], None],
        *,
        stopping: Callable[[], bool],
        threads: int,
        refill: Callable[[], None] = lambda: None,
        count: Callable[[Step, StepFailure], None] = lambda *_: None,
    ) -> None:
        self._run = run
        self._stopping = stopping
        self._threads = threads
        self._refill = refill
        self._count = count
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        #: The jobs that have a place: they run or wait.
        self._jobs = 0
        self._waiting: set[tuple[Step, str]] = set()
        #: There was no place left, so further due jobs may be in the agenda.
        self._was_full = False
        self._futures: dict[Future[None], str] = {}

    @property
    def places(self) -> int:
        """The jobs that may run or wait at once."""
        return 2 * self._threads

    def refillable(self) -> bool:
        """Return whether jobs may be left in the agenda, and half of the queue is free again."""
        return self._was_full and self._jobs <= self._threads + self._threads // 2

    def offer(self, step: Step, job_ids: Sequence[str]) -> None:
        """Start `step` for each job that has a place. A job that waits already is left out."""
        for job_id in job_ids:
            if self._stopping():
                return
            with self._lock:
                if (step, job_id) in self._waiting:
                    continue
                if self._jobs < self.places:
                    self._start(step, job_id)
                self._was_full |= self._jobs == self.places

    def room(self) -> int:
        """Return how many due jobs a sweep may list for these threads.

        A waiting job is not claimed, so the sweep lists it again, and it needs room in the list.
        """
        with self._lock:
            free = 0 if self._stopping() else self.places - self._jobs
            if not free:
                return 0
            self._was_full = False
            return free + len(self._waiting)

    def drain(self, seconds: float) -> list[str]:
        """Wait for the started steps, and return the jobs whose steps did not end in time."""
        if self._pool is None:
            return []
        if self._stopping():
            self._pool.shutdown(wait=False, cancel_futures=True)  # nobody has claimed what waits
        wait(list(self._futures), seconds)
        left = list(self._futures.values())
        self._pool.shutdown(wait=not left)
        return left

    def _start(self, step: Step, job_id: str) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="step")
        self._jobs += 1
        self._waiting.add((step, job_id))
        future = self._pool.submit(self._step, step, job_id)
        self._futures[future] = job_id
        future.add_done_callback(self._futures.pop)

    def _step(self, step: Step, job_id: str) -> None:
        with self._lock:
            self._waiting.discard((step, job_id))
        try:
            if not self._stopping():
                self._run(step, job_id)
        except LedgerUnavailable as error:
            self._count(step, StepFailure.AWAY)
            log.get().warning("step_failed", job=job_id, step=step, reason=str(error))
        except Exception:
            self._count(step, StepFailure.CRASH)
            log.get().exception("step_crashed", job=job_id, step=step)
        finally:
            with self._lock:
                self._jobs -= 1
            if self.refillable():
                self._refill()
