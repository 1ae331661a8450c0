"""The ledger as a whole: lists, counts, what is overdue, and what may have been paid in vain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from heapq import merge, nlargest
from itertools import islice
from typing import Any

from redis import Redis
from redis.exceptions import WatchError

from orchestrator.jobs.model import FOLLOW_UPS, Event, Job, Status, Step
from orchestrator.ledger import codec, keys
from orchestrator.ledger.results import Result
from orchestrator.ledger.script import load

#: How many jobs are read in one go.
PAGE = 100
#: How many jobs one call looks at, at most, for those that match.
EXAMINED = 1000
#: How many of the oldest entries are looked at for expired jobs in one go, and how often in a call:
#: on and on while there is nothing but expired ones, so that no rate of jobs outruns the sweeps.
TIDIED, ROUNDS = 100, 50


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, newest first; `cursor` continues after them, None at the end."""

    jobs: list[Job]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """An attempt that may have reached its provider, whose task nobody knows; `since` in ms."""

    job_id: str
    attempt: int
    since: int


@dataclass(frozen=True, slots=True)
class Agenda:
    """How many jobs are open, how many are due, and how long the most overdue one is (ms)."""

    open: int
    due: int
    lag: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job with its timeline and its next look (ms), as they were at one moment.

    `job` is None when it is gone; `listed` says whether the index of jobs has it; `follow_ups` has
    the next look (ms) of each follow-up that is pending.
    """

    job_id: str
    job: Job | None
    events: list[Event]
    due_at: int | None
    follow_ups: dict[Step, int]
    listed: bool


class Overview:
    """Looks over every shard. Nothing here is on a job's way.

    Args:
        client: gives this thread's client, as the ledger uses it.
        shards: of the ledger.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]], shards: int) -> None:
        self._redis = client
        self._shards = range(shards)
        self._tidy = load("tidy")
        self._forget = load("forget")

    def page(
        self,
        limit: int,
        *,
        cursor: str | None = None,
        status: Status | None = None,
        provider: str | None = None,
    ) -> Page:
        """Up to `limit` jobs that match, newest first.

        Looks at no more than EXAMINED jobs, so a page may hold fewer and still have a cursor.
        """
        found: list[Job] = []
        examined = 0
        with self._redis() as client:
            while examined < EXAMINED:
                ids = self._older(client, cursor, min(limit * 2, EXAMINED - examined))
                if not ids:
                    return Page(found, None)
                for job in self._read(client, ids):
                    cursor = job.id
                    if status in (None, job.status) and provider in (None, job.request.provider):
                        found.append(job)
                    if len(found) == limit:
                        return Page(found, cursor)
                examined, cursor = examined + len(ids), ids[-1]
        return Page(found, cursor)

    def counts(self) -> dict[str, int]:
        """Jobs by status: those open now, and those that ever ended; and contradicting events."""
        total: Counter[str] = Counter()
        with self._redis() as client:
            for shard in self._shards:
                counted: Any = client.hgetall(keys.counts(shard))
                total.update({name: int(number) for name, number in counted.items()})
        return dict(total)

    def agenda(self, *, now: int) -> Agenda:
        """What is open, and what is overdue."""
        waiting = due = lag = 0
        with self._redis() as client:
            for shard in self._shards:
                key = keys.agenda(shard)
                with client.pipeline(transaction=False) as pipe:
                    pipe.zcard(key)
                    pipe.zcount(key, "-inf", now)
                    pipe.zrange(key, 0, 0, withscores=True)
                    answers: Any = pipe.execute()
                waiting, due = waiting + answers[0], due + answers[1]
                lag = max([lag, *(now - int(score) for _, score in answers[2])])
        return Agenda(waiting, due, lag)

    def unconfirmed(self, limit: int) -> tuple[int, list[Unconfirmed]]:
        """How many attempts are of unknown fate, and the `limit` newest of them."""
        number, newest = 0, []
        with self._redis() as client:
            for shard in self._shards:
                key = keys.unconfirmed(shard)
                with client.pipeline(transaction=False) as pipe:
                    pipe.zcard(key)
                    pipe.zrange(key, 0, limit - 1, desc=True, withscores=True)
                    answers: Any = pipe.execute()
                number += answers[0]
                newest += [_unconfirmed(member, score) for member, score in answers[1]]
        return number, nlargest(limit, newest, key=lambda found: found.since)

    def snapshots(self, shard: int) -> Iterator[Snapshot]:
        """Every job that is listed, open or to be followed up, each read in one transaction."""
        with self._redis() as client:
            unlisted: set[Any] = set()
            for key in _looks(shard):
                unlisted.update(client.zrange(key, 0, -1))
            for ids in self._listed(client, shard):
                unlisted.difference_update(ids)
                yield from self._snapshots(client, ids, listed=True)
            yield from self._snapshots(client, sorted(unlisted), listed=False)

    @contextmanager
    def still(self, shard: int) -> Iterator[Callable[[], dict[str, int] | None]]:
        """Watch a shard; what it gives tells its counts, or None if a job has moved meanwhile.

        Every move of a job changes the counts, so Redis itself sees that none was made.
        """
        with self._redis() as client, client.pipeline(transaction=True) as watch:
            watch.watch(keys.counts(shard))  # type: ignore[no-untyped-call]

            def counts() -> dict[str, int] | None:
                watch.multi()
                watch.hgetall(keys.counts(shard))
                try:
                    [counted] = watch.execute()
                except WatchError:
                    return None
                return {name: int(number) for name, number in counted.items()}

            yield counts

    def size(self) -> int:
        """How many jobs are listed."""
        with self._redis() as client:
            return sum(int(client.zcard(keys.jobs(shard))) for shard in self._shards)

    def jobs(self, job_ids: list[str]) -> dict[str, Job]:
        """These jobs, by id; without those that are gone."""
        with self._redis() as client:
            return {job.id: job for job in self._read(client, list(dict.fromkeys(job_ids)))}

    def tidy(self, *, oldest: int) -> int:
        """Forget what is left of expired jobs; `oldest` (ms) is when they may have been settled."""
        forgotten = 0
        with self._redis() as client:
            for shard in self._shards:
                prefix = f"{keys.root(shard)}job:"
                index = [keys.jobs(shard), keys.unconfirmed(shard), keys.dead(shard)]
                for _ in range(ROUNDS):
                    answer = self._tidy.run(client, index, [TIDIED, prefix, oldest])
                    forgotten += int(answer[0])
                    if int(answer[0]) < TIDIED:
                        break
        return forgotten

    def made_before(self, shard: int, time: int) -> Iterator[list[str]]:
        """The ids of a shard's jobs that were made before a time (ms), oldest first, in pages."""
        with self._redis() as client:
            for ids in self._listed(client, shard):
                old = [job_id for job_id in ids if keys.made_at(job_id) < time]
                if old:
                    yield old
                if len(old) < len(ids):
                    return

    def forget(self, job_id: str, *, before: int) -> Result:
        """Delete a job that was settled before then (ms) and has nothing to follow.

        FORGOTTEN, or KEPT, MISSING.
        """
        with self._redis() as client:
            return Result(self._forget.run(client, keys.of(job_id), [before])[0])

    def _older(self, client: Redis, cursor: str | None, limit: int) -> list[str]:
        """Up to `limit` job ids of all shards, older than the cursor, newest first."""
        last = f"({cursor}" if cursor else "+"
        lists: list[Any] = [
            client.zrevrangebylex(keys.jobs(shard), last, "-", 0, limit) for shard in self._shards
        ]
        return list(islice(merge(*lists, reverse=True), limit))

    def _listed(self, client: Redis, shard: int) -> Iterator[list[str]]:
        last = "-"
        while True:
            ids: Any = client.zrangebylex(keys.jobs(shard), last, "+", 0, PAGE)
            if not ids:
                return
            yield ids
            last = f"({ids[-1]}"

    def _snapshots(self, client: Redis, ids: list[str], *, listed: bool) -> Iterator[Snapshot]:
        """These jobs, all as they are at one moment."""
        if not ids:
            return
        with client.pipeline(transaction=True) as pipe:
            for job_id in ids:
                pipe.hgetall(keys.job(job_id))
                pipe.lrange(keys.events(job_id), 0, -1)
                for key in _looks(keys.shard_of(job_id)):
                    pipe.zscore(key, job_id)
            answers = iter(pipe.execute())
        for job_id in ids:
            fields, lines, score = next(answers), next(answers), next(answers)
            job = codec.read_job(job_id, fields) if fields else None
            look = None if score is None else int(score)
            scores = {step: next(answers) for step in FOLLOW_UPS}
            follow_ups = {step: int(score) for step, score in scores.items() if score is not None}
            events = [codec.read_event(line) for line in lines]
            yield Snapshot(job_id, job, events, look, follow_ups, listed)

    def _read(self, client: Redis, ids: list[str]) -> list[Job]:
        with client.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(keys.job(job_id))
            answers = pipe.execute()
        return [codec.read_job(i, fields) for i, fields in zip(ids, answers, strict=True) if fields]


def _looks(shard: int) -> list[str]:
    """The agenda and the sets of follow-ups: when each job next needs a look, and for what."""
    return [keys.agenda(shard), *(keys.follow_up(shard, step) for step in FOLLOW_UPS)]


def _unconfirmed(member: str, score: float) -> Unconfirmed:
    job_id, _, attempt = member.partition(".")
    return Unconfirmed(job_id, int(attempt), int(score))
