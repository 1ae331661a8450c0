"""Links to reference images of callers, for the provider that fetches them. No key is needed."""

from __future__ import annotations

from flask import Blueprint, Response
from werkzeug.exceptions import Gone, NotFound

from orchestrator.reference_images import (
    ENDINGS,
    LIFETIME_MS,
    PATH,
    is_reference,
    reference_path,
)
from orchestrator.runtime import Runtime

#: The name of the routes.
PUBLIC = "references"
_TYPES = {ending: kind for kind, ending in ENDINGS.items()}


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the route of the links. It needs no key."""
    public = Blueprint(PUBLIC, __name__)

    @public.get(f"/{PATH}/<token>/<owner>/<name>")
    def show(token: str, owner: str, name: str) -> Response:
        """Show the image of a link."""
        if not is_reference(runtime, token, owner, name):
            raise NotFound("the link is not valid: it is incomplete, or it was changed")
        path = reference_path(owner, name)
        stored_at = runtime.storage.modified(path)
        if stored_at is None or runtime.clock() - stored_at > LIFETIME_MS:
            raise Gone("the link has expired")
        response = Response(runtime.storage.stream(path))
        response.headers["Content-Type"] = _TYPES[name.rpartition(".")[2]]
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "private, no-store"
        return response

    return public
