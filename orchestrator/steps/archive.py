"""The archive step: copy a job's images to our own storage before their links expire.

A failure never changes the outcome: the job stays succeeded, because its images are paid for. An
image is tried again until its link expires. Then the image keeps the reason of the last failure.
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
from orchestrator.net.guarded_session import FetchedBody, RequestFailed
from orchestrator.operations.manifest import folder, manifest, path
from orchestrator.runtime import Runtime
from orchestrator.storage.images import NotAnImage, inspect_image
from orchestrator.storage.storage import StorageError

#: First and longest wait between tries. Seconds.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 1800.0
#: One try is made this long before a link expires. ms.
LAST_TRY_BEFORE_EXPIRY_MS = 60_000
#: A link without an expiry time is tried for this long. ms.
TRY_UNKNOWN_EXPIRY_MS = 7 * 86_400_000
#: The part of a lease for storing an image, recording it and delays. ms.
LEASE_MARGIN_MS = 60_000
#: Grace after a link expires when the lease was too short, so that every image gets a try. ms.
EXPIRED_GRACE_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class _Kept:
    """The result of a try: the images, and why some have no copy."""

    images: tuple[Image, ...]
    #: The reason of the first image that failed; empty when none failed.
    error: str = ""
    #: The wait that a server asks for, seconds.
    retry_after: float = 0.0
    #: The lease was too short for every image.
    cut_short: bool = False
    #: Our own storage failed.
    storage_failed: bool = False


class _NotCopied(Exception):
    """An image could not be copied. The message is the reason."""

    def __init__(
        self, reason: str, *, retry_after: float | None = None, storage_failed: bool = False
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after or 0.0
        #: Our own storage failed, so the next image would fail too.
        self.storage_failed = storage_failed


def lease_ms(runtime: Runtime) -> int:
    """Return the lease of the step, ms: the time of two downloads. Other images follow at once."""
    return int(runtime.settings.download_timeout_seconds * 2000) + LEASE_MARGIN_MS


def archive(runtime: Runtime, job_id: str) -> None:
    """Do the archive step of a job, if its archive is due and not leased.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the sweep brings the job back.
    """
    now = runtime.clock()
    lease = runtime.ledger.follow_ups.claim(
        job_id, Step.ARCHIVE, now=now, lease_ms=lease_ms(runtime)
    )
    if lease is None:
        return
    kept = _keep(runtime, lease)
    missing = [image for image in kept.images if image.copy is None]
    grace = EXPIRED_GRACE_MS if kept.cut_short else 0
    expired = all(_expires_at(lease.job, image) + grace <= now for image in missing)
    if kept.storage_failed or not expired:
        _later(runtime, lease, kept)
        return
    try:
        _write_manifest(runtime, replace(lease.job, images=kept.images))
    except StorageError as error:
        _later(runtime, lease, replace(kept, error=f"our storage: {error}"))
        return
    _end(runtime, lease, kept, FollowUpStatus.DEAD if missing else FollowUpStatus.DONE)


def _keep(runtime: Runtime, lease: Lease) -> _Kept:
    """Copy each image without a copy, as far as the lease allows."""
    kept = _Kept(lease.job.images)
    needs = int(runtime.settings.download_timeout_seconds * 1000) + LEASE_MARGIN_MS // 2
    for index in _missing_in_order(lease.job):
        image = lease.job.images[index]
        if runtime.clock() + needs > lease.ends_at:
            return replace(kept, cut_short=True)
        try:
            done = replace(image, copy=_copied(runtime, lease.job, index), error=None)
        except _NotCopied as failure:
            done = replace(image, error=str(failure))
            wait = max(kept.retry_after, failure.retry_after)
            kept = replace(kept, error=kept.error or str(failure), retry_after=wait)
            if failure.storage_failed:
                return replace(kept, images=_with(kept.images, index, done), storage_failed=True)
        kept = replace(kept, images=_with(kept.images, index, done))
    return kept


def _missing_in_order(job: Job) -> list[int]:
    """Return the images without a copy: first those without a try, then in rotation.

    The rotation keeps slow links from using up every lease.
    """
    tries, number = _tries(job), len(job.images)
    missing = [index for index, image in enumerate(job.images) if image.copy is None]
    return sorted(missing, key=lambda i: (job.images[i].error is not None, (i - tries) % number))


def _copied(runtime: Runtime, job: Job, index: int) -> Copy:
    """Copy one image: download it to a temporary file, check it, store it."""
    try:
        with _temporary(runtime.settings.data_dir) as file:
            fetched = _fetched(runtime, job.images[index].source_url, file)
            return _stored(runtime, job, index, file, fetched)
    except OSError as error:
        reason = f"no room for a download: {error.strerror or error}"
        raise _NotCopied(reason, storage_failed=True) from error


def _fetched(runtime: Runtime, url: str, file: BinaryIO) -> FetchedBody:
    settings = runtime.settings
    try:
        return runtime.session.fetch(
            url,
            file,
            seconds=settings.download_timeout_seconds,
            max_bytes=settings.max_image_bytes,
        )
    except Forbidden as error:
        raise _NotCopied(str(error)) from None
    except RequestFailed as error:
        raise _NotCopied(error.reason, retry_after=error.retry_after) from None


def _stored(runtime: Runtime, job: Job, index: int, file: BinaryIO, fetched: FetchedBody) -> Copy:
    try:
        facts, thumbnail = inspect_image(file, max_pixels=runtime.settings.max_image_pixels)
        stem = f"{folder(job.id)}/{index}"
        target, small = f"{stem}.{facts.extension}", f"{stem}.thumb.webp"
        file.seek(0)
        runtime.storage.put(target, file, facts.content_type)
        runtime.storage.put(small, thumbnail, "image/webp")
    except NotAnImage as error:
        raise _NotCopied(str(error)) from None
    except StorageError as error:
        raise _NotCopied(f"our storage: {error}", storage_failed=True) from None
    return Copy(
        path=target,
        sha256=fetched.sha256,
        bytes=fetched.bytes,
        width=facts.width,
        height=facts.height,
        content_type=facts.content_type,
        archived_at=runtime.clock(),
        thumbnail=small,
    )


def _write_manifest(runtime: Runtime, job: Job) -> None:
    """Write the manifest. It is written last, so every file that it names exists."""
    content = manifest(job, runtime.ledger.events(job.id), runtime.settings.public_url)
    runtime.storage.put(path(job.id), content, "application/json")


def _later(runtime: Runtime, lease: Lease, kept: _Kept) -> None:
    job, now, due_at = lease.job, runtime.clock(), runtime.clock()
    tries = _tries(job) + 1
    if kept.error:  # otherwise only the lease was too short
        plain = back_off(tries - 1, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, runtime.random)
        wait = max(plain, kept.retry_after)
        due_at = _before_expiry(job, kept.images, now, now + int(wait * 1000))
    result = runtime.ledger.follow_ups.later(
        lease,
        Step.ARCHIVE,
        now=now,
        due_at=due_at,
        tries=tries if kept.error else None,
        error=kept.error,
        images=kept.images,
    )
    event = "archive_failed" if kept.error else "archive_continued"
    _log(job, event, reason=kept.error, wait=(due_at - now) // 1000, result=result)


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
    _log(lease.job, f"archive_{ended}", reason=kept.error, images=len(kept.images), result=result)


def _before_expiry(job: Job, images: tuple[Image, ...], now: int, planned: int) -> int:
    """Return the planned time, or an earlier one: before the next link expires, or when it does."""
    expiries = [_expires_at(job, image) for image in images if image.copy is None]
    times = [time for expiry in expiries for time in (expiry - LAST_TRY_BEFORE_EXPIRY_MS, expiry)]
    return min((time for time in times if now < time < planned), default=planned)


def _expires_at(job: Job, image: Image) -> int:
    """Return the time of the last try of an image's link, ms."""
    return image.expires_at or (job.settled_at or job.updated_at) + TRY_UNKNOWN_EXPIRY_MS


def _tries(job: Job) -> int:
    return job.archive.tries if job.archive else 0


def _with(images: tuple[Image, ...], index: int, image: Image) -> tuple[Image, ...]:
    return (*images[:index], image, *images[index + 1 :])


def _temporary(data_dir: Path) -> BinaryIO:
    """Return a file without a name. The system deletes it when the process ends."""
    downloads = data_dir / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    file: BinaryIO = tempfile.TemporaryFile(dir=downloads)  # noqa: SIM115  # the caller closes it
    return file


def _log(job: Job, event: str, **details: object) -> None:
    log.get().info(event, job=job.id, provider=job.request.provider, **details)
