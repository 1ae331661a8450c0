"""The lanes of a worker process: one for each provider and for each follow-up.

The steps of all providers run in one thread, which waits for all their calls at once. All archives
run in another one, and so do all notifications. A lane that hangs takes no place of another.
Nothing here waits: a job without a place in its lane is left to the agenda.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

from orchestrator.jobs.model import FOLLOW_UPS, Step
from orchestrator.ledger import Room
from orchestrator.messages import JobsByProvider
from orchestrator.metrics.labels import StepFailure
from orchestrator.settings.settings import Settings
from orchestrator.step_loop import StepLoop
from workers.executor import SHARE, StepExecutor

#: The places for the confirm steps of all jobs. They are rare, and not urgent.
CONFIRM_PLACES = 4
#: The places for the jobs of all providers without an API key. Their steps call no provider.
OTHER_PLACES = 8
#: The places for archives, as a multiple of ORCHESTRATOR_ARCHIVE_THREADS. Most of them wait for
#: Redis or the disk, or for a place to download. Sweeps fill them no more often than every 50 ms.
#: Until then the others must be enough work: with 4 instead of 12, this loop was idle for a third
#: of the time while a backlog of small images was archived.
ARCHIVE_PLACES = 12
#: The same for notifications and ORCHESTRATOR_NOTIFY_THREADS. Most of them wait for Redis, or for a
#: slot of their host.
NOTIFY_PLACES = 4
#: The lane of each step that needs no provider. Batches use the places for notifications.
LANE_OF = {**{step: step for step in FOLLOW_UPS}, Step.BATCH: Step.NOTIFY}


class Lanes:
    """The lanes of one process. It is a `Places` of the sweep.

    Args:
        run: does one step of one job.
        settings: how many places each lane has.
        stopping: says whether the process is stopping. Then no further step is started.
        refill: is called when jobs were left to the agenda and there are places for them again.
        count: is called when a step breaks off.
        serves: says whether this process does a step. Other jobs are left to other workers.
    """

    def __init__(
        self,
        run: Callable[[Step, str], None],
        settings: Settings,
        *,
        stopping: Callable[[], bool],
        refill: Callable[[], None],
        count: Callable[[Step, StepFailure], None] = lambda *_: None,
        serves: Callable[[Step], bool] = lambda _: True,
    ) -> None:
        self._serves = serves
        lane = partial(StepExecutor, run, stopping=stopping, refill=refill, count=count)
        self._loop = StepLoop()
        #: The archives have a loop of their own, because they write files.
        self._archive_loop = StepLoop("archives")
        self._notify_loop = StepLoop("notifications")
        self.providers = {
            name: lane(places=provider.concurrency, loop=self._loop, share=SHARE)
            for name, provider in settings.providers.items()
        }
        self.others = lane(places=OTHER_PLACES, loop=self._loop)
        self.follow_ups = {
            Step.ARCHIVE: lane(  # a step waits for a place to download before it claims its job
                places=ARCHIVE_PLACES * settings.archive_threads,
                loop=self._archive_loop,
                claims_at_once=False,
            ),
            Step.NOTIFY: lane(
                places=NOTIFY_PLACES * settings.notify_threads, loop=self._notify_loop
            ),
            Step.CONFIRM: lane(places=CONFIRM_PLACES, loop=self._loop),
        }

    def offer(self, step: Step, jobs: JobsByProvider) -> None:
        """Start the step of each job that has a place."""
        for provider, job_ids in jobs.items():
            self.take(step, job_ids, provider)

    def take(self, step: Step, job_ids: Sequence[str], provider: str) -> None:
        """Start the step of each job that has a place. `provider` is empty for a follow-up."""
        if not self._serves(step):
            return
        if step in LANE_OF:
            lane = self.follow_ups[LANE_OF[step]]
        else:
            lane = self.providers.get(provider, self.others)
        lane.offer(step, job_ids)

    def room(self, chosen: Callable[[StepExecutor], bool] = lambda _: True) -> Room:
        """Return how many due jobs a sweep may list now. Lanes that are not chosen have no room."""

        def room(lane: StepExecutor, step: Step = Step.SUBMIT) -> int:
            return lane.room() if self._serves(step) and chosen(lane) else 0

        return Room(
            providers={name: room(lane) for name, lane in self.providers.items()},
            others=room(self.others),
            follow_ups={step: room(self.follow_ups[lane], step) for step, lane in LANE_OF.items()},
        )

    def drain(self, seconds: float) -> list[str]:
        """Wait for the started steps, and return the jobs whose steps did not end in time."""
        ends = monotonic() + seconds
        lanes = (*self.providers.values(), self.others, *self.follow_ups.values())
        left = [job for lane in lanes for job in lane.drain(max(0.0, ends - monotonic()))]
        if not left:
            for loop in (self._loop, self._archive_loop, self._notify_loop):
                loop.stop()
        return left


class RefillableLanes:
    """The lanes that left jobs to the agenda, as the places of a sweep between the seconds."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self.take = lanes.take

    def room(self) -> Room:
        """Return how many due jobs may be listed for these lanes."""
        return self._lanes.room(StepExecutor.refillable)
