"""How the images of a job are shown: a thumbnail, or a placeholder that says why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.jobs.model import DEFAULT_LINK_LIFETIME_MS, FollowUpStatus, Image, Job

#: Browsers run the scripts of this kind, so no page shows one.
SVG = "image/svg+xml"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image for a page.

    Attributes:
        index: its number.
        image: the image.
        thumbnail: whether there is one.
        why: why there is no thumbnail, as a sentence; perhaps with text of somebody else.
        opens: what the link to the image says; empty: there is nothing to open.
        late: it came after the outcome.
        dies_at: when its link expires, ms; None: it has a copy.
        is_given_up: it has no copy, and is not tried again.
    """

    index: int
    image: Image
    thumbnail: bool
    why: str
    opens: str
    late: bool
    dies_at: int | None
    is_given_up: bool


def pictures(job: Job, *, now: int) -> list[Picture]:
    """Return the images of a job, and after them the late ones."""
    return [_picture(job, index, image, now) for index, image in enumerate(job.all_images)]


def _picture(job: Job, index: int, image: Image, now: int) -> Picture:
    late, copy = index >= len(job.images), image.copy
    if copy:
        why, opens = "", "Open the image"
        if copy.content_type == SVG:
            why = "This is an SVG file. It can run scripts, so it is not shown here."
            opens = "Download the file"
        elif copy.check_error is not None:
            why = f"This file is not a checked image: {copy.check_error}."
            opens = "Download the file"
        elif copy.thumbnail is None:
            why = "The image has no thumbnail."
        shown = not why
        return Picture(index, image, shown, why, opens, late, None, is_given_up=False)
    dies_at = image.expires_at or (job.settled_at or now) + DEFAULT_LINK_LIFETIME_MS
    gone = job.archive is not None and job.archive.status is FollowUpStatus.DEAD
    given_up = image.given_up or gone
    why, opens = _absence(image, given_up=given_up, expired=dies_at <= now)
    return Picture(index, image, False, why, opens, late, dies_at, given_up)


def _absence(image: Image, *, given_up: bool, expired: bool) -> tuple[str, str]:
    """Return why an image has no copy, and what its link says."""
    reason = f" The last error was: {image.error}." if image.error else ""
    if expired:
        return f"The link has expired, and there is no copy.{reason}", ""
    if given_up:
        return f"The image could not be archived, and is not tried again.{reason}", ""
    if not image.source_url:
        return f"The image came inside the answer, and could not be stored.{reason}", ""
    return f"The image is not archived yet.{reason}", "Open the image at its provider"
