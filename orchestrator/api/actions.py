"""`/v1/jobs/{id}/...`: cancel a job, retry it, poll it, notify its caller again."""

from __future__ import annotations

from flask import Response, request
from flask_smorest import Blueprint
from werkzeug.exceptions import Conflict, TooManyRequests

from orchestrator.api import incoming
from orchestrator.api.answers import answer, find_job
from orchestrator.api.auth import caller
from orchestrator.api.openapi import JSON, operation
from orchestrator.enqueuing import cancel_job
from orchestrator.jobs.answer_schemas import CurrentJobSchema
from orchestrator.jobs.schema_fields import switch
from orchestrator.jobs.validation import StrictSchema, checked
from orchestrator.operations.poll_now import (
    MIN_INTERVAL_SECONDS,
    AskedRecently,
    NothingToPoll,
    poll_now,
)
from orchestrator.operations.replay import NothingToNotify, notify_again
from orchestrator.operations.rerun import MayBePaid, NotRetryable, retry
from orchestrator.runtime import Runtime


class RetrySchema(StrictSchema):
    """The body of `POST /v1/jobs/{id}/retry`."""

    accept_risk = switch(
        metadata={"description": "Retry although the first job may have been charged."}
    )


_RETRY = RetrySchema()


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes."""
    actions = Blueprint("actions", __name__, url_prefix="/v1/jobs", description="Actions on a job")

    @actions.post("/<job_id>/cancel")
    @actions.doc(**operation("cancel_job", {200: CurrentJobSchema}, 404, 409))
    def cancel(job_id: str) -> Response:
        """Cancel a job that was not sent to its provider. Answers 409 after it was sent."""
        return _cancel(runtime, job_id)

    @actions.post("/<job_id>/retry")
    @actions.doc(
        **operation(
            "retry_job",
            {202: CurrentJobSchema, 200: CurrentJobSchema},
            *(404, 409, 429),
            body={JSON: RetrySchema},
        )
    )
    def rerun(job_id: str) -> Response:
        """Enqueue the request of a failed or cancelled job again, once. 200: it was done before."""
        return _retry(runtime, job_id)

    @actions.post("/<job_id>/notify")
    @actions.doc(**operation("notify_job", {202: CurrentJobSchema}, 404, 409))
    def notify(job_id: str) -> Response:
        """Notify the caller again, with the same message id. Answers 409 without a receiver."""
        return _notify(runtime, job_id)

    @actions.post("/<job_id>/poll")
    @actions.doc(**operation("poll_job", {202: CurrentJobSchema}, 404, 409, 429))
    def poll(job_id: str) -> Response:
        """Ask the provider about a running job now. Answers 409 without a provider task."""
        return _poll(runtime, job_id)

    return actions


def _cancel(runtime: Runtime, job_id: str) -> Response:
    find_job(runtime, job_id)
    cancelled = cancel_job(runtime, job_id, actor=caller().name)
    job = find_job(runtime, job_id)
    if cancelled:
        return answer(runtime, job, 200)
    raise Conflict(f"it is {job.status}; only a queued job can be cancelled")


def _retry(runtime: Runtime, job_id: str) -> Response:
    job = find_job(runtime, job_id)
    body = checked(_RETRY, incoming.body() if request.get_data() else {})
    risk = body.get("accept_risk", False)
    try:
        result = retry(runtime, job, actor=caller().name, accept_risk=risk)
    except MayBePaid as error:
        raise Conflict(f'{error}; send {{"accept_risk": true}} to retry nevertheless') from None
    except NotRetryable as error:
        raise Conflict(str(error)) from None
    return answer(runtime, result.job, 200 if result.replayed else 202)


def _notify(runtime: Runtime, job_id: str) -> Response:
    job = find_job(runtime, job_id)
    try:
        notify_again(runtime, job, actor=caller().name)
    except NothingToNotify as error:
        raise Conflict(str(error)) from None
    return answer(runtime, find_job(runtime, job_id), 202)


def _poll(runtime: Runtime, job_id: str) -> Response:
    job = find_job(runtime, job_id)
    try:
        poll_now(runtime, job, actor=caller().name)
    except NothingToPoll as error:
        raise Conflict(str(error)) from None
    except AskedRecently as error:
        raise TooManyRequests(str(error), retry_after=MIN_INTERVAL_SECONDS) from None
    return answer(runtime, find_job(runtime, job_id), 202)
