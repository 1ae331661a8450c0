"""Archives images again that were given up: of one job, or of all."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import log
from orchestrator.jobs.model import FollowUpStatus, Image, Job
from orchestrator.ledger import Result
from orchestrator.runtime import Runtime


class NothingToArchive(Exception):
    """No image can be archived. The message is the reason."""


def archive_again(runtime: Runtime, job: Job, *, actor: str) -> None:
    """Make the archive of a job due. If it was given up, the tries begin again.

    A worker that holds it goes on.

    Args:
        runtime: of this process.
        job: as the ledger has it now.
        actor: who asks, for the audit trail.

    Raises:
        NothingToArchive: every image has a copy, or no image has a link, or there is no outcome.
        LedgerUnavailable: Redis is away.
    """
    images = tuple(map(_reopened, job.all_images))
    if job.archive and job.archive.status is FollowUpStatus.DEAD and images == job.all_images:
        raise NothingToArchive(_reason(images))
    result = runtime.ledger.follow_ups.archive_again(job, images, now=runtime.clock())
    if result is Result.OPEN:
        raise NothingToArchive(f"it is {job.status} and has no images yet; wait for its outcome")
    if result is Result.SILENT:
        every = "every image has a copy" if job.all_images else "it has no images"
        raise NothingToArchive(every)
    if result is Result.MISSING:
        raise NothingToArchive("it has expired; jobs are kept for the retention time")
    runtime.audit(actor, "archive", job.id, tenant=job.tenant)
    log.get().info("archive_again", job=job.id, result=result)


def given_up_archives(runtime: Runtime, limit: int) -> tuple[int, list[Job], list[str]]:
    """Return the number of archives that were given up while a link may work, and some of the jobs.

    Beside them are the ids of those that this version cannot read.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    number, job_ids = runtime.ledger.follow_ups.given_up(limit, now=runtime.clock())
    jobs, lost = runtime.ledger.overview.readable_jobs(job_ids)
    return number, list(jobs.values()), [each.job_id for each in lost]


def _reopened(image: Image) -> Image:
    if image.copy is not None or not image.source_url:
        return image
    return replace(image, given_up=False, missing=False, tries=0)


def _reason(images: tuple[Image, ...]) -> str:
    missing = [image for image in images if image.copy is None and not image.source_url]
    return (
        f"the image came inside the provider's answer and has no link ({missing[0].error})"
        if missing
        else "every image has a copy"
    )
