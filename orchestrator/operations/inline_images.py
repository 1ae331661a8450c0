"""Stores images that came inside a provider's answer, before the outcome is recorded.

There is no link to fetch them from later. Their bytes go to the storage and never to the ledger.
"""

from __future__ import annotations

import io
from dataclasses import replace
from hashlib import sha256
from time import perf_counter

from orchestrator.jobs.model import ErrorCode, Image, JobError, Outcome, PendingFailure
from orchestrator.ledger.identifiers import folder
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import STORAGE_FAILED
from orchestrator.net.guarded_session import FetchedBody
from orchestrator.operations.image_copies import CheckedFile, store_file
from orchestrator.runtime import Runtime
from orchestrator.step_loop import in_thread
from orchestrator.storage.file_kinds import Unusable
from orchestrator.storage.images import FileFacts, inspect_file, unchecked_file
from orchestrator.storage.source import PUT_TIMEOUT_SECONDS
from orchestrator.storage.storage import Bundle, StorageError
from orchestrator.storage.thumbnails import DECODER_WAIT_SECONDS

#: The part of the SHA-256 in the name of a file. Two answers never overwrite each other's images.
DIGEST_CHARACTERS = 16
#: The longest time for one image: it waits for a decoder, and is stored. ms.
IMAGE_MS = int((DECODER_WAIT_SECONDS + PUT_TIMEOUT_SECONDS) * 1000)


def storing_ms(outcome: Outcome) -> int:
    """Return the longest time that `store_inline_images` takes, ms. 0: it has nothing to store."""
    return IMAGE_MS * sum(image.content is not None for image in outcome.images)


def store_inline_images(runtime: Runtime, job_id: str, outcome: Outcome) -> Outcome:
    """Store every image of an outcome that has its content. Return the outcome with their copies.

    The returned images have no content. Other images are unchanged. A repeated call stores the same
    files again.

    Raises:
        StorageError: our storage failed. Try again later with the same outcome.
    """
    if not storing_ms(outcome):
        return outcome
    started = perf_counter()
    try:
        return in_thread(_all_stored, runtime, job_id, outcome)
    except StorageError:  # as an archive does, so that the alert sees it
        seconds = perf_counter() - started
        runtime.timings.observe(metrics.ARCHIVE_SECONDS, STORAGE_FAILED, seconds=seconds)
        raise


def unstored(reason: str, now: int) -> PendingFailure:
    """Return why a success is not the outcome yet: our storage did not take its images."""
    problem = JobError(ErrorCode.UNKNOWN, f"our storage: {reason}", retryable=True)
    return PendingFailure(problem, now, kind="unstored")


def _all_stored(runtime: Runtime, job_id: str, outcome: Outcome) -> Outcome:
    with Bundle() as bundle:
        images = tuple(
            image
            if image.content is None
            else _stored(runtime, bundle, job_id, image, image.content)
            for image in outcome.images
        )
        runtime.storage.commit(bundle)
    return replace(outcome, images=images)


def _stored(runtime: Runtime, bundle: Bundle, job_id: str, image: Image, content: bytes) -> Image:
    bare = replace(image, content=None, source_url="")
    if not content:
        return replace(bare, error="an empty file", given_up=True)
    file, digest = io.BytesIO(content), sha256(content).hexdigest()
    stem = f"{folder(job_id)}/inline-{digest[:DIGEST_CHARACTERS]}"
    fetched = FetchedBody(len(content), digest, "")
    checked = CheckedFile(file, fetched, _facts(runtime, file))
    return replace(bare, copy=store_file(runtime, bundle, stem, checked))


def _facts(runtime: Runtime, file: io.BytesIO) -> FileFacts:
    try:
        return inspect_file(file, max_pixels=runtime.settings.max_image_pixels)
    except Unusable as error:  # no other download can give a better file
        return unchecked_file(file, str(error))
