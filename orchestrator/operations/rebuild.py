"""Fills the history from the ledger and from the manifests in the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from orchestrator import log
from orchestrator.clock import DAY_MS
from orchestrator.history import Entry
from orchestrator.history.recorder import fill_shard
from orchestrator.history.writer import Writer
from orchestrator.jsonio import NotJson
from orchestrator.ledger import identifiers
from orchestrator.operations.manifest import FILE, path, stored_job
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import NotStored

#: Manifests that are read for one transaction.
BATCH_MANIFESTS = 100


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The number of jobs that were written."""

    from_ledger: int
    from_manifests: int


def rebuild(runtime: Runtime, *, advanced: Callable[[int], None] = lambda _: None) -> Rebuilt:
    """Write every job of the ledger and of the archive to the history.

    It may run while everything else runs. A job in the history is replaced by its state in the
    ledger. A manifest is used only for a job that neither the ledger nor the history has ended.

    Args:
        runtime: of this process.
        advanced: called with the number of jobs that were read since the last call.

    Raises:
        LedgerUnavailable: Redis is away.
        HistoryUnavailable: the database does not answer.
        StorageError: the archive is away. What was read before is written.
    """
    history, writer = runtime.history, Writer()
    history.database.migrate()
    from_ledger = from_manifests = 0
    for shard in range(runtime.ledger.shards):
        since = _begin(runtime, shard, writer)
        for number in fill_shard(runtime.ledger, history, shard, writer):
            from_ledger += number
            advanced(number)
        if since is not None:
            with history.writing(writer) as batch:
                batch.complete(shard, since)
    for ids in _batches(_archived(runtime)):
        from_manifests += _add(runtime, ids, writer)
        advanced(len(ids))
    return Rebuilt(from_ledger, from_manifests)


def _begin(runtime: Runtime, shard: int, writer: Writer) -> int | None:
    """Give a shard a position if it has none. Return since when it lacks jobs (ms), or None."""
    position, now = runtime.ledger.changes.mark(shard), runtime.clock()
    with runtime.history.writing(writer) as batch:
        known = batch.lock(shard)
        if known is None:
            batch.begin(shard, position, now=now)
            return now
    return known.incomplete_since


def _archived(runtime: Runtime) -> Iterator[str]:
    """Yield the ids of the jobs that have a manifest and are not too old for the history."""
    oldest = runtime.clock() - int(runtime.settings.history_days * DAY_MS)
    for found in runtime.storage.named(FILE):
        job_id = found.rpartition("/")[0].rpartition("/")[2]
        if identifiers.is_job_id(job_id) and identifiers.created_at(job_id) >= oldest:
            yield job_id


def _batches(job_ids: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(job_ids, BATCH_MANIFESTS)):
        yield batch


def _add(runtime: Runtime, ids: list[str], writer: Writer) -> int:
    """Write the manifests of jobs that nobody else knows the end of. Return their number."""
    in_ledger = runtime.ledger.overview.existing(ids)
    with runtime.history.writing(writer) as batch:
        for shard in sorted({identifiers.shard_of(job_id) for job_id in ids}):
            batch.lock(shard)
        known = batch.entries(ids)
        wanted = [
            job_id
            for job_id in ids
            if job_id not in in_ledger
            and not (job_id in known and known[job_id].job.status.terminal)
        ]
        entries = [entry for job_id in wanted if (entry := _of_manifest(runtime, job_id))]
        batch.put(entries)
    return len(entries)


def _of_manifest(runtime: Runtime, job_id: str) -> Entry | None:
    try:
        return Entry.of(stored_job(runtime.storage.get(path(job_id))))
    except NotStored:
        return None
    except (NotJson, KeyError, TypeError, ValueError) as error:
        log.get().error("manifest_unreadable", job=job_id, reason=type(error).__name__)
        return None
