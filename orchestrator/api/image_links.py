"""Signed links to images. Whoever has a link sees one image for a limited time, without a key."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields
from werkzeug.exceptions import Conflict, Gone, NotFound
from werkzeug.wrappers import Response as Answer

from orchestrator.api import incoming
from orchestrator.api.answers import as_json
from orchestrator.api.auth import caller
from orchestrator.api.images import image_answer, no_image
from orchestrator.api.openapi import operation, query
from orchestrator.jobs.answer_schemas import AnswerSchema, timestamp
from orchestrator.jsonio import rfc3339
from orchestrator.ledger.identifiers import is_job_id
from orchestrator.operations.locate_image import locate_image
from orchestrator.runtime import Runtime
from orchestrator.security import tokens

#: The lifetime of a link: default, shortest and longest. Seconds.
DEFAULT_SECONDS, MIN_SECONDS, MAX_SECONDS = 3600, 1, 604_800
#: The name of the route that needs no key.
PUBLIC = "public_images"
#: The purpose of the token. A callback's token is no image's token.
_PURPOSE = "image"


class ImageLinkSchema(AnswerSchema):
    """A link to an image that needs no key, and when it expires."""

    url = fields.Url()
    expires_at = timestamp()


EXPIRES_IN = query(
    "expires_in",
    "The lifetime of the link, seconds.",
    type="integer",
    minimum=MIN_SECONDS,
    maximum=MAX_SECONDS,
    default=DEFAULT_SECONDS,
)


def add_to(images: Blueprint, runtime: Runtime) -> None:
    """Add the route that makes links to the routes of images."""

    @images.get("/<job_id>/images/<int:index>/link")
    @images.doc(
        **operation("get_image_link", {200: ImageLinkSchema}, 404, 409, parameters=[EXPIRES_IN])
    )
    def make(job_id: str, index: int) -> Response:
        """Get a link to an image that needs no key. It cannot be revoked before it expires."""
        seconds = incoming.whole("expires_in", DEFAULT_SECONDS, MIN_SECONDS, MAX_SECONDS)
        if locate_image(runtime, job_id, index, sees=caller().sees) is None:
            raise no_image(job_id, index)
        expires = runtime.clock() // 1000 + seconds
        url = image_url(runtime, job_id, index, expires)
        return as_json({"url": url, "expires_at": rfc3339(expires * 1000)}, 200)


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the route of the links. It needs no key."""
    public = Blueprint(PUBLIC, __name__)

    @public.get("/images/<job_id>/<int:index>/<int:expires>/<token>")
    def show(job_id: str, index: int, expires: int, token: str) -> Answer:
        """Show the image of a link."""
        parts = (_PURPOSE, job_id, index, expires)
        if not is_job_id(job_id) or not tokens.verify(runtime.settings.secret_keys, token, *parts):
            raise NotFound(
                "the link is not valid: it is incomplete, or it was changed; copy all of it"
            )
        left_ms = expires * 1000 - runtime.clock()
        if left_ms <= 0:
            raise Gone(
                "the link has expired; ask for a new one, with /v1/jobs/{id}/images/{n}/link"
            )
        response = image_answer(runtime, job_id, index, sees=lambda _: True)
        response.headers["Referrer-Policy"] = "no-referrer"
        if response.cache_control.max_age:
            response.cache_control.max_age = left_ms // 1000
        return response

    return public


def image_url(runtime: Runtime, job_id: str, index: int, expires: int) -> str:
    """Return the link to an image that works without a key until it expires (Unix seconds).

    Raises:
        Conflict: our public URL or secret key is not set.
    """
    settings = runtime.settings
    if settings.public_url is None or not settings.secret_keys:
        raise Conflict("there are no signed links until the operator sets ORCHESTRATOR_PUBLIC_URL")
    token = tokens.sign(settings.secret_keys[0], _PURPOSE, job_id, index, expires)
    return f"{settings.public_url}/images/{job_id}/{index}/{expires}/{token}"
