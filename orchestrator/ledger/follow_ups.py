"""The follow-ups of a job: archiving its images, sending its notification, confirming its tasks.

Each follow-up has a flow for each tenant. It is like the agenda for open jobs: a job is a member
while the follow-up is pending, and its score is when it is due. A claim moves the score to the end
of the lease. A sweep takes due follow-ups of every tenant in turn.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis import Redis

from orchestrator.jobs.model import FollowUpStatus, Image, Job, Outcome, Step
from orchestrator.ledger import codec, identifiers, keys
from orchestrator.ledger.results import Lease, Result
from orchestrator.ledger.script import Script, load
from orchestrator.ledger.script_runner import ScriptRunner
from orchestrator.ledger.spoiled import read_all
from orchestrator.ledger.timeline import read_events

#: A stream keeps at least this many of the newest notifications.
STREAM_ENTRIES = 1000
#: The most given-up archives of all tenants among which those of one tenant are looked for.
MAX_GIVEN_UP_JOBS = 2000


#: Sorted sets of a shard, and the lowest and highest score in them as Redis writes them.
ScoreRange = tuple[Callable[[Redis, int], list[str]], str, str]


@dataclass(frozen=True, slots=True)
class Backlog:
    """The number of pending and of due follow-ups, and the largest delay (ms)."""

    pending: int = 0
    due: int = 0
    lag: int = 0


@dataclass(frozen=True, slots=True)
class Dead:
    """A failed notification, and when it failed (ms)."""

    job_id: str
    since: int


class FollowUps:
    """The follow-ups of all jobs. The caller gives all times, in ms since the epoch.

    Args:
        client: returns the client of this thread.
        scripts: runs the transitions. In a step loop they share round trips.
        shards: the number of shards.
        retention_ms: how long a job is kept after its last follow-up.
    """

    def __init__(
        self,
        client: Callable[[], AbstractContextManager[Redis]],
        scripts: ScriptRunner,
        shards: int,
        retention_ms: int,
    ) -> None:
        self._redis = client
        self._scripts = scripts
        self._shards = range(shards)
        self._retention_ms = retention_ms
        self._claim = load("follow_claim")
        self._later = load("follow_later")
        self._done = load("follow_done")
        self._again = load("notify_again")
        self._archive_again = load("archive_again")
        self._due = load("due_follow_ups")

    def claim(self, job_id: str, step: Step, *, now: int, lease_ms: int) -> Lease | None:
        """Take the lease on a due follow-up. Return None if it is not due or already leased."""
        token, ends_at = secrets.token_urlsafe(9), now + lease_ms
        answer: list[Any] = self._scripts.run(
            self._claim, keys.of(job_id), [now, step, token, ends_at]
        )
        if Result(answer[0]) is not Result.CLAIMED:
            return None
        _, flat, lines = answer
        fields = codec.pairs(flat)
        events = tuple(read_events(lines, fields))
        return Lease(codec.read_job(job_id, fields), token, ends_at, events)

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
        """Plan another try at `due_at`. Return RECORDED, STALE or MISSING.

        Args:
            lease: the result of claim.
            step: the follow-up.
            now: ms.
            due_at: ms.
            tries: the number of tries with this one; None when nothing was tried.
            error: the reason of the failure.
            images: all images of the job with their new state; empty when they did not change.
        """
        detail = codec.dumps({"try": tries, "reason": error})
        args = [now, step, lease.token, due_at, "" if tries is None else tries, error]
        outcome_images, late_images = _stored(lease.job, images)
        return self._run(self._later, lease.job.id, [*args, outcome_images, detail, late_images])

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
        """End a follow-up. Return RECORDED, STALE or MISSING. For arguments see `later`."""
        detail: dict[str, Any] = {"try": tries, "reason": error} if error else {"try": tries}
        args = [now, step, lease.token, ended, tries, error]
        outcome_images, late_images = _stored(lease.job, images)
        rest = [outcome_images, codec.dumps(detail), self._retention_ms, late_images]
        return self._run(self._done, lease.job.id, [*args, *rest])

    def notify_again(self, job_id: str, *, now: int, since: int | None = None) -> Result:
        """Schedule a notification again.

        Args:
            job_id: the job.
            now: ms.
            since: a notification that was scheduled at this time (ms) or later is left as it is.

        Returns:
            RECORDED, DUPLICATE (it was scheduled since then), OPEN, SILENT or MISSING.
        """
        if not identifiers.is_job_id(job_id):
            return Result.MISSING
        return self._run(self._again, job_id, [now, "" if since is None else since])

    def archive_again(self, job: Job, images: tuple[Image, ...], *, now: int) -> Result:
        """Start a dead archive again, or make one due that waits for its next try.

        Args:
            job: as it was read. It tells whether the archive has changed since then.
            images: all images of the job with their new state.
            now: ms.

        Returns:
            RECORDED, OPEN, SILENT (there is no archive, or it is done), STALE or MISSING.
        """
        if not identifiers.is_job_id(job.id):
            return Result.MISSING
        tried = job.archive.tried_at if job.archive else None
        open_images = tuple(image for image in images if image.copy is None)
        expires = Outcome.succeeded(open_images).expires_at(now)
        outcome_images, late_images = _stored(job, images)
        args = [now, tried or "", outcome_images, late_images, expires]
        return self._run(self._archive_again, job.id, args)

    def publish(self, stream: str, entry: Mapping[str, str]) -> None:
        """Add an entry to a stream. The stream is kept for the retention time."""
        key, fields = keys.stream(stream), dict(entry)
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            pipe.xadd(key, fields, maxlen=STREAM_ENTRIES, approximate=True)  # type: ignore[arg-type]
            pipe.pexpire(key, self._retention_ms)
            failed = [a for a in pipe.execute(raise_on_error=False) if isinstance(a, Exception)]
            if failed:
                raise failed[0]  # a pipeline would change the text of the error

    def due(self, shard: int, step: Step, *, now: int, limit: int) -> list[str]:
        """Return up to `limit` jobs of a shard with a due follow-up, of every tenant in turn.

        Of a tenant's notifications, the longest overdue come first. Of its archives, the first to
        expire come first. BATCH lists due batches, the longest overdue first.
        """
        with self._redis() as client:
            if step is not Step.BATCH:
                return self._due.run(client, [keys.followed(shard, step)], [now, limit, step])
            batches: Any = client.zrangebyscore(keys.batches(shard), "-inf", now, 0, limit)
        return list(batches)

    def backlog(self, step: Step, *, now: int) -> Backlog:
        """Return the number of pending and due follow-ups."""
        total = Backlog()
        with self._redis() as client:
            for shard in self._shards:
                with client.pipeline(transaction=False) as pipe:
                    for key in follow_up_sets(client, shard, step):
                        pipe.zcard(key)
                        pipe.zcount(key, "-inf", now)
                        pipe.zrange(key, 0, 0, withscores=True)
                    answers: Any = pipe.execute()
                lags = [now - int(score) for first in answers[2::3] for _, score in first]
                total = Backlog(
                    total.pending + sum(answers[::3]),
                    total.due + sum(answers[1::3]),
                    max([total.lag, *lags]),
                )
        return total

    def at_risk(
        self, limit: int, *, now: int, before: int, tenant: str | None = None
    ) -> tuple[int, list[str]]:
        """Return the number of jobs with an image at risk, and `limit` of them.

        An image is at risk when it has no copy and its link expires before a time (ms), or when it
        was given up while its link may still work. The first to expire come first. With a tenant,
        only its jobs count, and those among the first MAX_GIVEN_UP_JOBS that were given up.
        """
        if tenant is not None:
            return self._at_risk_of(tenant, limit, now, before)
        expiring = (_expiring_sets, "-inf", str(before))
        number, first = self._first(limit, expiring, (_given_up, f"({now}", "+inf"))
        return number, list(dict.fromkeys(job_id for job_id, _ in first))[:limit]

    def _at_risk_of(self, tenant: str, limit: int, now: int, before: int) -> tuple[int, list[str]]:
        sets = partial(_expiring_set, tenant)
        number, first = self._first(limit, (sets, "-inf", str(before)))
        _, given_up = self._first(MAX_GIVEN_UP_JOBS, (_given_up, f"({now}", "+inf"))
        owners = self._tenants([job_id for job_id, _ in given_up])
        own = [entry for entry in given_up if owners[entry[0]] == tenant]
        lowest = sorted([*first, *own], key=lambda entry: entry[1])
        return number + len(own), list(dict.fromkeys(job_id for job_id, _ in lowest))[:limit]

    def _tenants(self, job_ids: list[str]) -> dict[str, Any]:
        with self._redis() as client:
            tenants = read_all(client, [("HGET", keys.job(job_id), "tenant") for job_id in job_ids])
        return dict(zip(job_ids, tenants, strict=True))

    def given_up(self, limit: int, *, now: int) -> tuple[int, list[str]]:
        """Return the number of dead archives whose first link has not expired, and `limit` of them.

        The first to expire come first.
        """
        number, first = self._first(limit, (_given_up, f"({now}", "+inf"))
        return number, [job_id for job_id, _ in first[:limit]]

    def dead(self, limit: int, *, since: int = 0) -> tuple[int, list[Dead]]:
        """Return the number of failed notifications since a time (ms), and the `limit` oldest."""
        number, oldest = self._first(limit, (_dead, str(since), "+inf"))
        return number, [Dead(job_id, int(score)) for job_id, score in oldest[:limit]]

    def _first(self, limit: int, *ranges: ScoreRange) -> tuple[int, list[tuple[str, float]]]:
        """Return the number of jobs in ranges of sorted sets, and those with the lowest scores.

        Each range gives at most `limit` jobs. A job may be in several ranges.
        """
        number, lowest = 0, list[tuple[str, float]]()
        with self._redis() as client:
            for shard in self._shards:
                with client.pipeline(transaction=False) as pipe:
                    for sets, low, high in ranges:
                        for key in sets(client, shard):
                            pipe.zcount(key, low, high)
                            if limit:
                                pipe.zrangebyscore(key, low, high, 0, limit, withscores=True)
                    answers: Any = pipe.execute()
                step = 2 if limit else 1
                number += sum(answers[::step])
                listed = [entry for entries in answers[1::2] if limit for entry in entries]
                lowest += [entry for entry in listed if identifiers.is_job_id(entry[0])]
        return number, sorted(lowest, key=lambda entry: entry[1])

    def _run(self, script: Script, job_id: str, args: list[Any]) -> Result:
        return Result(self._scripts.run(script, keys.of(job_id), args)[0])


def follow_up_sets(client: Redis, shard: int, step: Step) -> list[str]:
    """Return the keys of the pending follow-ups of all tenants, also of an older version."""
    tenants: Any = client.zrange(keys.followed(shard, step), 0, -1)
    flows = [keys.follow_up(shard, step, tenant) for tenant in tenants]
    return [*flows, keys.old_follow_up(shard, step)]


def _expiring_sets(client: Redis, shard: int) -> list[str]:
    tenants: Any = client.zrange(keys.followed(shard, Step.ARCHIVE), 0, -1)
    return [*(keys.expiring(shard, tenant) for tenant in tenants), keys.old_expiring(shard)]


def _expiring_set(tenant: str, _: Redis, shard: int) -> list[str]:
    return [keys.expiring(shard, tenant)]


def _given_up(_: Redis, shard: int) -> list[str]:
    return [keys.given_up(shard)]


def _dead(_: Redis, shard: int) -> list[str]:
    return [keys.dead(shard)]


def _stored(job: Job, images: tuple[Image, ...]) -> tuple[str, str]:
    """Return the stored form of the outcome's images and of the late images."""
    number = len(job.images)
    outcome, late = images[:number], images[number:]
    return codec.images_text(job.id, outcome), codec.images_text(job.id, late)
