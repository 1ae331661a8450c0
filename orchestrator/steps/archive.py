"""The archive step: copy a job's images to our own storage before their links expire.

A failure never changes the outcome: the job stays succeeded, because its images are paid for. An
image is tried again until its link has expired, or until no retry can mend the failure. Then the
image keeps the reason of the last failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from orchestrator import log, tracing
from orchestrator.backoff import back_off
from orchestrator.jobs.model import FollowUpStatus, Image, Job, Step
from orchestrator.ledger import Lease
from orchestrator.ledger.identifiers import folder
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import AGAIN, STORAGE_FAILED
from orchestrator.net.links import normalized_link
from orchestrator.operations.image_copies import NotCopied, Recovery, copy_image
from orchestrator.operations.manifest import manifest, path
from orchestrator.runtime import Runtime
from orchestrator.step_threads import StepThread
from orchestrator.storage.storage import Bundle, StorageError

#: First and longest wait between tries. Seconds.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 1800.0
#: One try is made this long before a link expires. ms.
LAST_TRY_BEFORE_EXPIRY_MS = 60_000
#: A link without an expiry time is tried for this long. ms.
TRY_UNKNOWN_EXPIRY_MS = 7 * 86_400_000
#: No link is tried for longer. ms.
MAX_TRYING_MS = 30 * 86_400_000
#: No image is given up with fewer tries, or sooner after the outcome, whatever a server says about
#: the expiry of its link. Only a link that is wrong in itself is given up at once.
MIN_TRIES, MIN_TRYING_MS = 6, 600_000
#: The part of a lease for storing an image, recording it and delays. ms.
LEASE_MARGIN_MS = 60_000


@dataclass(frozen=True, slots=True)
class _Kept:
    """The result of a try: the images, and why some have no copy."""

    images: tuple[Image, ...]
    #: The reason of the first image that failed; empty when none failed.
    error: str = ""
    #: The wait that a server asks for, seconds.
    retry_after: float = 0.0
    #: Our own storage failed.
    storage_failed: bool = False
    #: The wait of images whose domain or tenant holds its share of the places, seconds.
    busy_wait: float = 0.0

    @property
    def open(self) -> list[Image]:
        """The images that are tried again."""
        return [image for image in self.images if image.copy is None and not image.given_up]

    def without_storage(self, error: StorageError | OSError) -> _Kept:
        """Return the result when our own storage failed."""
        return replace(self, error=f"our storage: {error}", storage_failed=True)


def lease_ms(runtime: Runtime) -> int:
    """Return the lease of the step, ms: the time of two downloads. Other images follow at once."""
    return int(runtime.settings.download_timeout_seconds * 2000) + LEASE_MARGIN_MS


def archive(runtime: Runtime, job_id: str) -> None:
    """Do the archive step of a job, if its archive is due and not leased.

    Raises:
        LedgerUnavailable: nothing is lost. The lease ends and the sweep brings the job back.
    """
    with runtime.archive_threads.taken() as thread:
        if thread is None:
            return
        now = runtime.clock()
        lease = runtime.ledger.follow_ups.claim(
            job_id, Step.ARCHIVE, now=now, lease_ms=lease_ms(runtime)
        )
        if lease is None:
            return
        with (
            runtime.timings.measured(metrics.ARCHIVE_SECONDS) as measured,
            tracing.step_span(Step.ARCHIVE, job_id, lease.job.provider, lease.job.trace),
        ):
            kept = _stored(runtime, thread, lease)
            thread.free()
            ended = not (kept.storage_failed or kept.open)
            measured.labels = ((_end if ended else _later)(runtime, lease, kept),)


def _stored(runtime: Runtime, thread: StepThread, lease: Lease) -> _Kept:
    """Copy the images of a leased job. Write the manifest when none is open any more.

    An image is stored before the next one is downloaded, so that a step holds one in memory. The
    last one is stored with the manifest.
    """
    job, kept = lease.job, _Kept(lease.job.all_images)
    with Bundle() as bundle:
        for index in _open_in_order(job):
            kept = _committed(runtime, thread, job, kept, bundle)
            if kept.storage_failed or not _has_time(runtime, lease):
                break
            kept = _copied(runtime, job, kept, bundle, index, thread=thread)
        if not kept.storage_failed and not kept.open:
            bundle.put(path(job.id), _manifest(runtime, lease, kept), "application/json")
        return _committed(runtime, thread, job, kept, bundle, written=thread.free)


def _committed(
    runtime: Runtime,
    thread: StepThread,
    job: Job,
    kept: _Kept,
    bundle: Bundle,
    *,
    written: Callable[[], None] = lambda: None,
) -> _Kept:
    """Store a bundle. When that fails, its images have no copies.

    `written` is called when the bundle uses no more memory.
    """
    new = {each.path for each in bundle.objects}
    if not new:
        return kept
    try:
        runtime.storage.commit(bundle, thread.run, written)
    except (StorageError, OSError) as error:  # OSError: the file of a download cannot be read
        images = tuple(
            replace(before, error=f"our storage: {error}")
            if after.copy and after.copy.path in new
            else after
            for before, after in zip(job.all_images, kept.images, strict=True)
        )
        return replace(kept, images=images).without_storage(error)
    return kept


def _has_time(runtime: Runtime, lease: Lease) -> bool:
    """Return whether the lease is long enough for one more image."""
    needs = int(runtime.settings.download_timeout_seconds * 1000) + LEASE_MARGIN_MS // 2
    return runtime.clock() + needs <= lease.ends_at


def _copied(
    runtime: Runtime, job: Job, kept: _Kept, bundle: Bundle, index: int, *, thread: StepThread
) -> _Kept:
    """Copy one image, if its domain and its tenant have a share of the places left."""
    image, shares = kept.images[index], runtime.archive_shares
    host, stem = _host(image), f"{folder(job.id)}/{index}"
    wait = shares.reserve(job.tenant, host, runtime.clock(), runtime.random)
    if wait is not None:
        return replace(kept, busy_wait=max(kept.busy_wait, wait))
    try:
        with tracing.call_span("GET", image.source_url):
            copy = copy_image(runtime, bundle, stem, image.source_url, run=thread.run)
        done = replace(image, copy=copy, error=None, missing=False)
    except NotCopied as failure:
        done = _failed(job, image, failure, runtime.clock())
        kept = replace(
            kept,
            error=kept.error or str(failure),
            retry_after=max(kept.retry_after, failure.retry_after),
            storage_failed=failure.storage_failed,
        )
    finally:
        shares.free(job.tenant, host)
    return replace(kept, images=_with(kept.images, index, done))


def _host(image: Image) -> str:
    """Return the host of an image's link. Links without a host count as one host."""
    link = normalized_link(image.source_url)
    return link.split("/", 3)[2] if link else ""


