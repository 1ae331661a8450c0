"""What follows from a job's outcome: its images are archived, and its caller is told.

Each has a sorted set of its own, like the agenda for open jobs: a job stands in it while it is
pending, scored by its next look, and claiming moves that to the end of the lease.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis import Redis

from orchestrator.jobs.model import FollowUpStatus, Image, Step
from orchestrator.ledger import codec, keys
from orchestrator.ledger.results import Lease, Result
from orchestrator.ledger.script import Script, load

#: How many of the newest notifications a stream keeps, at least.
STREAM_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many jobs wait for a follow-up, how many of those are due, how overdue one is (ms)."""

    pending: int = 0
    due: int = 0
    lag: int = 0


@dataclass(frozen=True, slots=True)
class Dead:
    """A notification that was given up, and when (ms)."""

    job_id: str
    since: int


class FollowUps:
    """The follow-ups of all jobs. Times are ms since the epoch, given by the caller.

    Args:
        client: gives this thread's client, as the ledger uses it.
        shards: of the ledger.
        retention_ms: how long a job is kept when nothing follows any more.
    """

    def __init__(
        self,
        client: Callable[[], AbstractContextManager[Redis]],
        shards: int,
        retention_ms: int,
    ) -> None:
        self._redis = client
        self._shards = range(shards)
        self._retention_ms = retention_ms
        self._claim = load("follow_claim")
        self._later = load("follow_later")
        self._done = load("follow_done")
        self._again = load("notify_again")
        self._due_archive = load("due_archive")

    # Transitions ---------------------------------------------------------------------------

    def claim(self, job_id: str, step: Step, *, now: int, lease_ms: int) -> Lease | None:
        """Take the lease on a follow-up that is due; None when it is not, or is another's."""
        token, ends_at = secrets.token_urlsafe(9), now + lease_ms
        with self._redis() as client:
            args: list[str | int] = [now, step, token, ends_at]
            answer = self._claim.run(client, keys.of(job_id), args)
        if Result(answer[0]) is not Result.CLAIMED:
            return None
        fields: Any = answer[1]
        return Lease(codec.read_job(job_id, codec.pairs(fields)), token, ends_at)

    def later(
        self,
        lease: Lease,
        step: Step,
        *,
        now: int,
        due_at: int,
        tries: int | None = None,
        error: str = "",
        images: tuple[Image, ...] = (),
    ) -> Result:
        """Try again at `due_at`: RECORDED, or STALE, MISSING.

        Args:
            lease: what claim gave.
            step: ARCHIVE or NOTIFY.
            now: ms.
            due_at: ms.
            tries: how many there were with this one; None when nothing was tried.
            error: why it failed.
            images: the job's images, as far as they got; empty when they did not change.
        """
        told = codec.dumps({"try": tries, "reason": error})
        args = [now, step, lease.token, due_at, "" if tries is None else tries, error]
        return self._run(self._later, lease.job.id, [*args, codec.dumps(images), told])

    def done(
        self,
        lease: Lease,
        step: Step,
        ended: FollowUpStatus,
        *,
        now: int,
        tries: int,
        error: str = "",
        images: tuple[Image, ...] = (),
    ) -> Result:
        """It is done, or given up: RECORDED, or STALE, MISSING. Arguments as for `later`."""
        detail: dict[str, Any] = {"try": tries, "reason": error} if error else {"try": tries}
        args = [now, step, lease.token, ended, tries, error]
        rest = [codec.dumps(images), codec.dumps(detail), self._retention_ms]
        return self._run(self._done, lease.job.id, [*args, *rest])

    def notify_again(self, job_id: str, *, now: int) -> Result:
        """Have the caller told again: RECORDED, or OPEN, SILENT, MISSING."""
        if not keys.is_job_id(job_id):
            return Result.MISSING
        return self._run(self._again, job_id, [now])

    def publish(self, stream: str, entry: Mapping[str, str]) -> None:
        """Tell a caller on the same Redis, who reads this stream; kept for the retention time."""
        key, fields = keys.stream(stream), dict(entry)
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            pipe.xadd(key, fields, maxlen=STREAM_KEPT, approximate=True)  # type: ignore[arg-type]
            pipe.pexpire(key, self._retention_ms)
            failed = [a for a in pipe.execute(raise_on_error=False) if isinstance(a, Exception)]
            if failed:
                raise failed[0]  # as Redis worded it; a pipeline would put words of its own before

    # Reading -------------------------------------------------------------------------------

    def due(self, shard: int, step: Step, *, now: int, limit: int) -> list[str]:
        """Up to `limit` jobs of a shard whose follow-up is due.

        Notifications: the longest overdue first. Archives: those whose links die soonest first.
        """
        with self._redis() as client:
            if step is Step.ARCHIVE:
                pair = [keys.follow_up(shard, step), keys.expiring(shard)]
                return self._due_archive.run(client, pair, [now, limit])
            found: Any = client.zrangebyscore(keys.follow_up(shard, step), "-inf", now, 0, limit)
        return list(found)

    def backlog(self, step: Step, *, now: int) -> Backlog:
        """What is pending, and what is overdue."""
        total = Backlog()
        with self._redis() as client:
            for shard in self._shards:
                key = keys.follow_up(shard, step)
                with client.pipeline(transaction=False) as pipe:
                    pipe.zcard(key)
                    pipe.zcount(key, "-inf", now)
                    pipe.zrange(key, 0, 0, withscores=True)
                    pending, due, first = pipe.execute()
                lag = max([total.lag, *(now - int(score) for _, score in first)])
                total = Backlog(total.pending + pending, total.due + due, lag)
        return total

    def at_risk(self, *, before: int) -> int:
        """How many jobs have images that are not archived and whose links may die before then."""
        with self._redis() as client:
            found = [client.zcount(keys.expiring(s), "-inf", before) for s in self._shards]
        return sum(int(number) for number in found)

    def dead(self, limit: int, *, since: int = 0) -> tuple[int, list[Dead]]:
        """How many notifications were given up since then, and the `limit` oldest of them."""
        number, oldest = 0, []
        with self._redis() as client:
            for shard in self._shards:
                key = keys.dead(shard)
                with client.pipeline(transaction=False) as pipe:
                    pipe.zcount(key, since, "+inf")
                    pipe.zrangebyscore(key, since, "+inf", 0, limit, withscores=True)
                    answers: Any = pipe.execute()
                number += answers[0]
                oldest += [Dead(job_id, int(score)) for job_id, score in answers[1]]
        return number, sorted(oldest, key=lambda found: found.since)[:limit]

    def _run(self, script: Script, job_id: str, args: list[Any]) -> Result:
        with self._redis() as client:
            return Result(script.run(client, keys.of(job_id), args)[0])
