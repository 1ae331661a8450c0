"""The sweep: find every due job, and have its step done.

A sweep runs once a second, so a lost message delays a job by at most one second. A worker's sweep
gives the jobs to the worker's own lanes, and takes only what has a place there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

from orchestrator import log
from orchestrator.clock import DAY_MS
from orchestrator.jobs.model import FOLLOW_UPS, Step
from orchestrator.ledger import LedgerUnavailable, Room
from orchestrator.messages import Nudger
from orchestrator.metrics import definitions as metrics
from orchestrator.runtime import Runtime

#: The most open jobs of a provider that one sweep takes per shard: this many queued jobs, this many
#: running ones, and this many to send again. The next sweep takes others.
MAX_JOBS = 1000
#: The part of the sweeps that also tidy the ledger.
TIDY_SHARE = 0.1
#: The most follow-ups of a kind that one sweep takes. The next sweep takes the rest.
MAX_FOLLOW_UPS = 500
#: A due job: its id, its step and its provider.
Due = tuple[str, Step, str]
#: Lists due jobs.
ListJobs = Callable[[], Iterable[Due]]


class Places(Protocol):
    """Where the steps of due jobs are done."""

    def room(self) -> Room:
        """Return how many jobs may be taken now."""

    def take(self, step: Step, job_ids: Sequence[str], provider: str) -> None:
        """Have the step of these jobs done soon. `provider` is empty for a follow-up."""


class NudgedWorkers:
    """The places of a process without lanes: it nudges the workers."""

    def __init__(self, nudger: Nudger) -> None:
        self._nudger = nudger

    def room(self) -> Room:
        """Return the room of a sweep. Nobody knows how many jobs the workers have a place for."""
        return Room(
            others=MAX_JOBS, follow_ups=dict.fromkeys((*FOLLOW_UPS, Step.BATCH), MAX_FOLLOW_UPS)
        )

    def take(self, step: Step, job_ids: Sequence[str], provider: str) -> None:
        """Nudge the jobs."""
        self._nudger.nudge(step, job_ids, provider)


def reconcile(runtime: Runtime, places: Places | None = None) -> int:
    """Take every due job that has a place. Return the number of these jobs.

    One sweep in ten also tidies the ledger.

    Args:
        runtime: of this process.
        places: where the steps are done; None nudges the workers.

    Raises:
        LedgerUnavailable: the next sweep finds the same jobs.
    """
    with runtime.timings.measured(metrics.SWEEP_SECONDS):
        taken = take_due(runtime, places or NudgedWorkers(runtime.nudger))
        if runtime.random() < TIDY_SHARE:
            retention = int(runtime.settings.retention_days * DAY_MS)
            runtime.ledger.overview.tidy(oldest=runtime.clock() - retention)
        runtime.ledger.installation.mark_sweep(now=runtime.clock(), host=socket.gethostname())
    return taken


def take_due(runtime: Runtime, places: Places) -> int:
    """Take the due jobs that have a place, and return their number. The ledger does not change.

    Raises:
        LedgerUnavailable: the next sweep finds the same jobs.
    """
    room, taken, shards = places.room(), 0, runtime.ledger.shards
    first = int(runtime.random() * shards)  # so that no shard always comes last
    for number in range(shards):
        shard = (first + number) % shards
        due: dict[tuple[Step, str], list[str]] = {}
        for list_jobs in _lists(runtime, shard, room):
            for job_id, step, provider in _listed(list_jobs, shard):
                due.setdefault((step, provider), []).append(job_id)
        for (step, provider), job_ids in due.items():
            room.take(step, provider, len(job_ids))
            places.take(step, job_ids, provider)
            taken += len(job_ids)
    return taken


def _listed(list_jobs: ListJobs, shard: int) -> Iterable[Due]:
    """Return due jobs; none if their list cannot be read. Then the other lists are not delayed."""
    try:
        return list_jobs()
    except LedgerUnavailable:
        raise
    except Exception:  # noqa: BLE001  # somebody changed a key of the list
        log.get().exception("due_jobs_unreadable", shard=shard)
        return ()


def _lists(runtime: Runtime, shard: int, room: Room) -> Iterator[ListJobs]:
    """Yield functions that list the due jobs of a shard that have room."""
    now, ledger = runtime.clock(), runtime.ledger
    # A sweep takes what may be submitted until the next one.
    horizon = int(runtime.settings.sweep_seconds * 1000)
    if room.for_providers:
        yield partial(
            ledger.agenda.due_within, shard, now=now, limit=MAX_JOBS, room=room, horizon_ms=horizon
        )
    for step, places in room.follow_ups.items():
        if places:
            yield partial(_follow_ups, runtime, shard, step, now, min(places, MAX_FOLLOW_UPS))


def _follow_ups(runtime: Runtime, shard: int, step: Step, now: int, limit: int) -> list[Due]:
    listed = runtime.ledger.follow_ups.due(shard, step, now=now, limit=limit)
    return [(job_id, step, "") for job_id in listed]
