"""Reads across all shards: lists, counts, overdue jobs, and unconfirmed attempts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from heapq import merge, nlargest
from itertools import islice
from typing import Any, cast

from redis import Redis
from redis.exceptions import ResponseError

from orchestrator.clock import DAY_MS
from orchestrator.jobs.model import Job
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.ledger import codec, identifiers, keys, snapshots
from orchestrator.ledger.refusals import LedgerMismatch, UnreadableJob
from orchestrator.ledger.results import Result
from orchestrator.ledger.script import load
from orchestrator.ledger.snapshots import Snapshot, read_snapshots, unlisted_jobs
from orchestrator.ledger.spoiled import SPOILED, read_all, read_fields
from orchestrator.ledger.tenant_limits import rate_part
from orchestrator.ledger.totals import COUNTED, Totals, of_tenants, read_totals

#: Jobs that are read in one round trip.
PAGE_JOBS = 100
#: The oldest entries that are checked for expired jobs at a time.
TIDY_ENTRIES = 100
#: The most repetitions per call. It repeats while a whole batch was expired, so the sweeps keep up
#: with every rate of jobs.
MAX_TIDY_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An attempt that may have reached its provider without a known task. `since` is in ms."""

    job_id: str
    attempt: int
    since: int


class Overview:
    """Reads across all shards. No step of a job needs this class.

    Args:
        client: returns the client of this thread.
        shards: the number of shards.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]], shards: int) -> None:
        self._redis = client
        self._shards = range(shards)
        self._tidy = load("tidy")
        self._forget = load("forget")
        self._snapshots = load("snapshots")

    def counts(self) -> dict[str, int]:
        """Return the number of jobs by status, and of contradicting events by name."""
        total: Counter[str] = Counter()
        with self._redis() as client:
            for shard in self._shards:
                counted: Any = client.hmget(keys.counts(shard), COUNTED)
                total.update(
                    {n: int(count or 0) for n, count in zip(COUNTED, counted, strict=True)}
                )
        return {name: number for name, number in total.items() if number}

    def tenants(self) -> dict[str, dict[str, int]]:
        """Return the number of open jobs (`open`), and of ended ones by status, of each tenant."""
        total: dict[str, Counter[str]] = {}
        with self._redis() as client:
            for shard in self._shards:
                for tenant, counts in of_tenants(client.hgetall(keys.counts(shard))).items():
                    total.setdefault(tenant, Counter()).update(counts)
        return {tenant: dict(counts) for tenant, counts in total.items()}

    def open_jobs(self, tenant: str) -> int:
        """Return the number of a tenant's open jobs."""
        with self._redis() as client:
            counted: list[Any] = [
                client.hget(keys.counts(shard), f"{tenant} open") for shard in self._shards
            ]
        return sum(int(count or 0) for count in counted)

    def rate_wait(self, tenant: str, rate: float, *, now: int) -> int:
        """Return the time until a tenant with this limit of jobs per second may have one more, ms.

        Each shard has a part of the limit. The one that is free first counts.
        """
        interval, burst = rate_part(rate, len(self._shards))
        with self._redis() as client:
            free_at: list[Any] = [
                client.hget(keys.counts(shard), f"{tenant} rate") for shard in self._shards
            ]
        first = max(min(float(time or 0) for time in free_at), now)
        return max(0, math.ceil(first + interval - now - burst * interval))

    def queued(self) -> dict[str, int]:
        """Return the number of jobs that wait for a submission, by provider."""
        total: Counter[str] = Counter()
        with self._redis() as client:
            for shard in self._shards:
                flows: Any = client.zrange(keys.flows(shard), 0, -1)
                waiting = [flow.split(":", 2) for flow in flows if flow.startswith("queued:")]
                with client.pipeline(transaction=False) as pipe:
                    for kind, provider, tenant in waiting:
                        pipe.zcard(keys.flow(shard, kind, provider, tenant))
                    sizes: Any = pipe.execute()
                for (_, provider, _), size in zip(waiting, sizes, strict=True):
                    total[provider] += size
        return dict(total)

    def spent(self, tenant: str, *, now: int) -> dict[tuple[str, str], float]:
        """Return a tenant's possible costs of today by provider and unit, if it has budgets."""
        total: Counter[tuple[str, str]] = Counter()
        with self._redis() as client:
            for shard in self._shards:
                stored: Any = client.hgetall(keys.spend(shard, tenant, now // DAY_MS))
                for name, amount in stored.items():
                    provider, _, unit = name.partition(" ")
                    total[provider, unit] += float(amount)  # type: ignore[assignment]
        return {name: round(float(amount), 9) for name, amount in total.items()}

    def unconfirmed(self, limit: int) -> tuple[int, list[Unconfirmed]]:
        """Return the number of unconfirmed attempts, and the `limit` newest attempts."""
        number, newest = 0, list[Unconfirmed]()
        with self._redis() as client:
            for shard in self._shards:
                key = keys.unconfirmed(shard)
                with client.pipeline(transaction=False) as pipe:
                    pipe.zcard(key)
                    if limit:
                        pipe.zrange(key, 0, limit - 1, desc=True, withscores=True)
                    size, *listed = cast(Any, pipe.execute())
                number += size
                newest += _unconfirmed(entry for entries in listed for entry in entries)
        return number, nlargest(limit, newest, key=lambda entry: entry.since)

    def snapshots(self, shard: int) -> Iterator[Snapshot]:
        """Yield every job of a shard, and every entry of a job that does not exist.

        Each is read in one transaction.
        """
        with self._redis() as client:
            for ids in self._listed(client, shard, snapshots.PAGE_JOBS):
                tenants = dict.fromkeys(ids, DEFAULT_TENANT)
                page = read_snapshots(client, self._snapshots, shard, tenants, listed=True)
                yield from (each for each in page if each.job or each.fault)
            yielded: set[str] = set()
            for unlisted in unlisted_jobs(client, shard):
                tenants = {i: unlisted[i] for i in sorted(unlisted.keys() - yielded)}
                yielded.update(tenants)
                yield from read_snapshots(client, self._snapshots, shard, tenants, listed=False)

    @contextmanager
    def watch_totals(self, shard: int) -> Iterator[Callable[[], Totals | None]]:
        """Watch the totals of a shard. Yield a function that reads them once.

        The function returns None if any job of the shard changed since the start. Every transition
        that changes a total changes the counts, so Redis notices it.
        """
        with self._redis() as client, client.pipeline(transaction=True) as watch:
            watch.watch(keys.counts(shard))
            yield lambda: read_totals(watch, shard)

    def size(self) -> int:
        """Return the number of jobs in the index."""
        with self._redis() as client:
            return sum(int(client.zcard(keys.jobs(shard))) for shard in self._shards)

    def jobs(self, job_ids: list[str]) -> dict[str, Job]:
        """Return jobs by id. Expired jobs are missing.

        Raises:
            UnreadableJob: this version cannot read one of them.
        """
        jobs, unreadable = self.readable_jobs(job_ids)
        if unreadable:
            raise unreadable[0]
        return jobs

    def readable_jobs(self, job_ids: list[str]) -> tuple[dict[str, Job], list[UnreadableJob]]:
        """Return jobs by id, and those that this version cannot read. Expired jobs are missing."""
        ids = list(dict.fromkeys(job_ids))
        jobs: dict[str, Job] = {}
        unreadable: list[UnreadableJob] = []
        with self._redis() as client:
            stored = read_fields(client, ids)
        for job_id, fields in zip(ids, stored, strict=True):
            try:
                jobs |= {job_id: codec.read_job(job_id, fields)} if fields else {}
            except UnreadableJob as error:
                unreadable.append(error)
        return jobs, unreadable

    def with_status(self, job_ids: list[str], status: str) -> list[str]:
        """Return those of the jobs that have a status. This is cheaper than reading the jobs.

        A job that cannot be read is among them, so that a list can name it.
        """
        with self._redis() as client:
            known = read_all(client, [("HGET", keys.job(job_id), "status") for job_id in job_ids])
        statuses = zip(job_ids, known, strict=True)
        return [job_id for job_id, its_status in statuses if its_status in (status, SPOILED)]

    def existing(self, job_ids: list[str]) -> set[str]:
        """Return those of the jobs that exist. They are not read."""
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.exists(keys.job(job_id))
            answers = zip(job_ids, pipe.execute(), strict=True)
        return {job_id for job_id, exists in answers if exists}

    def newest(self, limit: int, *, below: str, tenant: str | None = None) -> list[str]:
        """Return up to `limit` job ids of a tenant (None: all) before an id, newest first."""
        with self._redis() as client:
            return self._older(client, below, limit, tenant)

    def tidy(self, *, oldest: int) -> int:
        """Remove the entries of expired jobs. Jobs that ended after `oldest` (ms) still exist."""
        removed = 0
        with self._redis() as client:
            for shard in self._shards:
                prefix = f"{keys.root(shard)}job:"
                index = [keys.jobs(shard), keys.unconfirmed(shard), keys.dead(shard)]
                for _ in range(MAX_TIDY_ROUNDS):
                    answer = self._tidy.run(client, index, [TIDY_ENTRIES, prefix, oldest])
                    removed += int(answer[0])
                    if int(answer[0]) < TIDY_ENTRIES:
                        break
        return removed

    def created_before(self, shard: int, time: int) -> Iterator[list[str]]:
        """Yield the ids of jobs that were created before a time (ms), oldest first, in pages."""
        with self._redis() as client:
            for ids in self._listed(client, shard, PAGE_JOBS):
                known = [job_id for job_id in ids if identifiers.is_job_id(job_id)]
                old = [job_id for job_id in known if identifiers.created_at(job_id) < time]
                if old:
                    yield old
                if len(old) < len(known):
                    return

    def forget(self, job_id: str, *, before: int, tenant: str = "") -> Result:
        """Delete a job that ended before a time (ms) and has no pending follow-up.

        Args:
            job_id: the job.
            before: the time.
            tenant: the owner, if it is known. An expired job leaves its index, too.

        Returns:
            FORGOTTEN, KEPT (also a job that this version cannot read) or MISSING.

        Raises:
            LedgerUnavailable: Redis is away.
        """
        try:
            with self._redis() as client:
                return Result(self._forget.run(client, keys.of(job_id), [before, tenant])[0])
        except (LedgerMismatch, ResponseError):
            return Result.KEPT

    def _older(
        self, client: Redis, cursor: str | None, limit: int, tenant: str | None
    ) -> list[str]:
        """Return up to `limit` job ids of a tenant (None: all), newest first, after the cursor."""
        last = f"({cursor}" if cursor else "+"
        lists: list[Any] = [
            client.zrevrangebylex(index, last, "-", 0, limit)
            for shard in self._shards
            for index in [keys.tenant_jobs(shard, tenant) if tenant else keys.jobs(shard)]
        ]
        return list(islice(merge(*lists, reverse=True), limit))

    def _listed(self, client: Redis, shard: int, page: int) -> Iterator[list[str]]:
        last = "-"
        while True:
            ids: Any = client.zrangebylex(keys.jobs(shard), last, "+", 0, page)
            if not ids:
                return
            yield ids
            last = f"({ids[-1]}"


def _unconfirmed(entries: Iterable[tuple[str, float]]) -> Iterator[Unconfirmed]:
    """Yield the attempts of entries. What names no attempt is left out."""
    for member, score in entries:
        job_id, _, attempt = member.partition(".")
        if identifiers.is_job_id(job_id) and attempt.isdecimal():
            yield Unconfirmed(job_id, int(attempt), int(score))
