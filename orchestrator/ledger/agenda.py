"""The agenda: the open jobs, and when each is due."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis import Redis

from orchestrator import log
from orchestrator.jobs.model import STEP_OF, Status, Step
from orchestrator.ledger import identifiers, keys
from orchestrator.ledger.admission import Admission
from orchestrator.ledger.results import Result, Room
from orchestrator.ledger.script import load


@dataclass(frozen=True, slots=True)
class AgendaCounts:
    """The open jobs, and those that could run now.

    Attributes:
        open: the number of open jobs.
        due: the due jobs that need not wait for their provider.
        lag: the longest time that one of these could have run, ms.
    """

    open: int
    due: int
    lag: int


class Agenda:
    """Lists due jobs, and makes a job due. A claim decides who does the step.

    Args:
        client: returns the client of this thread.
        admission: knows the limits of the providers.
    """

    def __init__(
        self, client: Callable[[], AbstractContextManager[Redis]], admission: Admission
    ) -> None:
        self._redis = client
        self._admission = admission
        self._due = load("due")
        self._counts = load("agenda_counts")
        self._poll_now = load("poll_now")

    def due(self, shard: int, *, now: int, limit: int) -> list[tuple[str, Step]]:
        """Return due jobs of a shard that may start now, each with its step."""
        listed = self.due_within(shard, now=now, limit=limit, room=Room(others=limit))
        return [(job_id, step) for job_id, step, _ in listed]

    def due_within(
        self, shard: int, *, now: int, limit: int, room: Room, horizon_ms: int = 0
    ) -> list[tuple[str, Step, str]]:
        """Return due jobs of a shard that have room now: job, step and provider.

        Every provider and tenant is listed in turn.

        A job that has ended, or that nobody can claim, is corruption. It is left out for a minute,
        and logged. `verify` reports it.

        Args:
            shard: its number.
            now: ms.
            limit: the most jobs of a provider that wait for the same thing.
            room: how many jobs may be listed.
            horizon_ms: no more submissions are listed than may start within this time.
        """
        places = " ".join(f"{name} {number}" for name, number in room.providers.items())
        limits = self._admission.limits[shard]
        args: list[str | int] = [now, limit, now + horizon_ms, limits, places, room.others]
        with self._redis() as client:
            answer: Any = self._due.run(client, [keys.agenda(shard)], args)
        flat, left_out = answer
        for job_id in left_out:
            log.get().error("job_left_out", job=job_id, action="run `orchestrator verify`")
        return [
            (job_id, STEP_OF[Status(status)], provider)
            for job_id, status, provider in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        ]

    def poll_now(self, job_id: str, *, now: int, interval_ms: int) -> Result:
        """Make the poll of a running job due now. A second call within `interval_ms` does nothing.

        Returns:
            RUNNING, LIMITED (the last call was too recent), OPEN (no provider task is known yet),
            TERMINAL or MISSING.
        """
        if not identifiers.is_job_id(job_id):
            return Result.MISSING
        with self._redis() as client:
            answer = self._poll_now.run(client, keys.of(job_id), [now, interval_ms])
        return Result(answer[0])

    def counts(self, *, now: int) -> AgendaCounts:
        """Return the number of open jobs, and of due jobs that may start now."""
        total = AgendaCounts(0, 0, 0)
        with self._redis() as client:
            for shard, limits in enumerate(self._admission.limits):
                answer: Any = self._counts.run(client, [keys.agenda(shard)], [now, limits])
                jobs, due, since = answer
                lag = now - int(since) if since else 0
                total = AgendaCounts(total.open + jobs, total.due + due, max(total.lag, lag))
        return total
