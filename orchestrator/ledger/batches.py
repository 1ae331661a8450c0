"""Batches: jobs that one request made, and the notification when all of them have their outcomes.

The jobs of a batch are spread over the shards as other jobs are. Each shard counts its own by
status, in the transitions of the jobs. The shard of the batch's id has the rest. A batch is
completed in two steps, because no script works on two shards: a settlement says that its shard has
no open job of the batch any more, and then somebody adds up the counts of all shards.

Fields of a batch: its jobs of the shard by status. The shard of its id, which is the last two
digits, also has `tenant`, `created`, `sealed` (ms: when no further job could join), `receiver`
(JSON: who is notified), and after its completion `completed` (ms) and `counts` (JSON: its jobs of
all shards by status). Its notification has the fields of a job's notification.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from redis import Redis

from orchestrator.jobs.batch import Batch
from orchestrator.jobs.model import FollowUpStatus
from orchestrator.jobs.request import Receiver
from orchestrator.ledger import codec, identifiers, keys
from orchestrator.ledger.creation import Creations, NewJob
from orchestrator.ledger.installation import from_master
from orchestrator.ledger.results import Created, Idempotency, Result
from orchestrator.ledger.script import Script, load, run_all


@dataclass(frozen=True, slots=True)
class BatchLease:
    """The exclusive right to send the notification of a batch."""

    batch: Batch
    token: str


class Batches:
    """The batches of all jobs. The caller gives all times, in ms since the epoch.

    Args:
        client: returns the client of this thread.
        shards: the number of shards.
        retention_ms: how long a batch is kept after its completion or its notification.
        idempotency_ms: how long an idempotency key is kept.
        creations: makes the transitions that create jobs.
    """

    def __init__(
        self,
        client: Callable[[], AbstractContextManager[Redis]],
        shards: int,
        retention_ms: int,
        idempotency_ms: int,
        creations: Creations,
    ) -> None:
        self._redis = client
        self._shards = shards
        self._retention_ms = retention_ms
        self._idempotency_ms = idempotency_ms
        self._creations = creations
        self._open = load("open_batch")
        self._seal = load("seal_batch")
        self._complete = load("complete_batch")
        self._claim = load("claim_batch")
        self._record = load("notify_batch")
        self._again = load("notify_batch_again")

    def open(
        self,
        tenant: str,
        receiver: Receiver,
        *,
        now: int,
        idempotency: Idempotency | None = None,
        fingerprint: str = "",
    ) -> Created:
        """Begin a batch, or return the batch of the idempotency key.

        Args:
            tenant: the owner.
            receiver: who is notified when it is completed.
            now: ms.
            idempotency: the key that makes the call safe to repeat.
            fingerprint: of the whole request.

        Returns:
            CREATED, REPLAYED, MISMATCH or GONE, with the id of the batch.
        """
        digest = keys.digest(idempotency.scope, idempotency.key) if idempotency else None
        shard = identifiers.pick_shard(self._shards, digest)
        batch_id = identifiers.new_batch_id(shard, now)
        batch = keys.batch(shard, batch_id)
        guard = keys.idempotency(shard, digest) if digest else batch
        who = {name: value for name, value in asdict(receiver).items() if value is not None}
        lifetime = self._idempotency_ms if digest else ""
        args: list[str | int] = [now, batch_id, tenant, codec.dumps(who or None), fingerprint]
        args += [lifetime, now + self._idempotency_ms]
        with self._redis() as client:
            answer = self._open.run(client, [batch, guard, _due(batch_id)], args)
        return Created.from_answer(answer, batch_id)

    def create_jobs(self, jobs: Sequence[NewJob], *, now: int) -> list[Created]:
        """Create queued jobs in one round trip. Return the result of each, as `Ledger.create`.

        A job whose idempotency key has a job already does not join its batch.
        """
        if not jobs:
            return []
        creations = [self._creations.of(job, now=now)[1] for job in jobs]
        with self._redis() as client:
            answers = run_all(client, [each.call for each in creations])
        return [each.read(answer) for each, answer in zip(creations, answers, strict=True)]

    def seal(self, batch_id: str, answer: str, *, now: int) -> Result:
        """Record that no further job joins the batch, and what its request was answered.

        The batch is due at once. The caller nudges it.

        Returns:
            RECORDED, DUPLICATE (the first answer stands) or MISSING.
        """
        used = [*_keys(batch_id), keys.batch_answer(batch_id)]
        return self._run(self._seal, used, [now, batch_id, answer, self._idempotency_ms])

    def answer(self, batch_id: str) -> str | None:
        """Return what the request of a sealed batch was answered, or None."""
        with self._redis() as client:
            stored: Any = client.get(keys.batch_answer(batch_id))
        return None if stored is None else str(stored)

    def get(self, batch_id: str) -> Batch | None:
        """Return a batch, or None. The cost does not grow with its jobs."""
        if not identifiers.is_batch_id(batch_id):
            return None
        home = identifiers.shard_of(batch_id)
        others = [shard for shard in range(self._shards) if shard != home]

        def read(client: Redis) -> Any:
            with client.pipeline(transaction=False) as pipe:
                for shard in [home, *others]:
                    pipe.hgetall(keys.batch(shard, batch_id))
                shards: Any = pipe.execute()
            return shards if "tenant" in shards[0] else None

        shards = from_master(self._redis, read)
        return codec.read_batch(batch_id, shards[0], shards) if shards else None

    def complete(self, batch: Batch, *, now: int, next_check: int) -> Result:
        """Complete a batch if every job has its outcome. Otherwise it is due at `next_check` (ms).

        A batch that was never sealed is completed when its idempotency key has expired.

        Args:
            batch: as it was read after the settlement that may have been the last one.
            now: ms.
            next_check: ms.

        Returns:
            RECORDED, OPEN, DUPLICATE or MISSING.
        """
        abandoned = now >= batch.created_at + self._idempotency_ms
        sealed = abandoned or batch.sealed_at is not None
        done = sealed and batch.open_jobs == 0
        counts = codec.dumps({s.value: n for s, n in batch.counts.items()}) if done else ""
        if done and self._shards > 1:
            self._expire_parts(batch.id)
        args: list[str | int] = [now, batch.id, counts, next_check, self._retention_ms]
        args += [keys.settled(batch.id), "1" if abandoned else ""]
        return self._run(self._complete, _keys(batch.id), args)

    def claim(self, batch_id: str, *, now: int, lease_ms: int) -> BatchLease | None:
        """Take the lease on the notification. Return None if it is not due, or leased."""
        token = secrets.token_urlsafe(9)
        args: list[str | int] = [now, batch_id, token, now + lease_ms]
        with self._redis() as client:
            answer: Any = self._claim.run(client, _keys(batch_id), args)
        if Result(answer[0]) is not Result.CLAIMED:
            return None
        return BatchLease(codec.read_batch(batch_id, codec.pairs(answer[1]), ()), token)

    def later(
        self, lease: BatchLease, *, now: int, due_at: int, tries: int | None = None, error: str = ""
    ) -> Result:
        """Plan another try at `due_at`. `tries` is None when nothing was tried.

        Returns:
            RECORDED, STALE or MISSING.
        """
        number = "" if tries is None else tries
        args: list[str | int] = [FollowUpStatus.PENDING, due_at, number, error]
        return self._record_try(lease, now, args)

    def done(
        self, lease: BatchLease, ended: FollowUpStatus, *, now: int, tries: int, error: str = ""
    ) -> Result:
        """End the notification. Return RECORDED, STALE or MISSING."""
        return self._record_try(lease, now, [ended, "", tries, error])

    def notify_again(self, batch_id: str, *, now: int) -> Result:
        """Make the notification due now, from the first try. The caller nudges the batch.

        Returns:
            RECORDED, OPEN, SILENT or MISSING.
        """
        return self._run(self._again, _keys(batch_id), [now, batch_id])

    def _record_try(self, lease: BatchLease, now: int, args: list[str | int]) -> Result:
        who: list[str | int] = [now, lease.batch.id, lease.token]
        return self._run(self._record, _keys(lease.batch.id), [*who, *args, self._retention_ms])

    def _expire_parts(self, batch_id: str) -> None:
        """Start the retention time of the counts in other shards. They do not change any more."""
        home = identifiers.shard_of(batch_id)
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            for shard in range(self._shards):
                if shard != home:
                    pipe.pexpire(keys.batch(shard, batch_id), self._retention_ms)
            pipe.execute()

    def _run(self, script: Script, keys_: list[str], args: list[str | int]) -> Result:
        with self._redis() as client:
            return Result(script.run(client, keys_, args)[0])


def _due(batch_id: str) -> str:
    """Return the key of the set of batches that are not done."""
    return keys.batches(identifiers.shard_of(batch_id))


def _keys(batch_id: str) -> list[str]:
    """Return the keys of the scripts for a batch: the batch, and the set of batches."""
    return [keys.batch(identifiers.shard_of(batch_id), batch_id), _due(batch_id)]
