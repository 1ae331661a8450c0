"""Every error as a problem document (RFC 9457)."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

from orchestrator import log
from orchestrator.history import HistoryUnavailable
from orchestrator.jsonio import dump
from orchestrator.ledger import LedgerMisconfigured, LedgerUnavailable, UnreadableJob
from orchestrator.operations.problems import (
    JOB_REFUSED,
    JobRefused,
    problem_document,
    problem_of,
)
from orchestrator.operations.unreadable_jobs import DETAIL
from orchestrator.storage.storage import StorageError

PROBLEM_JSON = "application/problem+json"
#: The answer to a request that met an error of ours.
CRASHED = (
    "The service met an error of its own. Send the same request again, with the same"
    " Idempotency-Key. If it fails again, tell the operator the X-Request-ID of this answer."
)
#: The part of a path that an answer repeats. Characters.
MAX_PATH_CHARACTERS = 100


def problem(
    status: int, kind: str, title: str, detail: str, *, headers: Any = None, **more: Any
) -> Response:
    """Return a problem document. `kind` is part of the type URI; `more` are extension members."""
    document = problem_document(status, kind, title, detail, **more)
    return Response(dump(document), status, headers, mimetype=PROBLEM_JSON)


def install(app: Flask) -> None:
    """Answer every error of `app` with a problem document."""
    app.register_error_handler(Exception, of_error)
    app.register_error_handler(HTTPException, of_error)  # in the place of flask-smorest's


def of_error(error: Exception) -> Response:
    """Return the problem document of any error."""
    match error:
        case LedgerMisconfigured():
            return _misconfigured(error)
        case LedgerUnavailable():
            return _unavailable(error)
        case StorageError():
            return _storage(error)
        case HistoryUnavailable():
            return _no_history(error)
        case HTTPException():
            return of_http(error)
    return _refused(error) if isinstance(error, JOB_REFUSED) else _unexpected(error)


def _refused(error: JobRefused) -> Response:
    document = problem_of(error)
    headers = {"Retry-After": str(document["retry_after"])} if "retry_after" in document else None
    return Response(dump(document), document["status"], headers, mimetype=PROBLEM_JSON)


def _unavailable(error: LedgerUnavailable) -> Response:
    log.get().error("ledger_unavailable", reason=str(error))
    title = "The ledger is unavailable"
    if isinstance(error, UnreadableJob):
        detail, again = f"{error.job_id}: {DETAIL}", {"Retry-After": "30"}
        return problem(503, "ledger-unavailable", title, detail, headers=again)
    state = f"refuses to write now ({error.code})" if error.code else "is away"
    detail = f"Redis {state}. Send the same request again, with the same Idempotency-Key."
    return problem(503, "ledger-unavailable", title, detail, headers={"Retry-After": "1"})


def _no_history(error: HistoryUnavailable) -> Response:
    log.get().error("history_unavailable", reason=str(error))
    detail = "The history does not answer, or no recorder has run yet. Jobs go on without it."
    detail += " Send the same request again later. Its operator runs `orchestrator doctor`."
    title = "The history is unavailable"
    return problem(503, "history-unavailable", title, detail, headers={"Retry-After": "5"})


def _misconfigured(error: LedgerMisconfigured) -> Response:
    log.get().error("ledger_misconfigured", reason=str(error))
    detail = (
        f"Redis refuses this installation ({error.code}). Its operator finds the correction in the"
        " log and with `orchestrator doctor`. Then send the same request again."
    )
    title = "The ledger is unavailable"
    return problem(503, "ledger-unavailable", title, detail, headers={"Retry-After": "30"})


def _storage(error: StorageError) -> Response:
    log.get().error("storage_unavailable", reason=str(error))
    detail = "The images are safe but cannot be served now. Ask again later."
    if request.method == "POST":
        detail = (
            "The archive takes and gives no images now. Send the same request again later, with the"
            " same Idempotency-Key."
        )
    title = "The archive is unavailable"
    return problem(503, "archive-unavailable", title, detail, headers={"Retry-After": "5"})


def of_http(error: HTTPException) -> Response:
    """Return the problem document of an HTTP error."""
    status = error.code or 500
    headers = [(k, v) for k, v in error.get_headers() if k.lower() != "content-type"]
    kind = error.name.lower().replace(" ", "-")
    return problem(status, kind, error.name, _detail(error), headers=headers)


def _detail(error: HTTPException) -> str:
    """Return what is wrong. werkzeug's words about a path are for people in a browser."""
    if error.description == NotFound.description:
        return f"there is no {_path()!r}; /openapi.json lists the paths"
    if isinstance(error, InternalServerError):
        return CRASHED
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = ", ".join(sorted(error.valid_methods))
        return f"{_path()!r} does not accept {request.method}; it accepts {allowed}"
    return error.description or error.name


def _path() -> str:
    return request.path[:MAX_PATH_CHARACTERS]


def _unexpected(error: Exception) -> Response:
    log.get().exception("request_crashed", error=type(error).__name__)
    return of_http(InternalServerError())
