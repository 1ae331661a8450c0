"""Finds an image: in the archive, also when Redis no longer knows the job, or at the provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.model import FollowUpStatus, Job
from orchestrator.jsonio import NotJson
from orchestrator.ledger import UnreadableJob, identifiers
from orchestrator.operations.manifest import copies, owner, path
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import NotStored


@dataclass(frozen=True, slots=True)
class Archived:
    """Our copy: its path, its thumbnail's path if it has one, type and digest.

    `check_error` is the reason why the file is not a checked image.
    """

    path: str
    thumbnail: str | None
    content_type: str
    sha256: str
    check_error: str | None = None


@dataclass(frozen=True, slots=True)
class AtProvider:
    """There is no copy yet. `url` is the provider's link."""

    url: str


@dataclass(frozen=True, slots=True)
class Lost:
    """There is no copy, and the link is not tried any more."""

    reason: str


def locate_image(
    runtime: Runtime, job_id: str, index: int, *, sees: Callable[[str], bool]
) -> Archived | AtProvider | Lost | None:
    """Return the place of image number `index` (from 0) of a job, or None without such an image.

    Args:
        runtime: of this process.
        job_id: the job.
        index: the number of the image.
        sees: whether the caller may see the jobs of a tenant. If not, there is no such image.

    Raises:
        LedgerUnavailable: Redis is away.
        UnreadableJob: this version cannot read the job, and the caller may see it.
        StorageError: the storage is away.
    """
    if not identifiers.is_job_id(job_id):
        return None
    try:
        job = runtime.ledger.get(job_id) or _of_history(runtime, job_id)
    except UnreadableJob as error:
        if not sees(error.tenant):
            return None
        raise
    if job is None:
        return _of_manifest(runtime, job_id, index, sees)
    return _of_job(job, index, runtime.clock()) if sees(job.tenant) else None


def _of_history(runtime: Runtime, job_id: str) -> Job | None:
    """Return a job of the history whose images are all in the archive, or None."""
    try:
        entry = runtime.history.get(job_id)
    except HistoryUnavailable:
        return None
    archived = entry and all(image.copy for image in entry.job.all_images)
    return entry.job if entry and archived else None


def _of_job(job: Job, index: int, now: int) -> Archived | AtProvider | Lost | None:
    if index >= len(job.all_images):
        return None
    image = job.all_images[index]
    if copy := image.copy:
        return Archived(copy.path, copy.thumbnail, copy.content_type, copy.sha256, copy.check_error)
    if image.given_up or (job.archive and job.archive.status is FollowUpStatus.DEAD):
        return Lost(image.error or "")
    is_off = job.archive is not None and job.archive.status is FollowUpStatus.OFF
    if is_off and image.expires_at and now >= image.expires_at:
        return Lost("it was not archived, and its link has expired")
    return AtProvider(image.source_url)


def _of_manifest(
    runtime: Runtime, job_id: str, index: int, sees: Callable[[str], bool]
) -> Archived | Lost | None:
    try:
        manifest_path = path(job_id)
    except ValueError:  # the id's time is outside the calendar
        return None
    try:
        content = runtime.storage.get(manifest_path)
        entry = copies(content)[index]
    except (NotStored, NotJson, IndexError):
        return None
    if not sees(owner(content)):
        return None
    if entry["path"] is None:
        return Lost(entry["error"] or "")
    return Archived(
        entry["path"],
        entry["thumbnail"],
        entry["content_type"],
        entry["sha256"],
        entry.get("check_error"),  # older manifests have only checked images
    )
