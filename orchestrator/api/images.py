"""`/v1/jobs/{id}/images`: the images themselves, from our archive."""

from __future__ import annotations

from typing import Never

from flask import Response, redirect, request
from flask_smorest import Blueprint
from werkzeug.exceptions import Gone, NotFound
from werkzeug.wrappers import Response as Answer

from orchestrator.api.auth import require_key
from orchestrator.operations.locate_image import Archived, AtProvider, Lost, find
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import NotStored

#: How long a signed link to the storage lives: time to follow it. Seconds.
LINK_SECONDS = 300
#: An archived image never changes.
FOR_EVER = 31_536_000

ANSWERS = {
    200: "The image, where the storage is a folder",
    302: "Where it is: a signed link to the storage, or the provider's own until it is archived",
    404: "There is no such image",
    410: "It could not be archived before the provider's link died",
}


def blueprint(runtime: Runtime) -> Blueprint:
    """The routes, on these runtime."""
    images = Blueprint("images", __name__, url_prefix="/v1/jobs", description="Archived images")

    @images.before_request
    def authenticate() -> None:
        require_key(runtime.settings.api_keys)

    @images.get("/<job_id>/images/<int:index>")
    @images.doc(security=[{"bearer": []}], responses=_answers(ANSWERS))
    def show(job_id: str, index: int) -> Answer:
        """Get an image of a job, numbered from 0; also after the job's retention time."""
        found = find(runtime, job_id, index)
        if isinstance(found, Archived):
            return _kept(runtime, found.path, found.content_type, found.sha256)
        if isinstance(found, AtProvider):
            return _elsewhere(found.url)
        _absent(found, job_id, index)

    @images.get("/<job_id>/images/<int:index>/thumbnail")
    @images.doc(security=[{"bearer": []}], responses=_answers({**ANSWERS, 200: "A small WebP"}))
    def thumbnail(job_id: str, index: int) -> Answer:
        """Get a small WebP of an archived image."""
        found = find(runtime, job_id, index)
        if isinstance(found, Archived):
            return _kept(runtime, found.thumbnail, "image/webp", f"{found.sha256}.thumbnail")
        if isinstance(found, AtProvider):
            raise NotFound("there is no thumbnail until the image is archived")
        _absent(found, job_id, index)

    return images


def _kept(runtime: Runtime, path: str, content_type: str, tag: str) -> Answer:
    link = runtime.storage.link(path, seconds=LINK_SECONDS)
    if link:
        return _elsewhere(link)
    response = Response(b"", mimetype=content_type)
    response.set_etag(tag)
    response.cache_control.private = True
    response.cache_control.immutable = True
    response.cache_control.max_age = FOR_EVER
    response.headers["X-Content-Type-Options"] = "nosniff"
    if tag not in request.if_none_match:  # else it need not be read
        response.data = _read(runtime, path)
    return response.make_conditional(
        request, accept_ranges=True, complete_length=len(response.data)
    )


def _read(runtime: Runtime, path: str) -> bytes:
    try:
        return runtime.storage.get(path)
    except NotStored:
        why = "it was removed, or this host's folder is not the one that the workers write to"
        raise NotFound(f"the image is not in the archive any more: {why}") from None


def _elsewhere(url: str) -> Answer:
    response = redirect(url)
    response.headers["Cache-Control"] = "no-store"
    return response


def _absent(found: Lost | None, job_id: str, index: int) -> Never:
    if found:
        raise Gone(f"it could not be archived before the provider's link died: {found.why}")
    raise NotFound(f"there is no image {index} of a job {job_id[:80]!r}; they are numbered from 0")


def _answers(told: dict[int, str]) -> dict[str, dict[str, str]]:
    return {str(status): {"description": text} for status, text in told.items()}
