"""The archive step: copy a job's images to our own storage before their links die.

Whatever fails here, the job stays succeeded: its images are paid for. What can be tried again is,
until the link is dead; then the image says why there is no copy.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from orchestrator import log
from orchestrator.backoff import back_off
from orchestrator.jobs.model import Copy, FollowUpStatus, Image, Job, Step
from orchestrator.ledger import Lease
from orchestrator.net.guard import Forbidden
from orchestrator.net.guarded_session import Failed, Fetched
from orchestrator.operations.manifest import folder, manifest, path
from orchestrator.runtime import Runtime
from orchestrator.storage.images import NotAnImage, examined
from orchestrator.storage.storage import StorageError

#: Waits between tries: first, and longest. Seconds.
FIRST, LONGEST = 5.0, 1800.0
#: The last try but one comes this long before the link dies. ms.
IN_TIME = 60_000
#: How long a link is tried that does not say when it dies. ms.
PATIENCE = 7 * 86_400_000
#: Time to store an image, to record it, and to stall. ms.
MARGIN = 60_000
#: Where a lease is too short for every image, each has had its turn this long after its death. ms.
LATE = 86_400_000


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a try came to: the images as they are now, and what is to be said of it."""

    images: tuple[Image, ...]
    #: Why the first image that failed has no copy; empty when none failed.
    error: str = ""
    #: How long a server wants us to wait, seconds.
    retry_after: float = 0.0
    #: Whether there was no time for every image.
    cut: bool = False
    #: Whether what failed was our storage.
    ours: bool = False


class _Away(Exception):
    """One image could not be kept; the message says why."""

    def __init__(self, why: str, *, retry_after: float | None = None, ours: bool = False) -> None:
        super().__init__(why)
        self.retry_after = retry_after or 0.0
        #: It is our storage's fault, so that the next image would fail too.
        self.ours = ours


def lease_ms(runtime: Runtime) -> int:
    """How long one worker may be at a job: time for two images; what is left comes right after."""
    return int(runtime.settings.download_timeout_seconds * 2000) + MARGIN


def archive(runtime: Runtime, job_id: str) -> None:
    """Take the archive step with a job, if it is due and nobody else's.

    Raises:
        LedgerUnavailable: nothing is lost; the lease runs out and the sweep brings it back.
    """
    now = runtime.clock()
    lease = runtime.ledger.follow_ups.claim(
        job_id, Step.ARCHIVE, now=now, lease_ms=lease_ms(runtime)
    )
    if lease is None:
        return
    kept = _keep(runtime, lease)
    missing = [image for image in kept.images if image.copy is None]
    late = LATE if kept.cut else 0
    over = not kept.ours and all(_dies_at(lease.job, image) + late <= now for image in missing)
    if not over:
        _later(runtime, lease, kept)
        return
    try:
        _write_manifest(runtime, replace(lease.job, images=kept.images))
    except StorageError as error:
        _later(runtime, lease, replace(kept, error=f"our storage: {error}"))
        return
    _end(runtime, lease, kept, FollowUpStatus.DEAD if missing else FollowUpStatus.DONE)


def _keep(runtime: Runtime, lease: Lease) -> _Kept:
    """Copy each image that has no copy yet, as far as the lease's time allows."""
    kept = _Kept(lease.job.images)
    needs = int(runtime.settings.download_timeout_seconds * 1000) + MARGIN // 2
    for index in _turns(lease.job):
        image = lease.job.images[index]
        if runtime.clock() + needs > lease.ends_at:
            return replace(kept, cut=True)
        try:
            done = replace(image, copy=_copied(runtime, lease.job, index), error=None)
        except _Away as why:
            done = replace(image, error=str(why))
            wait = max(kept.retry_after, why.retry_after)
            kept = replace(kept, error=kept.error or str(why), retry_after=wait)
            if why.ours:
                return replace(kept, images=_with(kept.images, index, done), ours=True)
        kept = replace(kept, images=_with(kept.images, index, done))
    return kept


def _turns(job: Job) -> list[int]:
    """The images without a copy: first those that were not tried, then each in its turn, so that
    slow links do not use up every lease.
    """
    tries, number = _tries(job), len(job.images)
    missing = [index for index, image in enumerate(job.images) if image.copy is None]
    return sorted(missing, key=lambda i: (job.images[i].error is not None, (i - tries) % number))


