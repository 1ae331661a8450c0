"""The images that may be lost soon, ordered by the time when their links expire."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response

from orchestrator.dashboard import views
from orchestrator.dashboard.job import provider_titles
from orchestrator.dashboard.job_choices import can_archive
from orchestrator.dashboard.pictures import Picture, pictures
from orchestrator.jobs.model import Job
from orchestrator.operations.stats import RISK_HOURS, images_at_risk
from orchestrator.runtime import Runtime

#: The most jobs of the page. The first to expire are shown.
MAX_JOBS = 50


@dataclass(frozen=True, slots=True)
class Risk:
    """An image at risk."""

    job: Job
    picture: Picture
    seconds_left: float
    can_archive: bool


def add_to(pages: Blueprint, runtime: Runtime) -> None:
    """Add the route."""

    @pages.get("/at-risk")
    def at_risk() -> Response:
        """Images without a copy whose links expire soon."""
        if answer := views.unchanged(runtime):
            return answer
        tenant = views.chosen_tenant()
        number, jobs, unreadable = images_at_risk(runtime, MAX_JOBS, tenant)
        return views.render(
            "at_risk",
            risks=_risks(jobs, runtime.clock()),
            jobs=number,
            unreadable=unreadable,
            max_jobs=MAX_JOBS,
            hours=RISK_HOURS,
            providers=provider_titles(runtime),
            page_tenant=tenant if views.caller().admin else None,
        )


def _risks(jobs: list[Job], now: int) -> list[Risk]:
    risks = [
        Risk(job, picture, max(picture.dies_at - now, 0) / 1000, can_archive(job))
        for job in jobs
        for picture in pictures(job, now=now)
        if picture.dies_at is not None
    ]
    return sorted(risks, key=lambda risk: risk.seconds_left)
