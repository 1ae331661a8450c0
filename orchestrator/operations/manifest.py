"""What lies in the archive, and where: a folder for each job, named by its id alone.

    {YYYY-MM-DD}/{job id}/0.png, 0.thumb.webp, 1.png, ..., job.json

The date is the one in the id, so the folder can be found when the ledger has forgotten the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.jobs.model import Event, Image, Job
from orchestrator.jobs.schemas import event_view, job_view
from orchestrator.jsonio import NotJson, dump, parse
from orchestrator.ledger import keys

#: The form of job.json; raised when a reader of the old form could not read the new one.
VERSION = 1


def folder(job_id: str) -> str:
    """Where a job's images lie."""
    day = datetime.fromtimestamp(keys.made_at(job_id) / 1000, UTC).date()
    return f"{day.isoformat()}/{job_id}"


def path(job_id: str) -> str:
    """Where a job's manifest lies."""
    return f"{folder(job_id)}/job.json"


def manifest(job: Job, events: Iterable[Event], base_url: str | None) -> bytes:
    """A job's record beside its images: the job as callers see it, its timeline, its files."""
    seen = job_view(job, base_url)
    del seen["archive"], seen["notification"]  # the one is this, the other goes on
    images = zip(seen["images"], job.images, strict=True)
    return dump(
        {
            "manifest": VERSION,
            **seen,
            "images": [{**view, **_files(image)} for view, image in images],
            "timeline": [event_view(event) for event in events],
        }
    )


def copies(content: bytes) -> list[Mapping[str, Any]]:
    """The images that a manifest lists: `path`, `thumbnail`, `content_type`, `sha256`, ...

    Raises:
        NotJson: it is no manifest.
    """
    told = parse(content)
    listed = told.get("images") if isinstance(told, dict) else None
    if not isinstance(listed, list):
        raise NotJson("it is no manifest")
    return listed


def _files(image: Image) -> dict[str, str | None]:
    copy = image.copy
    return {"path": copy.path if copy else None, "thumbnail": copy.thumbnail if copy else None}
