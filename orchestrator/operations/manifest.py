"""The manifest `job.json` of a job's archive, and the paths of its files.

    {YYYY-MM-DD}/{job id}/0.png, 0.thumb.webp, 1.png, ..., job.json

The date is the time in the job id. So the folder is found when Redis no longer knows the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.jobs.event import Event
from orchestrator.jobs.model import (
    Attempt,
    Copy,
    Cost,
    ErrorCode,
    FollowUp,
    FollowUpStatus,
    Image,
    Job,
    JobError,
    Move,
    SettledBy,
    Status,
)
from orchestrator.jobs.request import JobRequest, Target
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.jobs.views import event_view, job_view
from orchestrator.jsonio import NotJson, dump, ms, parse
from orchestrator.ledger import codec, identifiers
from orchestrator.ledger.changes import StoredJob
from orchestrator.ledger.timeline import line_of

#: The version of job.json. It changes when a reader of the old form cannot read the new one.
VERSION = 1
#: The name of the file.
FILE = "job.json"


def path(job_id: str) -> str:
    """Return the path of a job's manifest."""
    return f"{identifiers.folder(job_id)}/{FILE}"


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


def stored_job(content: bytes) -> StoredJob:
    """Return the job of a manifest as the ledger had it, without its receiver of notifications.

    Raises:
        NotJson: the content is not a manifest.
    """
    document = parse(content)
    try:
        job, events = _job(document), _events(document["timeline"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise NotJson("it is not a manifest") from None
    return StoredJob(job.id, codec.fields_of(job), tuple(map(line_of, events)))


def _job(document: dict[str, Any]) -> Job:
    images, late = (
        tuple(map(_image, document.get(name, []))) for name in ("images", "late_images")
    )
    error, cost = document["error"], document["cost"]
    moves = tuple(map(_move, document.get("fallbacks", [])))
    request = _request(document, moves)
    kept = all(image.copy for image in (*images, *late))
    ended = FollowUpStatus.DONE if kept else FollowUpStatus.DEAD
    return Job(
        id=document["id"],
        status=Status(document["status"]),
        request=request,
        created_at=ms(document["created_at"]),
        updated_at=ms(document["updated_at"]),
        deadline_at=ms(document["deadline_at"]),
        tenant=document.get("tenant", DEFAULT_TENANT),
        batch=document.get("batch"),
        retry_of=document.get("retry_of"),
        retried_as=document.get("retried_as"),
        attempts=tuple(
            Attempt(
                each["number"],
                ms(each["submitted_at"]),
                each["task_id"],
                each["provider"] if moves else None,
            )
            for each in document["attempts"]
        ),
        images=images,
        late_images=late,
        error=JobError(**{**error, "code": ErrorCode(error["code"])}) if error else None,
        cost=Cost(**cost) if cost and cost["amount"] is not None else None,
        settled_at=ms(document["settled_at"]),
        settled_by=SettledBy(document["settled_by"]),
        archive=FollowUp(ended) if images or late else None,
        moved_to=None if document["provider"] == request.provider else document["provider"],
        moves=moves,
    )


def _request(document: dict[str, Any], moves: tuple[Move, ...]) -> JobRequest:
    """Return the request. Its first provider and model stand in the moves and attempts."""
    first = moves[0].source if moves else document["provider"]
    models = {each["provider"]: each.get("model") for each in document["attempts"]}
    native = dict(document["request"])
    return JobRequest(
        first,
        models.get(first) or document["model"],
        native=native,
        metadata=document["metadata"],
        fallback=tuple(Target(**target) for target in native.pop("fallback", ())),
    )


def _move(view: dict[str, Any]) -> Move:
    return Move(ms(view["at"]), view["from"], view["provider"], view["reason"])


def _image(view: dict[str, Any]) -> Image:
    names = ("path", "sha256", "bytes", "width", "height", "content_type", "thumbnail")
    copy = None
    if view["path"]:
        known = {name: view[name] for name in names}
        copy = Copy(
            **known, archived_at=ms(view["archived_at"]), check_error=view.get("check_error")
        )
    expires = view["expires_at"]
    return Image(
        view["source_url"] or "", ms(expires) if expires else None, copy, error=view["error"]
    )


def _events(timeline: list[dict[str, Any]]) -> list[Event]:
    return [Event(ms(each["at"]), each["event"], each["detail"]) for each in timeline]


def _with_files(views: list[dict[str, Any]], images: tuple[Image, ...]) -> list[dict[str, Any]]:
    return [{**view, **_files(image)} for view, image in zip(views, images, strict=True)]


def _files(image: Image) -> dict[str, str | None]:
    copy = image.copy
    return {"path": copy.path if copy else None, "thumbnail": copy.thumbnail if copy else None}
