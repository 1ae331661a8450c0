"""Images and thumbnails for the pages: the API's answers, with a session instead of a key."""

from __future__ import annotations

from flask import Blueprint
from werkzeug.wrappers import Response

from orchestrator.api.images import image_answer, thumbnail_answer
from orchestrator.dashboard import views
from orchestrator.runtime import Runtime


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the routes. The answers are no redirects, because a page shows images of ours only."""

    @pages.get("/jobs/<job_id>/images/<int:index>")
    def image(job_id: str, index: int) -> Response:
        """An image of a job."""
        sees = views.caller().sees
        return image_answer(runtime, job_id, index, sees=sees, redirects=False)

    @pages.get("/jobs/<job_id>/images/<int:index>/thumbnail")
    def thumbnail(job_id: str, index: int) -> Response:
        """Its thumbnail."""
        sees = views.caller().sees
        return thumbnail_answer(runtime, job_id, index, sees=sees, redirects=False)
