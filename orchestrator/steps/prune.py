"""The prune step: delete jobs after their retention time, and old temporary files.

Redis expires a job by itself, after the retention time that was set when the job ended. This step
applies today's setting, so a shorter time has effect at once. The history has a time of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from kombu.exceptions import OperationalError

from orchestrator import log
from orchestrator.clock import DAY_MS
from orchestrator.history import HistoryUnavailable, NoHistory
from orchestrator.ledger import Result
from orchestrator.ledger.circuit_breaker import HOST_RECORD_TTL_MS
from orchestrator.messages import ARCHIVE_QUEUE
from orchestrator.reference_images import prune_references
from orchestrator.runtime import Runtime

#: With more unread nudges in a queue, nobody reads it. The agenda has their jobs, too.
MAX_UNREAD_NUDGES = 10_000


def prune(
    runtime: Runtime,
    *,
    days: float | None = None,
    dry_run: bool = False,
    checked: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Delete every job that ended earlier and has no pending follow-up. Return their ids.

    Images and manifests stay in the archive.

    Args:
        runtime: of this process.
        days: the age in days; None is the retention time.
        dry_run: only return the ids.
        checked: called with the number of jobs that were checked since the last call.

    Raises:
        LedgerUnavailable: Redis is away.
        StorageError: the archive is away. The jobs are deleted nevertheless.
    """
    kept_for = runtime.settings.retention_days if days is None else days
    before = runtime.clock() - int(kept_for * DAY_MS)
    forgotten = []
    for shard in range(runtime.ledger.shards):
        for job_ids in runtime.ledger.overview.created_before(shard, before):
            forgotten += _forgotten(runtime, job_ids, before, dry_run=dry_run)
            checked(len(job_ids))
    if not dry_run:
        _tidy(runtime)
        prune_references(runtime)
        _prune_history(runtime)
    return forgotten


def _forgotten(runtime: Runtime, job_ids: list[str], before: int, *, dry_run: bool) -> list[str]:
    overview = runtime.ledger.overview
    if dry_run:
        jobs, _ = overview.readable_jobs(job_ids)
        return [
            j.id
            for j in jobs.values()
            if j.done and j.settled_at is not None and j.settled_at < before
        ]
    results = {job_id: overview.forget(job_id, before=before) for job_id in job_ids}
    return [job_id for job_id, result in results.items() if result is Result.FORGOTTEN]


def _prune_history(runtime: Runtime) -> None:
    """Delete the jobs of the history whose time is over. A history that is away is left alone."""
    before = runtime.clock() - int(runtime.settings.history_days * DAY_MS)
    try:
        deleted = sum(runtime.history.prune(before=before))
    except NoHistory:
        return
    except HistoryUnavailable as error:
        log.get().warning("history_not_pruned", reason=str(error))
        return
    if deleted:
        log.get().info("history_pruned", deleted=deleted)


def _tidy(runtime: Runtime) -> None:
    """Delete old records of hosts, unread nudges, and temporary files of killed processes."""
    hosts, now = runtime.ledger.circuit_breaker, runtime.clock()
    old = [h.name for h in hosts.failing().values() if h.since < now - HOST_RECORD_TTL_MS]
    hosts.forget(*old)
    _drop_nudges(runtime)
    runtime.storage.sweep()


def _drop_nudges(runtime: Runtime) -> None:
    """Delete the nudges for archives if no worker reads them: they would fill the broker."""
    try:
        dropped = runtime.broker.drop_unread(ARCHIVE_QUEUE, most=MAX_UNREAD_NUDGES)
    except OperationalError as error:
        log.get().warning("nudges_not_counted", queue=ARCHIVE_QUEUE, reason=str(error))
        return
    if dropped:
        action = "start a worker that reads this queue: WORKER_QUEUES"
        log.get().warning("nudges_unread", queue=ARCHIVE_QUEUE, dropped=dropped, action=action)
