"""The manifest `job.json` of a job's archive, and the paths of its files.

    {YYYY-MM-DD}/{job id}/0.png, 0.thumb.webp, 1.png, ..., job.json

The date is the time in the job id. So the folder is found when Redis no longer knows the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.jobs.model import Event, Image, Job
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.jobs.views import event_view, job_view
from orchestrator.jsonio import NotJson, dump, parse
from orchestrator.ledger import keys

#: The version of job.json. It changes when a reader of the old form cannot read the new one.
VERSION = 1


def folder(job_id: str) -> str:
    """Return the folder of a job's files."""
    day = datetime.fromtimestamp(keys.created_at(job_id) / 1000, UTC).date()
    return f"{day.isoformat()}/{job_id}"


def path(job_id: str) -> str:
    """Return the path of a job's manifest."""
    return f"{folder(job_id)}/job.json"


def manifest(job: Job, events: Iterable[Event], base_url: str | None) -> bytes:
    """Return the manifest: the job as the API shows it, its timeline and its files."""
    shown = job_view(job, base_url)
    del shown["archive"], shown["notification"]  # their state changes after the manifest
    return dump(
        {
            "manifest": VERSION,
            **shown,
            "images": _with_files(shown["images"], job.images),
            "late_images": _with_files(shown["late_images"], job.late_images),
            "timeline": [event_view(event) for event in events],
        }
    )


def copies(content: bytes) -> list[Mapping[str, Any]]:
    """Return the images of a manifest, with `path`, `thumbnail`, `content_type`, `sha256`, ...

    The late images follow the images of the outcome.

    Raises:
        NotJson: the content is not a manifest.
    """
    document = parse(content)
    listed = document.get("images") if isinstance(document, dict) else None
    late = document.get("late_images", []) if isinstance(document, dict) else None
    if not isinstance(listed, list) or not isinstance(late, list):
        raise NotJson("it is not a manifest")
    return [*listed, *late]


def owner(content: bytes) -> str:
    """Return the tenant of a manifest.

    Raises:
        NotJson: the content is not a manifest.
    """
    document = parse(content)
    if not isinstance(document, dict):
        raise NotJson("it is not a manifest")
    return str(document.get("tenant", DEFAULT_TENANT))  # older manifests name none


def _with_files(views: list[dict[str, Any]], images: tuple[Image, ...]) -> list[dict[str, Any]]:
    return [{**view, **_files(image)} for view, image in zip(views, images, strict=True)]


def _files(image: Image) -> dict[str, str | None]:
    copy = image.copy
    return {"path": copy.path if copy else None, "thumbnail": copy.thumbnail if copy else None}
