"""`…/models/{model}:generateContent` and `:streamGenerateContent`: the calls of Gemini's clients.

The calls stand under `/v1beta` and `/v1`. The key is in `x-goog-api-key`, as Google's clients send
it, or in `Authorization: Bearer`.
"""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import Gone

from orchestrator.api import holds
from orchestrator.api.compatible.gemini_answer import content_answer, error_answer
from orchestrator.api.compatible.gemini_request import read_request
from orchestrator.api.compatible.held_call import (
    HeldCall,
    call_headers,
    held_call,
    timeout_in,
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
    calls.register_error_handler(Gone, error_answer)  # before that of the dashboard

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
    jobs = call.finished_jobs(runtime)
    response = content_answer(runtime, call, jobs, candidates=call.options, form=form)
    call.record_answer(runtime)
    response.headers.update(call_headers(call))
    return response


def _begun(runtime: Runtime, model: str, *, streams: bool) -> HeldCall:
    """Read the request, and create its jobs or join earlier ones."""
    asked = read_request(runtime, model)
    jobs, ignored = asked.call.jobs_of(
        runtime,
        key=request.headers.get("Idempotency-Key"),
        path="generateContent",
        announced=Announcement.UNKNOWN,
    )
    return held_call(
        runtime,
        asked.call.model,
        jobs,
        client_timeout=timeout_in(request.headers.get, TIMEOUT),
        keep_alive=KEEP_ALIVE if streams else b"",
        needs_copies=True,
        ignored=(*asked.ignored, *ignored),
        options=asked.candidates,
    )
