"""The places of one kind of work: who gets one, who is left out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from math import ceil

from orchestrator import log
from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable
from orchestrator.metrics.labels import StepFailure

#: The largest part of a lane's places that one kind of step holds, if the lane has two kinds. So a
#: backlog of polls delays no submission, and the reverse.
SHARE = 3 / 4
#: A lane looks for jobs that were left out when at most this part of the places is used.
REFILL_SHARE = 3 / 4


class StepExecutor:
    """Runs steps side by side. `offer` never waits.

    A job without a place is left to the agenda: it stays due, because only a step claims it. A step
    that fails is logged. Its lease ends, and the agenda brings the job back.

    Args:
        run: does one step of one job.
        stopping: says whether the process is stopping. Then no further step is started.
        threads: steps that run at once in threads of this executor. As many more may wait.
        pool: runs the steps at once instead, and is shared with other executors. Then `threads` is
            the number of places.
        share: the most places of one kind of step, as a part of all.
        refill: is called when jobs were left to the agenda and there are places for them again.
        count: is called when a step breaks off.
    """

    def __init__(
        self,
        run: Callable[[Step, str], None],
        *,
        stopping: Callable[[], bool],
        threads: int,
        pool: Executor | None = None,
        share: float = 1.0,
        refill: Callable[[], None] = lambda: None,
        count: Callable[[Step, StepFailure], None] = lambda *_: None,
    ) -> None:
        self._run = run
        self._stopping = stopping
        self._threads = threads
        self._shared = pool is not None
        self._pool = pool
        self._refill = refill
        self._count = count
        #: The jobs that may run or wait at once.
        self.places = threads if self._shared else 2 * threads
        self.most_of_a_step = ceil(share * self.places)
        self._lock = threading.Lock()
        #: The jobs that have a place, by step: they run or wait.
        self._held: Counter[Step] = Counter()
        self._waiting: set[tuple[Step, str]] = set()
        #: The steps that had no place left, so further due jobs may be in the agenda.
        self._was_full: set[Step] = set()
        self._futures: dict[Future[None], str] = {}

    def refillable(self) -> bool:
        """Return whether jobs may be left in the agenda, and a part of the places is free again."""
        with self._lock:
            if self._held.total() > REFILL_SHARE * self.places:
                return False
            return any(
                self._held[step] <= REFILL_SHARE * self.most_of_a_step for step in self._was_full
            )

    def offer(self, step: Step, job_ids: Sequence[str]) -> None:
        """Start `step` for each job that has a place. A job that waits already is left out."""
        for job_id in job_ids:
            if self._stopping():
                return
            with self._lock:
                if (step, job_id) in self._waiting:
                    continue
                if self._has_place(step):
                    self._start(step, job_id)
                if not self._has_place(step):
                    self._was_full.add(step)

    def room(self) -> int:
        """Return how many due jobs a sweep may list for these places.

        A waiting job is not claimed, so the sweep lists it again, and it needs room in the list.
        """
        with self._lock:
            free = 0 if self._stopping() else self.places - self._held.total()
            if not free:
                return 0
            self._was_full.clear()
            return free + len(self._waiting)

    def drain(self, seconds: float) -> list[str]:
        """Wait for the started steps, and return the jobs whose steps did not end in time."""
        if self._pool is None:
            return []
        if self._stopping() and not self._shared:
            self._pool.shutdown(wait=False, cancel_futures=True)  # nobody has claimed what waits
        wait(list(self._futures), seconds)
        left = list(self._futures.values())
        if not self._shared:
            self._pool.shutdown(wait=not left)
        return left

    def _has_place(self, step: Step) -> bool:
        return self._held[step] < self.most_of_a_step and self._held.total() < self.places

    def _start(self, step: Step, job_id: str) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="step")
        self._held[step] += 1
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
                self._held[step] -= 1
            if self.refillable():
                self._refill()
