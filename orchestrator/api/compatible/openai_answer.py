"""Answers in the shapes of OpenAI's Images API.

Source: `ImagesResponse`, `Image`, `ImageGenCompletedEvent`, `ImageEditCompletedEvent` and the
exceptions of OpenAI's Python library 3.57.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response
from werkzeug.exceptions import HTTPException

from orchestrator.api import holds, problems
from orchestrator.api.compatible.held_call import (
    JOB_HEADER,
    HeldCall,
    JobFailed,
    StillOpen,
    call_headers,
)
from orchestrator.api.compatible.image_documents import ImageDocument, image_document
from orchestrator.api.compatible.openai_request import AnswerOptions
from orchestrator.api.image_links import image_url
from orchestrator.jobs.model import ErrorCode, Job
from orchestrator.jsonio import dump, parse
from orchestrator.operations.model_names import ModelNotFound
from orchestrator.runtime import Runtime

EVENTS = "text/event-stream"
#: The lifetime of a link to an image, as at OpenAI. Seconds.
LINK_SECONDS = 3600
#: Tells OpenAI's clients whether they repeat a request. It is no standard header.
SHOULD_RETRY = "X-Should-Retry"

#: The type of an error, by the status of its answer.
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
#: The status and the type of a failed job's answer, by its error code. Others are 502.
_FAILURES = {
    ErrorCode.CONTENT_POLICY: (400, "image_generation_user_error"),
    ErrorCode.INVALID_REQUEST: (400, "invalid_request_error"),
    ErrorCode.TOO_LARGE: (400, "invalid_request_error"),
    ErrorCode.CANCELLED: (409, "invalid_request_error"),
    ErrorCode.RATE_LIMITED: (429, "rate_limit_error"),
    ErrorCode.TASK_LIMIT: (429, "rate_limit_error"),
}
_CODES = {ErrorCode.CONTENT_POLICY: "moderation_blocked"}
#: OpenAI counts tokens. We do not, and some clients read the numbers unasked.
_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}


class ImageAnswer:
    """The answer to a call whose jobs have succeeded.

    Args:
        runtime: of this process.
        jobs: the jobs.
        options: what the caller asked for.
    """

    def __init__(self, runtime: Runtime, jobs: Sequence[Job], options: AnswerOptions) -> None:
        self._runtime = runtime
        self._jobs = jobs
        self._options = options
        self._created = max(job.settled_at or 0 for job in jobs) // 1000

    def as_json(self) -> Response:
        """Return all images as JSON."""
        with image_document(self._runtime, self._jobs) as document:
            images = [self._image(document, number) for number in range(len(document.images))]
            facts = self._facts(document, 0) if images else {}
            document.write({"created": self._created, "data": images, "usage": _USAGE, **facts})
            return document.answer("application/json")

    def as_events(self, event: str) -> Response:
        """Return one event for each image. `event` is the name of the last event of an image."""
        with image_document(self._runtime, self._jobs) as document:
            for number in range(len(document.images)):
                document.file.write(f"event: {event}\ndata: ".encode())
                document.write(
                    {
                        "type": event,
                        "created_at": self._created,
                        **dict.fromkeys(("quality", "size", "background"), "auto"),
                        "usage": _USAGE,
                        **self._image(document, number),
                        **self._facts(document, number),
                    }
                )
                document.file.write(b"\n\n")
            return document.answer(EVENTS)

    def _image(self, document: ImageDocument, number: int) -> dict[str, str]:
        if not self._options.as_links:
            return {"b64_json": document.base64(number)}
        expires = self._runtime.clock() // 1000 + LINK_SECONDS
        shown = document.images[number]
        return {"url": image_url(self._runtime, shown.job_id, shown.index, expires)}

    def _facts(self, document: ImageDocument, number: int) -> dict[str, str]:
        """Return what is known of an image: its format and size in pixels."""
        copy = document.images[number].image.copy
        kind = "" if self._options.as_links else document.content_type(number)
        known = {
            "output_format": kind.removeprefix("image/") or self._options.output_format,
            "size": f"{copy.width}x{copy.height}" if copy and copy.width else self._options.size,
            "quality": self._options.quality,
        }
        return {name: value for name, value in known.items() if value}


def error_answer(error: Exception) -> Response:
    """Return any error in OpenAI's shape. Within a stream that has begun, it is an event."""
    status, body, headers = _described(error)
    call = holds.state()
    if call is not None:
        headers = {**headers, **call_headers(call)}
    if isinstance(call, HeldCall) and call.stream is not None:
        return Response(b"event: error\ndata: " + dump(body) + b"\n\n", 200, mimetype=EVENTS)
    return Response(dump(body), status, headers, mimetype="application/json")


def _described(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return the status, the body and the headers of an error."""
    match error:
        case StillOpen():
            body = _body(error.text, "server_error", "job_still_open", job_id=error.job_id)
            retry = {SHOULD_RETRY: "false" if error.timed_out else "true"}
            headers = {JOB_HEADER: error.job_id, **error.headers, **retry}
            return 504 if error.timed_out else 503, body, headers
        case JobFailed():
            return _failed(error.job)
    status, body, headers = _of_problem(problems.of_error(error), isinstance(error, ModelNotFound))
    if isinstance(error, HTTPException) and status in (404, 410):
        headers[SHOULD_RETRY] = "false"
    return status, body, headers


def of_problem(problem: Response) -> Response:
    """Return a problem document in OpenAI's shape."""
    status, body, headers = _of_problem(problem)
    return Response(dump(body), status, headers, mimetype="application/json")


def _of_problem(
    problem: Response, not_found: bool = False
) -> tuple[int, dict[str, Any], dict[str, str]]:
    document = parse(problem.get_data())
    status = 404 if not_found else 400 if problem.status_code == 422 else problem.status_code
    code = document["type"].rpartition(":")[2].replace("-", "_")
    errors = document.get("errors") or [{}]
    body = _body(
        document["detail"],
        _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        "model_not_found" if not_found else code,
        param=errors[0].get("field"),
    )
    headers = {
        name: value
        for name, value in problem.headers
        if name.lower() not in ("content-type", "content-length")
    }
    return status, body, headers


def _failed(job: Job) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return the answer of a failed job. A client must not repeat the request by itself."""
    code = job.error.code if job.error else ErrorCode.UNKNOWN
    message = job.error.message if job.error else "the job has no images"
    status, kind = _FAILURES.get(code, (502, "server_error"))
    body = _body(
        f"{job.id} {job.status}: {message}", kind, _CODES.get(code, str(code)), job_id=job.id
    )
    return status, body, {JOB_HEADER: job.id, SHOULD_RETRY: "false"}


def _body(
    message: str, kind: str, code: str, param: str | None = None, **more: Any
) -> dict[str, Mapping[str, Any]]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}