def _open_in_order(job: Job) -> list[int]:
    """Return the images to copy: first those without a try, then in rotation.

    The rotation keeps slow links from using up every lease.
    """
    images = job.all_images
    tries, number = _tries(job), len(images)
    missing = [i for i, image in enumerate(images) if image.copy is None and not image.given_up]
    return sorted(missing, key=lambda i: (images[i].error is not None, (i - tries) % number))


def _failed(job: Job, image: Image, failure: NotCopied, now: int) -> Image:
    """Return an image after a failed try. Decides whether it is given up."""
    if failure.storage_failed:  # that says nothing about the image
        return replace(image, error=str(failure))
    tries = image.tries + 1
    tried_enough = tries >= MIN_TRIES and now >= _since(job) + MIN_TRYING_MS
    final = failure.recovery is Recovery.UNLIKELY or now >= _expires_at(job, image)
    given_up = failure.recovery is Recovery.IMPOSSIBLE or (final and tried_enough)
    missing = failure.recovery is not Recovery.POSSIBLE
    return replace(image, error=str(failure), tries=tries, given_up=given_up, missing=missing)


def _manifest(runtime: Runtime, lease: Lease, kept: _Kept) -> bytes:
    """Return the manifest of a job none of whose images is open any more."""
    number = len(lease.job.images)
    images, late_images = kept.images[:number], kept.images[number:]
    job = replace(lease.job, images=images, late_images=late_images)
    return manifest(job, lease.events, runtime.settings.public_url)


def _later(runtime: Runtime, lease: Lease, kept: _Kept) -> str:
    job, now, due_at = lease.job, runtime.clock(), runtime.clock()
    tries = _tries(job) + 1
    if kept.error:
        plain = back_off(tries - 1, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, runtime.random)
        asked = back_off(0, kept.retry_after, inf, runtime.random)  # with jitter
        wait = max(plain, asked)
        due_at = _before_expiry(job, kept.open, now, now + int(wait * 1000))
    elif kept.busy_wait:  # otherwise only the lease was too short
        due_at = _before_expiry(job, kept.open, now, now + int(kept.busy_wait * 1000))
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
    return STORAGE_FAILED if kept.storage_failed else AGAIN


def _end(runtime: Runtime, lease: Lease, kept: _Kept) -> str:
    missing = [image.error or "" for image in kept.images if image.copy is None]
    ended = FollowUpStatus.DEAD if missing else FollowUpStatus.DONE
    error = kept.error or next(iter(missing), "")
    result = runtime.ledger.follow_ups.done(
        lease,
        Step.ARCHIVE,
        ended,
        now=runtime.clock(),
        tries=_tries(lease.job) + 1,
        error=error,
        images=kept.images,
    )
    _log(lease.job, f"archive_{ended}", reason=error, images=len(kept.images), result=result)
    return ended.value


def _before_expiry(job: Job, images: list[Image], now: int, planned: int) -> int:
    """Return the planned time, or an earlier one: before the next link expires, or when it does."""
    expiries = [_expires_at(job, image) for image in images]
    times = [time for expiry in expiries for time in (expiry - LAST_TRY_BEFORE_EXPIRY_MS, expiry)]
    return min((time for time in times if now < time < planned), default=planned)


def _expires_at(job: Job, image: Image) -> int:
    """Return the time when an image's link expires, ms. An absent or odd time is assumed."""
    since, expiry = _since(job), image.expires_at
    if expiry is None or expiry <= job.created_at:  # before the job, so it cannot be right
        return since + TRY_UNKNOWN_EXPIRY_MS
    return min(expiry, since + MAX_TRYING_MS)


def _since(job: Job) -> int:
    """Return the time when the archive became due, ms."""
    return (job.archive and job.archive.since) or job.settled_at or job.updated_at


def _tries(job: Job) -> int:
    return job.archive.tries if job.archive else 0


def _with(images: tuple[Image, ...], index: int, image: Image) -> tuple[Image, ...]:
    return (*images[:index], image, *images[index + 1 :])


def _log(job: Job, event: str, **details: object) -> None:
    log.get().info(event, job=job.id, provider=job.provider, **details)
