"""Deletes the jobs of one tenant for good: from the ledger, the history and the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from orchestrator import log
from orchestrator.history import NoHistory, Query
from orchestrator.history.entry import facet_text
from orchestrator.history.writer import Writer
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jsonio import NotJson
from orchestrator.ledger import Result, identifiers
from orchestrator.operations.manifest import FILE, owner
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import NotStored

#: Jobs of a page. One transaction of the history deletes them.
PAGE_JOBS = 100
#: A time after every file, ms.
_ALWAYS = 2**53


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
    erasure = _Erasure(runtime, tenant_name(name), advanced, dry_run=dry_run)
    if not dry_run:  # first, because the process may be killed
        runtime.audit(actor, "tenant_erase", name)
    for job_ids in erasure.pages():
        erasure.take(job_ids)
    erased = Erased(erasure.jobs, erasure.files, tuple(erasure.kept))
    if not dry_run:
        runtime.audit(actor, "tenant_erased", name, jobs=str(erased.jobs))
    return erased


class _Erasure:
    """One call for one tenant, and what it has deleted so far."""

    def __init__(
        self, runtime: Runtime, tenant: str, advanced: Callable[[int], None], *, dry_run: bool
    ) -> None:
        self._runtime = runtime
        self._tenant = tenant
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
        gone = []
        for job_id in job_ids:
            is_known = job_id in known or job_id in self._recorded
            if job_id not in kept and self._delete(job_id, is_known=is_known):
                gone.append(job_id)
            else:
                self.kept.append(job_id)
        if self._has_history and gone and not self._dry_run:
            with self._runtime.history.writing(Writer()) as batch:
                for shard in sorted({identifiers.shard_of(job_id) for job_id in gone}):
                    batch.lock(shard)
                batch.remove(gone)

    def _delete(self, job_id: str, *, is_known: bool) -> bool:
        """Delete the files of a job, and then the job. Return False if it has changed meanwhile.

        An entry of the index without a job, as of one that has expired, does not count.
        """
        storage = self._runtime.storage
        paths = list(storage.put_before(identifiers.folder(job_id), _ALWAYS))
        self.files += len(paths)
        if not self._dry_run:
            for path in paths:
                storage.delete(path)
            forget = self._runtime.ledger.overview.forget
            if forget(job_id, before=_ALWAYS, tenant=self._tenant) is Result.KEPT:
                return False
        self.jobs += is_known or bool(paths)
        return True

    def _in_ledger(self) -> Iterator[str]:
        below = identifiers.LAST_ID
        overview = self._runtime.ledger.overview
        while job_ids := overview.newest(PAGE_JOBS, below=below, tenant=self._tenant):
            yield from filter(identifiers.is_job_id, job_ids)
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
            return

    def _in_archive(self) -> Iterator[str]:
        storage = self._runtime.storage
        for path in storage.named(FILE):
            job_id = path.rpartition("/")[0].rpartition("/")[2]
            if not identifiers.is_job_id(job_id) or job_id in self._seen:
                continue
            try:
                if owner(storage.get(path)) == self._tenant:
                    yield job_id
                else:
                    self._advanced(1)
            except NotStored:
                continue
            except NotJson as error:  # nobody knows whose it is
                log.get().error("manifest_unreadable", job=job_id, reason=str(error))
