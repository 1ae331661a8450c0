"""`/v1/jobs/{id}/...`: cancel a job, try it again, tell its caller again."""

from __future__ import annotations

from flask import Response, g, request
from flask_smorest import Blueprint
from marshmallow import fields
from werkzeug.exceptions import Conflict

from orchestrator.api import incoming
from orchestrator.api.answers import answer, existing
from orchestrator.api.auth import require_key
from orchestrator.enqueue import cancel_job
from orchestrator.jobs.schemas import JobSchema
from orchestrator.jobs.validation import StrictSchema, always, checked
from orchestrator.operations.replay import NothingToTell, tell_again
from orchestrator.operations.rerun import MayBePaid, NotRetryable, retry
from orchestrator.runtime import Runtime


class RetrySchema(StrictSchema):
    """What `POST /v1/jobs/{id}/retry` takes."""

    accept_risk = fields.Boolean(
        truthy={True},
        falsy={False},
        error_messages=always("true or false"),
        metadata={"description": "Go on although the first job may have been charged."},
    )


def blueprint(runtime: Runtime) -> Blueprint:
    """The routes, on these runtime."""
    actions = Blueprint("actions", __name__, url_prefix="/v1/jobs", description="Acts on a job")

    @actions.before_request
    def authenticate() -> None:
        require_key(runtime.settings.api_keys)

    @actions.post("/<job_id>/cancel")
    @actions.doc(security=[{"bearer": []}])
    @actions.alt_response(200, schema=JobSchema, description="The job, cancelled")
    def cancel(job_id: str) -> Response:
        """Call a job off that was not sent to its provider yet; 409 once it was."""
        cancelled = cancel_job(runtime, job_id)
        job = existing(runtime.ledger.get(job_id), job_id)
        if cancelled:
            return answer(runtime, job, 200)
        raise Conflict(f"it is {job.status}: only a job that is still queued can be cancelled")

    @actions.post("/<job_id>/retry")
    @actions.doc(
        security=[{"bearer": []}],
        requestBody={"content": {"application/json": {"schema": RetrySchema}}},
    )
    @actions.alt_response(202, schema=JobSchema, description="A new job, queued")
    @actions.alt_response(200, schema=JobSchema, description="The job that an earlier retry made")
    def again(job_id: str) -> Response:
        """Enqueue the request of a failed or cancelled job again, once."""
        job = existing(runtime.ledger.get(job_id), job_id)
        told = checked(RetrySchema(), incoming.body() if request.get_data() else {})
        risk = told.get("accept_risk", False)
        try:
            placed = retry(runtime, job, caller=f"api:{g.caller}", accept_risk=risk)
        except MayBePaid as error:
            raise Conflict(f'{error}; send {{"accept_risk": true}} to do it all the same') from None
        except NotRetryable as error:
            raise Conflict(str(error)) from None
        return answer(runtime, placed.job, 200 if placed.replayed else 202)

    @actions.post("/<job_id>/notify")
    @actions.doc(security=[{"bearer": []}])
    @actions.alt_response(202, schema=JobSchema, description="The job; its caller is told again")
    def tell(job_id: str) -> Response:
        """Tell a job's caller again, with the same message id; 409 if there is nobody to tell."""
        job = existing(runtime.ledger.get(job_id), job_id)
        try:
            tell_again(runtime, job)
        except NothingToTell as error:
            raise Conflict(str(error)) from None
        return answer(runtime, existing(runtime.ledger.get(job_id), job_id), 202)

    return actions
