"""Deletes the jobs of one tenant for good: from the ledger, the history and the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice

from orchestrator import log
from orchestrator.history import HistoryUnavailable, NoHistory, Query
from orchestrator.history.entry import facet_text
from orchestrator.history.writer import Writer
from orchestrator.jobs.tenant import DEFAULT_TENANT, tenant_name
from orchestrator.jsonio import NotJson
from orchestrator.ledger import Result, identifiers
from orchestrator.operations.manifest import FILE, owner
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import NotStored

#: Jobs of a page. One transaction of the history deletes them.
PAGE_JOBS = 100
#: Jobs whose files are read or deleted at the same time. A bucket takes long for each call.
STORAGE_THREADS = 16
#: A job's files are listed again after their deletion: a thumbnail may have been stored meanwhile.
LISTS = 2
#: A time after every file and every outcome, ms.
_END_OF_TIME = 2**53


@dataclass(frozen=True, slots=True)
class Erased:
    """What was deleted.

    Attributes:
        jobs: the number of jobs.
        files: the number of their files in the archive.
        kept: the jobs that are open, have a pending follow-up, or cannot be read.
    """

    jobs: int
    files: int
    kept: tuple[str, ...]


def erase_tenant(
    runtime: Runtime,
    name: str,
    *,
    actor: str,
    dry_run: bool = False,
    advanced: Callable[[int], None] = lambda _: None,
) -> Erased:
    """Delete every ended job of a tenant, with its files. The call can be repeated.

    It reads every manifest in the archive, because only these know the jobs that the ledger and
    the history have deleted.

    Args:
        runtime: of this process.
        name: the tenant.
        actor: who asks, for the audit trail.
        dry_run: only count.
        advanced: called with the number of jobs that were looked at since the last call, of other
            tenants too.

    Raises:
        InvalidRequest: the name is wrong.
        LedgerUnavailable, HistoryUnavailable, StorageError: a part is away. A job is only forgotten
            after its files, so a repeated call deletes the rest.
    """
    tenant = tenant_name(name)
    if not dry_run:  # first, because the process may be killed
        runtime.ledger.audit.record(
            now=runtime.clock(), actor=actor, action="tenant_erase", target=tenant
        )
    with ThreadPoolExecutor(STORAGE_THREADS) as pool:
        erasure = _Erasure(runtime, tenant, pool, advanced, dry_run=dry_run)
        for job_ids in erasure.pages():
            erasure.take(job_ids)
    erased = Erased(erasure.jobs, erasure.files, tuple(erasure.kept))
    if not dry_run:
        runtime.audit(actor, "tenant_erased", name, jobs=str(erased.jobs))
    return erased


class _Erasure:
    """One call for one tenant, and what it has deleted so far."""

    def __init__(
        self,
        runtime: Runtime,
        tenant: str,
        pool: ThreadPoolExecutor,
        advanced: Callable[[int], None],
        *,
        dry_run: bool,
    ) -> None:
        self._runtime = runtime
        self._tenant = tenant
        self._pool = pool
        self._advanced = advanced
        self._dry_run = dry_run
        self._seen: set[str] = set()
        self._has_history = False
        self._recorded: set[str] = set()
        self.jobs = self.files = 0
        self.kept: list[str] = []

    def pages(self) -> Iterator[list[str]]:
        """Yield the ids of all jobs of the tenant, each once."""
        every = chain(self._in_history(), self._in_ledger(), self._in_archive())
        fresh = (job_id for job_id in every if job_id not in self._seen)
        while page := list(islice(fresh, PAGE_JOBS)):
            page = list(dict.fromkeys(page))
            self._seen.update(page)
            yield page
            self._advanced(len(page))

    def take(self, job_ids: Sequence[str]) -> None:
        """Delete those of the jobs that have ended."""
        known, unreadable = self._runtime.ledger.overview.readable_jobs(list(job_ids))
        kept = {job_id for job_id, job in known.items() if not job.done}
        kept |= {each.job_id for each in unreadable}
        ended = [job_id for job_id in job_ids if job_id not in kept]
        numbers = dict(zip(ended, self._pool.map(self._delete, ended), strict=True))
        gone = [job_id for job_id, number in numbers.items() if number is not None]
        self.kept += [job_id for job_id in job_ids if numbers.get(job_id) is None]
        self.files += sum(number or 0 for number in numbers.values())
        # An entry of an index without a job, as of one that has expired, does not count.
        self.jobs += sum(
            bool(job_id in known or job_id in self._recorded or numbers[job_id]) for job_id in gone
        )
        if self._has_history and gone and not self._dry_run:
            with self._runtime.history.writing(Writer()) as batch:
                for shard in sorted({identifiers.shard_of(job_id) for job_id in gone}):
                    batch.lock(shard)
                batch.remove(gone)

    def _delete(self, job_id: str) -> int | None:
        """Delete the files of a job, and then the job.

        Return the number of files; None if the job has changed meanwhile, and is kept.
        """
        number = 0
        for _ in range(LISTS):
            number += (listed := self._delete_files(identifiers.folder(job_id)))
            if not listed or self._dry_run:
                break
        if not self._dry_run:
            forget = self._runtime.ledger.overview.forget
            if forget(job_id, before=_END_OF_TIME, tenant=self._tenant) is Result.KEPT:
                return None
        return number

    def _delete_files(self, folder: str) -> int:
        """Delete the files that are in a folder now. Return their number."""
        storage = self._runtime.storage
        paths = list(storage.put_before(folder, _END_OF_TIME))
        if not self._dry_run:
            for path in paths:
                storage.delete(path)
        return len(paths)

    def _in_ledger(self) -> Iterator[str]:
        below = identifiers.LAST_ID
        overview = self._runtime.ledger.overview
        while job_ids := overview.newest(PAGE_JOBS, below=below, tenant=self._tenant):
            yield from filter(identifiers.is_job_id, job_ids)
            below = job_ids[-1]
        if self._tenant == DEFAULT_TENANT:
            yield from self._without_tenant()

    def _without_tenant(self) -> Iterator[str]:
        """Yield the jobs of `default` in the index of all: old ones are in no other."""
        below = identifiers.LAST_ID
        overview = self._runtime.ledger.overview
        while job_ids := overview.newest(PAGE_JOBS, below=below):
            jobs, _ = overview.readable_jobs(job_ids)
            yield from (job_id for job_id, job in jobs.items() if job.tenant == DEFAULT_TENANT)
            below = job_ids[-1]

    def _in_history(self) -> Iterator[str]:
        query, below = Query(facet={"tenant": facet_text(self._tenant)}), None
        try:
            while True:
                page = self._runtime.history.find(query, below=below, limit=PAGE_JOBS)
                self._has_history = True
                self._recorded.update(page.ids)
                yield from page.ids
                if (below := page.cursor) is None:
                    return
        except NoHistory:
            now = self._runtime.clock()
            if any(
                each.kind == "recorder" for each in self._runtime.ledger.processes.alive(now=now)
            ):
                raise HistoryUnavailable("a recorder runs, but its history is not here") from None

    def _in_archive(self) -> Iterator[str]:
        manifests = (
            (path, job_id)
            for path in self._runtime.storage.named(FILE)
            for job_id in [path.rpartition("/")[0].rpartition("/")[2]]
            if identifiers.is_job_id(job_id) and job_id not in self._seen
        )
        while page := list(islice(manifests, PAGE_JOBS)):
            owned = self._pool.map(self._owns, *zip(*page, strict=True))
            own = [job_id for (_, job_id), is_own in zip(page, owned, strict=True) if is_own]
            self._advanced(len(page) - len(own))
            yield from own

    def _owns(self, path: str, job_id: str) -> bool:
        """Return whether a manifest names the tenant."""
        try:
            return owner(self._runtime.storage.get(path)) == self._tenant
        except NotStored:
            return False
        except NotJson as error:  # nobody knows whose it is
            log.get().error("manifest_unreadable", job=job_id, reason=str(error))
            return False
