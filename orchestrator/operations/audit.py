"""Holds what the archive has against what the ledger says it has."""

from __future__ import annotations

from hashlib import sha256

from orchestrator.jobs.model import Copy, Job
from orchestrator.jsonio import NotJson
from orchestrator.operations.manifest import copies, path
from orchestrator.storage.storage import NotStored, Storage


def faults(storage: Storage, job: Job) -> list[str]:
    """What is wrong with a job's archive: images that are gone or changed, a manifest that lacks.

    Reads every byte.

    Raises:
        StorageError: the storage is away.
    """
    found = [
        f"{job.id}: {copy.path} {wrong}"
        for image in job.images
        if (copy := image.copy) and (wrong := _wrong(storage, copy))
    ]
    try:
        listed = copies(storage.get(path(job.id)))
    except (NotStored, NotJson):
        return [*found, f"{job.id}: {path(job.id)} is gone"]
    told = [image.copy.sha256 if image.copy else None for image in job.images]
    if [image["sha256"] for image in listed] != told:
        found.append(f"{job.id}: {path(job.id)} lists other images")
    return found


def _wrong(storage: Storage, copy: Copy) -> str | None:
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