def _copied(runtime: Runtime, job: Job, index: int) -> Copy:
    """Copy one image: link to temporary file, a look at it, storage."""
    try:
        with _temporary(runtime.settings.data_dir) as file:
            fetched = _fetched(runtime, job.images[index].source_url, file)
            return _stored(runtime, job, index, file, fetched)
    except OSError as error:
        raise _Away(f"no room for a download: {error.strerror or error}", ours=True) from error


def _fetched(runtime: Runtime, url: str, file: BinaryIO) -> Fetched:
    settings = runtime.settings
    try:
        return runtime.session.fetch(
            url,
            file,
            seconds=settings.download_timeout_seconds,
            max_bytes=settings.max_image_bytes,
        )
    except Forbidden as error:
        raise _Away(str(error)) from None
    except Failed as error:
        raise _Away(error.reason, retry_after=error.retry_after) from None


def _stored(runtime: Runtime, job: Job, index: int, file: BinaryIO, fetched: Fetched) -> Copy:
    try:
        picture, thumbnail = examined(file, max_pixels=runtime.settings.max_image_pixels)
        place = f"{folder(job.id)}/{index}"
        target, small = f"{place}.{picture.extension}", f"{place}.thumb.webp"
        file.seek(0)
        runtime.storage.put(target, file, picture.content_type)
        runtime.storage.put(small, thumbnail, "image/webp")
    except NotAnImage as error:
        raise _Away(str(error)) from None
    except StorageError as error:
        raise _Away(f"our storage: {error}", ours=True) from None
    return Copy(
        path=target,
        sha256=fetched.sha256,
        bytes=fetched.bytes,
        width=picture.width,
        height=picture.height,
        content_type=picture.content_type,
        archived_at=runtime.clock(),
        thumbnail=small,
    )


def _write_manifest(runtime: Runtime, job: Job) -> None:
    """Write it last: where it lies, everything else does."""
    content = manifest(job, runtime.ledger.events(job.id), runtime.settings.public_url)
    runtime.storage.put(path(job.id), content, "application/json")


def _later(runtime: Runtime, lease: Lease, kept: _Kept) -> None:
    job, now, due_at = lease.job, runtime.clock(), runtime.clock()
    tries = _tries(job) + 1
    if kept.error:  # else only the time was up
        wait = max(back_off(tries - 1, FIRST, LONGEST, runtime.random), kept.retry_after)
        due_at = _in_time(job, kept.images, now, now + int(wait * 1000))
    result = runtime.ledger.follow_ups.later(
        lease,
        Step.ARCHIVE,
        now=now,
        due_at=due_at,
        tries=tries if kept.error else None,
        error=kept.error,
        images=kept.images,
    )
    event = "archive_failed" if kept.error else "archive_goes_on"
    _log(job, event, why=kept.error, wait=(due_at - now) // 1000, result=result)


def _end(runtime: Runtime, lease: Lease, kept: _Kept, ended: FollowUpStatus) -> None:
    result = runtime.ledger.follow_ups.done(
        lease,
        Step.ARCHIVE,
        ended,
        now=runtime.clock(),
        tries=_tries(lease.job) + 1,
        error=kept.error,
        images=kept.images,
    )
    _log(lease.job, f"archive_{ended}", why=kept.error, images=len(kept.images), result=result)


def _in_time(job: Job, images: tuple[Image, ...], now: int, planned: int) -> int:
    """The planned time, or sooner: shortly before the next link dies, and when it does."""
    dying = [_dies_at(job, image) for image in images if image.copy is None]
    last = [time for death in dying for time in (death - IN_TIME, death) if now < time < planned]
    return min(last, default=planned)


def _dies_at(job: Job, image: Image) -> int:
    """When no more tries are made with an image's link."""
    return image.expires_at or (job.settled_at or job.updated_at) + PATIENCE


def _tries(job: Job) -> int:
    return job.archive.tries if job.archive else 0


def _with(images: tuple[Image, ...], index: int, image: Image) -> tuple[Image, ...]:
    return (*images[:index], image, *images[index + 1 :])


def _temporary(data_dir: Path) -> BinaryIO:
    """A file without a name, so that nothing is left of it, whatever happens."""
    place = data_dir / "downloads"
    place.mkdir(parents=True, exist_ok=True)
    file: BinaryIO = tempfile.TemporaryFile(dir=place)  # noqa: SIM115  # the caller closes it
    return file


def _log(job: Job, event: str, **details: object) -> None:
    log.get().info(event, job=job.id, provider=job.request.provider, **details)
