"""`/v1/jobs/{id}/images`: the archived images."""

from __future__ import annotations

from typing import Never

from flask import Response, redirect, request
from flask_smorest import Blueprint
from werkzeug.exceptions import Gone, NotFound
from werkzeug.wrappers import Response as Answer

from orchestrator.api.auth import require_key
from orchestrator.operations.locate_image import Archived, AtProvider, Lost, locate_image
from orchestrator.runtime import Runtime
from orchestrator.storage.storage import NotStored

#: Lifetime of a signed link to the storage. Seconds.
LINK_SECONDS = 300
#: Caches may keep an archived image for a year, because it never changes. Seconds.
CACHE_SECONDS = 31_536_000

ANSWERS = {
    200: "The image, when the storage is a folder",
    302: "A signed link to the storage, or the provider's link until the copy exists",
    404: "There is no such image",
    410: "The image was not archived before the provider's link expired",
}


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes."""
    images = Blueprint("images", __name__, url_prefix="/v1/jobs", description="Archived images")

    @images.before_request
    def authenticate() -> None:
        require_key(runtime.settings.api_keys)

    @images.get("/<job_id>/images/<int:index>")
    @images.doc(security=[{"bearer": []}], responses=_answers(ANSWERS))
    def show(job_id: str, index: int) -> Answer:
        """Get an image of a job, numbered from 0. This also works after the retention time."""
        place = locate_image(runtime, job_id, index)
        if isinstance(place, Archived):
            return _stored(runtime, place.path, place.content_type, place.sha256)
        if isinstance(place, AtProvider):
            return _redirect(place.url)
        _absent(place, job_id, index)

    @images.get("/<job_id>/images/<int:index>/thumbnail")
    @images.doc(security=[{"bearer": []}], responses=_answers({**ANSWERS, 200: "The thumbnail"}))
    def thumbnail(job_id: str, index: int) -> Answer:
        """Get a thumbnail (WebP) of an archived image."""
        place = locate_image(runtime, job_id, index)
        if isinstance(place, Archived):
            return _stored(runtime, place.thumbnail, "image/webp", f"{place.sha256}.thumbnail")
        if isinstance(place, AtProvider):
            raise NotFound("there is no thumbnail until the image is archived")
        _absent(place, job_id, index)

    return images


def _stored(runtime: Runtime, path: str, content_type: str, tag: str) -> Answer:
    link = runtime.storage.link(path, seconds=LINK_SECONDS)
    if link:
        return _redirect(link)
    response = Response(b"", mimetype=content_type)
    response.set_etag(tag)
    response.cache_control.private = True
    response.cache_control.immutable = True
    response.cache_control.max_age = CACHE_SECONDS
    response.headers["X-Content-Type-Options"] = "nosniff"
    if tag not in request.if_none_match:  # otherwise the image need not be read
        response.data = _read(runtime, path)
    return response.make_conditional(
        request, accept_ranges=True, complete_length=len(response.data)
    )


def _read(runtime: Runtime, path: str) -> bytes:
    try:
        return runtime.storage.get(path)
    except NotStored:
        reason = "it was removed, or this host does not share the folder of the workers"
        raise NotFound(f"the image is not in the archive any more: {reason}") from None


def _redirect(url: str) -> Answer:
    response = redirect(url)
    response.headers["Cache-Control"] = "no-store"
    return response


def _absent(lost: Lost | None, job_id: str, index: int) -> Never:
    if lost:
        message = "the image was not archived before the provider's link expired"
        raise Gone(f"{message}: {lost.reason}")
    raise NotFound(f"there is no image {index} of a job {job_id[:80]!r}; numbers start at 0")


def _answers(descriptions: dict[int, str]) -> dict[str, dict[str, str]]:
    return {str(status): {"description": text} for status, text in descriptions.items()}
