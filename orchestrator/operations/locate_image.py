"""Where an image is to be had: in the archive, also when the ledger has forgotten its job."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.jobs.model import FollowUpStatus, Job
from orchestrator.jsonio import NotJson
from orchestrator.ledger import keys
from orchestrator.operations.manifest import copies, path
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import NotStored


@dataclass(frozen=True, slots=True)
class Archived:
    """Our own copy: its place in the storage, its thumbnail's, and what it is."""

    path: str
    thumbnail: str
    content_type: str
    sha256: str


@dataclass(frozen=True, slots=True)
class AtProvider:
    """There is no copy yet: the provider's link."""

    url: str


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no copy, and will be none; `why`."""

    why: str


def find(runtime: Runtime, job_id: str, index: int) -> Archived | AtProvider | Lost | None:
    """Where image number `index` (from 0) of a job is; None if there is no such image.

    Raises:
        LedgerUnavailable, StorageError: Redis, or the storage, is away.
    """
    if not keys.is_job_id(job_id):
        return None
    job = runtime.ledger.get(job_id)
    return _of_manifest(runtime, job_id, index) if job is None else _of_job(job, index)


def _of_job(job: Job, index: int) -> Archived | AtProvider | Lost | None:
    if index >= len(job.images):
        return None
    image = job.images[index]
    if copy := image.copy:
        return Archived(copy.path, copy.thumbnail, copy.content_type, copy.sha256)
    if job.archive and job.archive.status is FollowUpStatus.DEAD:
        return Lost(image.error or "")
    return AtProvider(image.source_url)


def _of_manifest(runtime: Runtime, job_id: str, index: int) -> Archived | Lost | None:
    try:
        place = path(job_id)
    except ValueError:  # an id from a year that no calendar has
        return None
    try:
        told = copies(runtime.storage.get(place))[index]
    except (NotStored, NotJson, IndexError):
        return None
    if told["path"] is None:
        return Lost(told["error"] or "")
    return Archived(told["path"], told["thumbnail"], told["content_type"], told["sha256"])
