"""`…/models/{model}:generateContent` and `:streamGenerateContent`: the calls of Gemini's clients.

The calls stand under `/v1beta` and `/v1`. The key is in `x-goog-api-key`, as Google's clients send
it, or in `Authorization: Bearer`.
"""

from __future__ import annotations

from flask import Blueprint, Response, request

from orchestrator.api import holds
from orchestrator.api.compatible.gemini_answer import content_answer, error_answer
from orchestrator.api.compatible.gemini_request import read_request
from orchestrator.api.compatible.held_call import (
    HeldCall,
    call_headers,
    timeout_in,
    wait_seconds,
)
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation
from orchestrator.operations.repeated_requests import Announcement
from orchestrator.runtime import Runtime

#: The header with the client's time-out. Seconds.
TIMEOUT = "X-Server-Timeout"
#: An empty line in a stream. Google's Python library takes a comment for JSON.
KEEP_ALIVE = b"\n"


def blueprint(runtime: Runtime) -> Blueprint:
    """Return the routes. Their errors have Google's shape."""
    calls = Blueprint("gemini", __name__)
    calls.register_error_handler(Exception, error_answer)

    def generate(name: str) -> Response:
        return _answer(runtime, name, form="json")

    def stream(name: str) -> Response:
        return _answer(runtime, name, form=_form())

    # Some clients leave out `models/` where the name of the model has a slash.
    for place in ("/v1beta/", "/v1/models/"):
        calls.add_url_rule(
            f"{place}<path:name>:generateContent", view_func=generate, methods=["POST"]
        )
        calls.add_url_rule(
            f"{place}<path:name>:streamGenerateContent", view_func=stream, methods=["POST"]
        )
    return calls


def _form() -> str:
    """Return the form of a stream: events, or a list.

    Raises:
        InvalidRequest: `?alt=` has another value.
    """
    forms = {"sse": "events", "json": "list"}
    alt = request.args.get("alt", "json")
    if alt not in forms:
        raise InvalidRequest(Violation("alt", alt, OneOfNames(forms)))
    return forms[alt]


def _answer(runtime: Runtime, name: str, *, form: str) -> Response:
    call: HeldCall | None = holds.state()
    if call is None:
        call = _begun(runtime, name.removeprefix("models/"), streams=form == "events")
    job = call.finished_job(runtime)
    response = content_answer(runtime, call, job, candidates=call.options, form=form)
    call.record_answer(runtime)
    response.headers.update(call_headers(call))
    return response


def _begun(runtime: Runtime, model: str, *, streams: bool) -> HeldCall:
    """Read the request, and create its job or join an earlier one."""
    asked = read_request(runtime, model)
    result, digest, ignored = asked.call.job_of(
        runtime,
        key=request.headers.get("Idempotency-Key"),
        path="generateContent",
        announced=Announcement.UNKNOWN,
    )
    client_timeout = timeout_in(request.headers.get, TIMEOUT)
    seconds = wait_seconds(runtime, None if streams else client_timeout)
    call = HeldCall(
        result.job.id,
        asked.call.model,
        joined=result.replayed,
        digest=digest,
        ends_at=runtime.clock() + int(seconds * 1000),
        needs_copies=True,
        ignored=(*asked.ignored, *ignored),
        options=asked.candidates,
    )
    return call.streaming(client_timeout, keep_alive=KEEP_ALIVE) if streams else call
