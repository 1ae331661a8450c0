"""Answers in the shapes of Gemini's `generateContent`.

Source: `GenerateContentResponse`, `FinishReason` and `errors.py` in Google's Python library
google-genai 3.6, and the canonical status codes of google.rpc.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response

from orchestrator.api import holds, problems
from orchestrator.api.compatible.held_call import (
    JOB_HEADER,
    HeldCall,
    JobFailed,
    StillOpen,
    call_headers,
)
from orchestrator.api.compatible.image_documents import image_document
from orchestrator.jobs.model import ErrorCode, Job
from orchestrator.jsonio import dump, parse
from orchestrator.operations.model_names import ModelNotFound
from orchestrator.runtime import Runtime

EVENTS, JSON = "text/event-stream", "application/json"
#: HTTP status -> the name of the status of google.rpc. Others are UNKNOWN.
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    410: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
#: The HTTP status of a failed job's answer, by its error code. Others are 500.
_FAILURES = {
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.TOO_LARGE: 400,
    ErrorCode.CANCELLED: 409,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.TASK_LIMIT: 429,
}
#: The type of the details of an invalid request (google.rpc).
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
#: Google counts tokens. We do not, and some clients read the numbers unasked.
_USAGE = {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}
#: Field of a job -> the caller's own name for it.
_NAMES = {
    "n": "generationConfig.candidateCount",
    "aspect_ratio": "generationConfig.imageConfig.aspectRatio",
    "resolution": "generationConfig.imageConfig.imageSize",
    "prompt": "contents",
}
#: A reference image that was sent as a link.
_LINK = re.compile(r"images\.\d+")
#: Headers of a problem document that an answer has of its own.
_REPLACED = ("content-type", "content-length")


def content_answer(
    runtime: Runtime, call: HeldCall, jobs: Sequence[Job], *, candidates: int, form: str
) -> Response:
    """Return the images of jobs that have succeeded.

    Args:
        runtime: of this process.
        call: the call.
        jobs: its jobs that have succeeded.
        candidates: the number that the caller asked for. With one, all images are in one candidate.
        form: `json`, `list` (a list with one answer) or `events`.

    Raises:
        Gone, ServiceUnavailable, StorageError: an image cannot be sent.
    """
    with image_document(runtime, jobs) as document:
        parts = [
            {"inlineData": {"mimeType": document.content_type(n), "data": document.base64(n)}}
            for n in range(len(document.images))
        ]
        groups = [parts] if candidates == 1 else [[part] for part in parts]
        listed = [
            {"content": {"role": "model", "parts": group}, "finishReason": "STOP", "index": number}
            for number, group in enumerate(groups)
        ]
        before, after = _FORMS[form]
        document.file.write(before)
        document.write(_content(call, listed))
        document.file.write(after)
        return document.answer(EVENTS if form == "events" else JSON)


#: What stands before and after the JSON of an answer.
_FORMS = {"json": (b"", b""), "list": (b"[", b"]"), "events": (b"data: ", b"\n\n")}


def error_answer(error: Exception) -> Response:
    """Return any error in Google's shape. Within a stream that has begun, it is an event."""
    status, body, headers = _described(error)
    call = holds.state()
    if isinstance(call, HeldCall):
        headers = {**headers, **call_headers(call)}
        if call.stream is not None:
            return Response(b"data: " + dump(body) + b"\n\n", 200, mimetype=EVENTS)
    return Response(dump(body), status, headers, mimetype=JSON)


def _described(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return the status, the body and the headers of an error."""
    match error:
        case StillOpen():
            status = 504 if error.timed_out else 503
            headers = {JOB_HEADER: error.job_id, **error.headers}
            return status, _error(status, error.text), headers
        case JobFailed():
            return _failed(error.job)
    return _of_problem(problems.of_error(error), isinstance(error, ModelNotFound))


def of_problem(problem: Response) -> Response:
    """Return a problem document in Google's shape."""
    status, body, headers = _of_problem(problem)
    return Response(dump(body), status, headers, mimetype=JSON)


def _of_problem(
    problem: Response, not_found: bool = False
) -> tuple[int, dict[str, Any], dict[str, str]]:
    document = parse(problem.get_data())
    status = 404 if not_found else problem.status_code
    status = 400 if status == 422 else status
    details = [_violation(each) for each in document.get("errors", ())]
    violations = {"@type": BAD_REQUEST, "fieldViolations": details}
    headers = {n: v for n, v in problem.headers if n.lower() not in _REPLACED}
    if not details:
        return status, _error(status, document["detail"], []), headers
    message = "; ".join(each["description"] for each in details)
    return status, _error(status, message, [violations]), headers


def _violation(error: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with a field, under the name that the caller gave it."""
    field = error["field"]
    name = "fileData.fileUri" if _LINK.fullmatch(field) else _NAMES.get(field, field)
    message = error["message"]
    if message.startswith(f"{field} "):
        message = name + message[len(field) :]
    return {"field": name, "description": message}


def _failed(job: Job) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return the answer of a failed job. Google answers a refused prompt with status 200."""
    code = job.error.code if job.error else ErrorCode.UNKNOWN
    message = f"{job.id} {job.status}: {job.error.message if job.error else 'there are no images'}"
    headers = {JOB_HEADER: job.id}
    if code is ErrorCode.CONTENT_POLICY:
        refused = {"finishReason": "IMAGE_SAFETY", "finishMessage": message, "index": 0}
        return (
            200,
            {"candidates": [refused], "usageMetadata": _USAGE, "responseId": job.id},
            headers,
        )
    status = _FAILURES.get(code, 500)
    return status, _error(status, message), headers


def _content(call: HeldCall, candidates: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "candidates": candidates,
        "usageMetadata": _USAGE,
        "modelVersion": call.model,
        "responseId": call.jobs[0].id,
    }


def _error(status: int, message: str, details: Sequence[Any] = ()) -> dict[str, Any]:
    name = STATUSES.get(status, "UNKNOWN")
    return {"error": {"code": status, "message": message, "status": name, "details": [*details]}}
