"""Enqueues a job past Flask, which takes longer than everything else of the request.

It answers the usual request: a JSON body of a caller with a key. For every other request Flask's
route (`jobs.py`) answers, also where something is wrong with this one. Nothing was stored then. The
OpenAPI document describes that route.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from io import BytesIO
from typing import Any

from flask import Flask

from orchestrator import tracing
from orchestrator.api import problems
from orchestrator.api.auth import bearer_key
from orchestrator.api.jobs import created
from orchestrator.enqueuing import API_SCOPE, create_job
from orchestrator.jsonio import NotJson, dump, parse
from orchestrator.ledger import LedgerUnavailable
from orchestrator.operations.callers import Caller, KeyRefused, identify
from orchestrator.operations.current_jobs import current_view
from orchestrator.runtime import Runtime

PATH = "/v1/jobs"
#: The status line, the headers and the body.
Answer = tuple[str, list[tuple[str, str]], bytes]
#: A larger body is left to Flask. Bytes.
MAX_BYTES = 64 * 1024


def install(app: Flask, runtime: Runtime) -> None:
    """Put the shortcut before `app`."""
    inner = app.wsgi_app

    def shortcut(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == PATH and environ["REQUEST_METHOD"] == "POST":
            answer = _answer(runtime, environ)
            if answer is not None:
                status, headers, body = answer
                start_response(status, [*headers, ("Content-Length", str(len(body)))])
                return [body]
        return inner(environ, start_response)

    app.wsgi_app = shortcut  # type: ignore[method-assign]


def _answer(runtime: Runtime, environ: dict[str, Any]) -> Answer | None:
    """Answer a request, or return None: Flask must answer it."""
    if environ.get("QUERY_STRING") or environ.get("CONTENT_TYPE") != "application/json":
        return None
    caller = _caller(runtime, environ)
    body = _object(environ) if caller and not runtime.settings.cors_origins else None
    if caller is None or body is None:
        return None

    def header(name: str) -> str | None:
        return environ.get(f"HTTP_{name.replace('-', '_').upper()}")

    try:
        with tracing.continued(header):
            result = create_job(
                runtime,
                body,
                scope=API_SCOPE,
                tenant=caller.tenant,
                key=header("Idempotency-Key"),
            )
        shown = dump(current_view(runtime, result.job, result.wait))
    except Exception as error:  # noqa: BLE001  # it becomes an answer, as Flask does it
        problem = problems.of_error(error)
        headers = [each for each in problem.headers if each[0] != "Content-Length"]
        return problem.status, headers, problem.get_data()
    code, more = created(result)
    status = f"{code} {HTTPStatus(code).phrase.upper()}"
    return status, [("Content-Type", "application/json"), *more.items()], shown


def _caller(runtime: Runtime, environ: dict[str, Any]) -> Caller | None:
    """Return a caller who may enqueue, or None."""
    key = bearer_key(environ.get("HTTP_AUTHORIZATION", ""))
    try:
        caller = identify(runtime, key) if key else None
    except (KeyRefused, LedgerUnavailable):
        return None
    return caller if caller and caller.writes else None


def _object(environ: dict[str, Any]) -> dict[str, Any] | None:
    """Return the JSON object in a small body, or None. The body can be read again."""
    length: str = environ.get("CONTENT_LENGTH", "")
    if not (length.isascii() and length.isdigit()) or int(length) > MAX_BYTES:
        return None
    data = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = BytesIO(data)
    try:
        body = parse(data) if len(data) == int(length) else None
    except NotJson:
        return None
    return body if isinstance(body, dict) else None
