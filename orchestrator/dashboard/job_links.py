"""Links to the images of a job for somebody without a key, such as a customer."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Blueprint, Response, request
from werkzeug.exceptions import Forbidden

from orchestrator.api.image_links import image_url
from orchestrator.dashboard import views
from orchestrator.dashboard.job import find_visible, missing
from orchestrator.dashboard.pictures import pictures
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation
from orchestrator.runtime import Runtime

#: The lifetimes that a page offers, by their names. Seconds.
LIFETIMES = {"1 hour": 3600, "1 day": 86_400, "7 days": 604_800}
#: The lifetime of a first visit.
DEFAULT_LIFETIME = "7 days"


def chosen_lifetime(fields: Mapping[str, str]) -> int:
    """Return the lifetime that a form names in its field `for`, seconds.

    Raises:
        InvalidRequest: it is none of LIFETIMES.
    """
    name = fields.get("for", DEFAULT_LIFETIME)
    if name not in LIFETIMES:
        raise InvalidRequest(Violation("for", name, OneOfNames(LIFETIMES)))
    return LIFETIMES[name]


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the route."""

    @pages.get("/jobs/<job_id>/links")
    def job_links(job_id: str) -> Response:
        """A link to each image of a job that can be shown. It needs no key."""
        if views.session().is_link:
            raise Forbidden("Whoever was invited by a link cannot invite others.")
        lifetime = request.args.get("for", DEFAULT_LIFETIME)
        seconds = chosen_lifetime({"for": lifetime})
        entry = find_visible(runtime, job_id)
        if entry is None:
            return missing(job_id)
        expires = runtime.clock() // 1000 + seconds
        shown = [it.index for it in pictures(entry.job, now=runtime.clock()) if it.opens]
        links = [(index, image_url(runtime, job_id, index, expires)) for index in shown]
        return views.render(
            "job_links",
            job=entry.job,
            links=links,
            expires_at=expires * 1000,
            lifetime=lifetime,
            lifetimes=list(LIFETIMES),
        )
