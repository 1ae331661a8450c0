"""The stream of changed jobs, from which the recorder fills the history.

Each transition adds one entry: the id of the job that changed. A reader takes the entries after its
position, and then reads the jobs. So an entry may be read twice: the job is written as it is now.
The ledger never reads the history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from redis import Redis

from orchestrator.ledger import identifiers, keys
from orchestrator.ledger.script import Call, load, run_all
from orchestrator.ledger.spoiled import SPOILED, Command, owner_only, read_all

#: How long a recorder has a shard after its last renewal. ms.
RECORDER_LEASE_MS = 2000
#: Jobs that are read in one round trip.
PAGE_JOBS = 200


@dataclass(frozen=True, slots=True)
class Changes:
    """A part of a stream of changes.

    Attributes:
        job_ids: the changed jobs, each once.
        position: the id of the last entry.
        entries: the number of entries.
        first_ms: when the first entry was added, or None.
    """

    job_ids: tuple[str, ...]
    position: str
    entries: int
    first_ms: int | None


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as Redis holds it.

    Attributes:
        fields: its hash. See `keys.py`.
        events: the lines of its timeline.
        unconfirmed: the numbers of its unconfirmed attempts.
    """

    id: str
    fields: Mapping[str, str]
    events: tuple[str, ...]
    unconfirmed: tuple[int, ...] = ()


class ChangeStreams:
    """The streams of all shards.

    Args:
        client: returns the client of this thread.
        shards: the number of shards.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]], shards: int) -> None:
        self._redis = client
        self._shards = range(shards)
        self._lease = load("recorder_lease")

    def hold(self, recorder: str, most: int | None = None) -> list[int]:
        """Take or renew the lease on shards that no other recorder has. Return them.

        Args:
            recorder: its token.
            most: the most shards that it takes; None is all. What it has beyond that is not
                renewed, so that another recorder gets it.
        """
        with self._redis() as client:
            wanted = list(self._shards)
            if most is not None and most < len(wanted):
                wanted = self._unheld(client, recorder)[:most]
            calls: list[Call] = [
                (self._lease, [keys.recorder(shard)], [recorder, RECORDER_LEASE_MS])
                for shard in wanted
            ]
            answers = run_all(client, calls)
        held = zip(wanted, answers, strict=True)
        return [shard for shard, answer in held if answer[0] == "held"]

    def _unheld(self, client: Redis, recorder: str) -> list[int]:
        """Return the shards that this recorder holds, and after them those that nobody holds."""
        with client.pipeline(transaction=False) as pipe:
            for shard in self._shards:
                pipe.get(keys.recorder(shard))
            holders: list[Any] = pipe.execute()
        found = dict(zip(self._shards, holders, strict=True))
        mine = [shard for shard, holder in found.items() if holder == recorder]
        return mine + [shard for shard, holder in found.items() if holder is None]

    def mark(self, shard: int) -> str:
        """Add an entry without a job. Return its id: a position from which reading can start."""
        with self._redis() as client:
            entry: Any = client.xadd(keys.changes(shard), {"job": ""})
        return str(entry)

    def after(self, positions: Mapping[int, str], limit: int) -> dict[int, Changes | None]:
        """Return up to `limit` entries after the position in each shard.

        None means that the stream was cut: the entry of the position is missing, and so others may
        be missing, too.
        """
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            for shard, position in positions.items():
                pipe.xrange(keys.changes(shard), position, "+", limit + 1)
            answers: Any = pipe.execute()
        return {
            shard: _changes(position, entries)
            for (shard, position), entries in zip(positions.items(), answers, strict=True)
        }

    def forget(self, positions: Mapping[int, str]) -> None:
        """Remove entries before the position in each shard. The entry of the position stays."""
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            for shard, position in positions.items():
                pipe.xtrim(keys.changes(shard), minid=position, approximate=True)
            pipe.execute()

    def jobs(self, job_ids: Sequence[str]) -> Iterator[StoredJob]:
        """Yield jobs as they are stored now. Forgotten jobs are left out.

        A job that Redis cannot read has no field but its tenant.
        """
        for first in range(0, len(job_ids), PAGE_JOBS):
            yield from self._jobs(job_ids[first : first + PAGE_JOBS])

    def pages(self, shard: int) -> Iterator[list[str]]:
        """Yield the ids of all jobs in the index of a shard, oldest first, in pages."""
        last = "-"
        while True:
            with self._redis() as client:
                ids: Any = client.zrangebylex(keys.jobs(shard), last, "+", 0, PAGE_JOBS)
            if not ids:
                return
            yield ids
            last = f"({ids[-1]}"

    def _jobs(self, job_ids: Sequence[str]) -> Iterator[StoredJob]:
        with self._redis() as client:
            reads: list[Command] = []
            job_ids = [job_id for job_id in job_ids if identifiers.is_job_id(job_id)]
            for job_id in job_ids:
                reads.append(("LRANGE", keys.events(job_id), 0, -1))
                reads.append(("HGETALL", keys.job(job_id)))  # it knows what the lines leave out
            answers = read_all(client, reads)
            stored: dict[str, tuple[Mapping[str, str], tuple[str, ...]]] = {}
            for job_id, lines, fields in zip(job_ids, answers[::2], answers[1::2], strict=True):
                if lines is SPOILED or fields is SPOILED:
                    stored[job_id] = owner_only(client, job_id), ()
                elif fields:
                    stored[job_id] = fields, tuple(lines)
            at_risk = _unconfirmed(
                client, {job_id: fields for job_id, (fields, _) in stored.items()}
            )
        for job_id, (fields, lines) in stored.items():
            yield StoredJob(job_id, fields, lines, at_risk.get(job_id, ()))


def _unconfirmed(
    client: Redis, jobs: Mapping[str, Mapping[str, str]]
) -> dict[str, tuple[int, ...]]:
    """Return the unconfirmed attempts of the jobs that have any."""
    unknown = [
        (job_id, number)
        for job_id, fields in jobs.items()
        for number in range(1, _attempts(fields) + 1)
        if f"task.{number}" not in fields
    ]
    if not unknown:
        return {}
    with client.pipeline(transaction=False) as pipe:
        for job_id, number in unknown:
            pipe.zscore(keys.unconfirmed(identifiers.shard_of(job_id)), f"{job_id}.{number}")
        scores: Any = pipe.execute()
    found: dict[str, tuple[int, ...]] = {}
    for (job_id, number), score in zip(unknown, scores, strict=True):
        if score is not None:
            found[job_id] = (*found.get(job_id, ()), number)
    return found


def _attempts(fields: Mapping[str, str]) -> int:
    """Return the number of attempts. It is 0 if it cannot be read, and then the job cannot be."""
    try:
        return int(fields["attempt"])
    except (KeyError, ValueError):
        return 0


def _changes(position: str, entries: list[tuple[str, dict[str, str]]]) -> Changes | None:
    if not entries or entries[0][0] != position:
        return None
    fresh = entries[1:]
    job_ids = dict.fromkeys(fields["job"] for _, fields in fresh if fields["job"])
    first_ms = int(fresh[0][0].partition("-")[0]) if fresh else None
    return Changes(tuple(job_ids), entries[-1][0], len(fresh), first_ms)
