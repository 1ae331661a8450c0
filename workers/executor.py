"""The places of one kind of work: who gets one, who is left out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil

from orchestrator import log
from orchestrator.jobs.model import Step
from orchestrator.ledger import LedgerUnavailable
from orchestrator.metrics.labels import StepFailure
from orchestrator.step_loop import StepLoop

#: The largest part of a lane's places that one kind of step holds, if the lane has two kinds. So a
#: backlog of polls delays no submission, and the reverse.
SHARE = 3 / 4
#: A lane looks for jobs that were left out when at most this part of the places is used.
REFILL_SHARE = 3 / 4


class StepExecutor:
    """Runs steps side by side in a step loop. `offer` never waits.

    A job without a place is left to the agenda: it stays due, because only a step claims it. A step
    that fails is logged. Its lease ends, and the agenda brings the job back.

    Args:
        run: does one step of one job.
        stopping: says whether the process is stopping. Then no further step is started.
        places: the steps that may run at once.
        loop: runs the steps. Other executors may share it.
        share: the most places of one kind of step, as a part of all.
        claims_at_once: whether a step claims its job as soon as it runs. Until then a sweep lists
            the job again. Otherwise a job is not started again while its step runs.
        refill: is called when jobs were left to the agenda and there are places for them again.
        count: is called when a step breaks off.
    """

    def __init__(
        self,
        run: Callable[[Step, str], None],
        *,
        stopping: Callable[[], bool],
        places: int,
        loop: StepLoop,
        share: float = 1.0,
        claims_at_once: bool = True,
        refill: Callable[[], None] = lambda: None,
        count: Callable[[Step, StepFailure], None] = lambda *_: None,
    ) -> None:
        self._run = run
        self._stopping = stopping
        self._loop = loop
        self._claims_at_once = claims_at_once
        self._refill = refill
        self._count = count
        self.places = places
        self.most_of_a_step = ceil(share * places)
        self._changed = threading.Condition(threading.RLock())
        #: The jobs that have a place, by step: they run, or the loop begins them soon.
        self._held: Counter[Step] = Counter()
        self._waiting: set[tuple[Step, str]] = set()
        #: How many steps run for a job. A second one ends at once, because the first has the lease.
        self._running: Counter[tuple[Step, str]] = Counter()
        #: The steps that had no place left, so further due jobs may be in the agenda.
        self._was_full: set[Step] = set()

    def refillable(self) -> bool:
        """Return whether jobs may be left in the agenda, and a part of the places is free again."""
        with self._changed:
            if self._held.total() > REFILL_SHARE * self.places:
                return False
            return any(
                self._held[step] <= REFILL_SHARE * self.most_of_a_step for step in self._was_full
            )

    def offer(self, step: Step, job_ids: Sequence[str]) -> None:
        """Start `step` for each job that has a place. A job that has one already is left out."""
        for job_id in job_ids:
            if self._stopping():
                return
            with self._changed:
                if self._is_unclaimed(step, job_id):
                    continue
                if self._has_place(step):
                    self._start(step, job_id)
                if not self._has_place(step):
                    self._was_full.add(step)

    def room(self) -> int:
        """Return how many due jobs a sweep may list for these places.

        A job that is not claimed is listed again by the sweep, and needs room in the list.
        """
        with self._changed:
            free = 0 if self._stopping() else self.places - self._held.total()
            if not free:
                return 0
            self._was_full.clear()
            unclaimed = len(self._waiting) + (0 if self._claims_at_once else len(self._running))
            return free + unclaimed

    def drain(self, seconds: float) -> list[str]:
        """Wait for the started steps, and return the jobs whose steps did not end in time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unfinished(), seconds)
            return [job_id for _, job_id in self._unfinished()]

    def _is_unclaimed(self, step: Step, job_id: str) -> bool:
        """Return whether a job has a place, and may not be claimed yet."""
        if (step, job_id) in self._waiting:
            return True
        return not self._claims_at_once and (step, job_id) in self._running

    def _unfinished(self) -> set[tuple[Step, str]]:
        running = set(self._running)
        return running if self._stopping() else running | self._waiting

    def _has_place(self, step: Step) -> bool:
        return self._held[step] < self.most_of_a_step and self._held.total() < self.places

    def _start(self, step: Step, job_id: str) -> None:
        self._held[step] += 1
        self._waiting.add((step, job_id))
        action = partial(self._step, step, job_id)
        try:
            self._loop.start(action)
        except BaseException:  # there are too many open files, or threads
            self._held[step] -= 1
            self._waiting.discard((step, job_id))
            raise

    def _step(self, step: Step, job_id: str) -> None:
        with self._changed:
            self._waiting.discard((step, job_id))
            self._running[step, job_id] += 1
        try:
            if not self._stopping():
                self._run(step, job_id)
        except LedgerUnavailable as error:
            self._count(step, StepFailure.AWAY)
            log.get().warning("step_failed", job=job_id, step=step, reason=str(error))
        except BaseException:  # also SystemExit of a plug-in
            self._count(step, StepFailure.CRASH)
            log.get().exception("step_crashed", job=job_id, step=step)
        finally:
            with self._changed:
                self._held[step] -= 1
                self._running[step, job_id] -= 1
                if not self._running[step, job_id]:
                    del self._running[step, job_id]
                self._changed.notify_all()
                refillable = bool(self._was_full) and self.refillable()
            if refillable:
                self._refill()
