"""`/v1/images/generations` and `/v1/images/edits`: the calls of OpenAI's clients."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request
from werkzeug.exceptions import Gone

from orchestrator.api import holds
from orchestrator.api.compatible.held_call import (
    HeldCall,
    call_headers,
    held_call,
    timeout_in,
)
from orchestrator.api.compatible.openai_answer import ImageAnswer, error_answer
from orchestrator.api.compatible.openai_request import OpenAIRequest, read_request
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.operations.repeated_requests import Announcement
from orchestrator.runtime import Runtime

#: The header in which OpenAI's clients count the repetitions of a request.
RETRY_COUNT = "X-Stainless-Retry-Count"
#: The headers with the client's time-out, of the Python and of the JavaScript library. Seconds.
TIMEOUTS = ("X-Stainless-Read-Timeout", "X-Stainless-Timeout")
#: A comment in a stream of events.
KEEP_ALIVE = b": waiting\n\n"


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes. Their errors have OpenAI's shape."""
    calls = Blueprint("openai", __name__)
    calls.register_error_handler(Exception, error_answer)
    calls.register_error_handler(Gone, error_answer)  # before that of the dashboard

    @calls.post("/v1/images/generations")
    def generate() -> Response:
        return _answer(runtime, edits=False)

    @calls.post("/v1/images/edits")
    def edit() -> Response:
        return _answer(runtime, edits=True)

    return calls


def _answer(runtime: Runtime, *, edits: bool) -> Response:
    call: HeldCall | None = holds.state()
    if call is None:
        call = _begun(runtime, edits=edits)
    jobs = call.finished_jobs(runtime)
    answer = ImageAnswer(runtime, jobs, call.options)
    event = "image_edit.completed" if edits else "image_generation.completed"
    response = answer.as_events(event) if call.options.streams else answer.as_json()
    call.record_answer(runtime)
    response.headers.update(call_headers(call))
    return response


def _begun(runtime: Runtime, *, edits: bool) -> HeldCall:
    """Read the request, and create its jobs or join earlier ones."""
    asked = read_request(runtime, edits=edits)
    _check_links(runtime, asked)
    jobs, ignored = asked.call.jobs_of(
        runtime,
        key=request.headers.get("Idempotency-Key"),
        path=request.path,
        announced=announcement(request.headers.get),
    )
    return held_call(
        runtime,
        asked.call.model,
        jobs,
        client_timeout=timeout_in(request.headers.get, *TIMEOUTS),
        keep_alive=KEEP_ALIVE if asked.answer.streams else b"",
        needs_copies=not asked.answer.as_links,
        ignored=ignored,
        options=asked.answer,
    )


def _check_links(runtime: Runtime, asked: OpenAIRequest) -> None:
    """Refuse links that we could not make, before there is a job.

    Raises:
        InvalidRequest: our public URL or secret key is not set.
    """
    settings = runtime.settings
    if asked.answer.as_links and (settings.public_url is None or not settings.secret_keys):
        allowed = "b64_json: links need ORCHESTRATOR_PUBLIC_URL"
        raise InvalidRequest(Violation("response_format", "url", allowed))


def announcement(header: Callable[[str], str | None]) -> Announcement:
    """Return what a client says about repetitions of its request."""
    count = header(RETRY_COUNT)
    if count is None:
        return Announcement.UNKNOWN
    return Announcement.FIRST if count.strip() in ("", "0") else Announcement.REPEATED
