"""Compares an archive with the ledger."""

from __future__ import annotations

from hashlib import sha256

from orchestrator.jobs.model import Copy, Job
from orchestrator.jsonio import NotJson
from orchestrator.operations.manifest import copies, path
from orchestrator.storage.storage import NotStored, Storage


def faults(storage: Storage, job: Job) -> list[str]:
    """Return the faults of a job's archive: missing or changed images, a missing manifest.

    Every byte is read.

    Raises:
        StorageError: the storage is away.
    """
    problems = [
        f"{job.id}: {copy.path} {problem}"
        for image in job.all_images
        if (copy := image.copy) and (problem := _problem(storage, copy))
    ]
    try:
        listed = copies(storage.get(path(job.id)))
    except (NotStored, NotJson):
        return [*problems, f"{job.id}: {path(job.id)} is gone"]
    expected = [image.copy.sha256 if image.copy else None for image in job.all_images]
    if [image["sha256"] for image in listed] != expected:
        problems.append(f"{job.id}: {path(job.id)} lists other images")
    return problems


def _problem(storage: Storage, copy: Copy) -> str | None:
    digest, length = sha256(), 0
    try:
        for piece in storage.stream(copy.path):
            digest.update(piece)
            length += len(piece)
    except NotStored:
        return "is gone"
    if (digest.hexdigest(), length) != (copy.sha256, copy.bytes):
        return f"has {length} bytes and another SHA-256"
    return None
