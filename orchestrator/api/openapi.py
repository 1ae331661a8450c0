"""Describes the API in OpenAPI 3.1: operations, parameters, answers and problem documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from marshmallow import Schema, fields

from orchestrator.api.incoming import DEFAULT_PAGE_JOBS, MAX_PAGE_JOBS
from orchestrator.jobs.answer_schemas import AnswerSchema

JSON, PROBLEM_JSON = "application/json", "application/problem+json"
#: What an error answer means, by status.
PROBLEMS: Mapping[int, str] = {
    400: "The body cannot be read.",
    401: "The key is absent, unknown, expired or revoked.",
    403: "The key lacks a scope, or another tenant is asked for.",
    404: "There is no such thing, or it belongs to another tenant.",
    409: "The state of the job, batch or message does not allow it.",
    410: "It existed, and is gone.",
    413: "The body is too large.",
    415: "The content type is not accepted.",
    422: "The request is not valid.",
    429: "A limit of the tenant is reached.",
    500: "An error of ours.",
    503: "Redis or the archive is away. Try again.",
}
#: Every operation with a key may give these.
_ALWAYS = (401, 403, 422, 500, 503)
#: Every operation with a body may give these.
_WITH_BODY = (400, 413, 415)
#: The headers of error answers, by status.
_HEADERS: Mapping[int, dict[str, Any]] = {
    status: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    for status in (429, 503)
}


class ViolationSchema(AnswerSchema):
    """One error in a request."""

    field = fields.String()
    value = fields.String()
    allowed = fields.String()
    message = fields.String()


class ProblemSchema(Schema):
    """An error: a problem document (RFC 9457)."""

    type = fields.String(required=True, metadata={"format": "uri"})
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.List(
        fields.Nested(ViolationSchema), metadata={"description": "With 422: each error."}
    )
    limit = fields.String(metadata={"description": "With 429: the name of the limit."})
    retry_after = fields.Integer(
        metadata={"description": "With a limit: the seconds after which it may allow another job."}
    )
    job_id = fields.String(metadata={"description": "With 410: the job of the idempotency key."})


def operation(
    operation_id: str,
    answers: Mapping[int, type[Schema] | dict[str, Any]],
    *problems: int,
    body: Mapping[str, type[Schema] | Schema] | None = None,
    body_required: bool = False,
    parameters: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return the description of an operation that needs a key, for `Blueprint.doc`.

    Args:
        operation_id: the name of the method in generated clients.
        answers: by status: the schema of a JSON answer, or the description of another one.
        problems: the statuses of its own error answers, besides those of every operation.
        body: the schema by content type.
        body_required: whether there must be a body.
        parameters: made by `query` or `header`.
    """
    statuses = sorted({*problems, *_ALWAYS, *(_WITH_BODY if body else ())})
    described: dict[str, Any] = {
        "operationId": operation_id,
        "security": [{"bearer": []}],
        "parameters": list(parameters),
        "responses": {
            **{str(status): _answer(answer) for status, answer in answers.items()},
            **{str(status): _problem(status) for status in statuses},
        },
    }
    if body:
        content = {kind: {"schema": schema} for kind, schema in body.items()}
        described["requestBody"] = {"required": body_required, "content": content}
    return described


def query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """Return a query parameter. `schema` is its JSON schema; without one it is a string."""
    return _parameter("query", name, description, schema)


def page_parameters(entries: str, cursor_pattern: str) -> tuple[dict[str, Any], ...]:
    """Return the query parameters of a list that has pages of these entries."""
    return (
        query(
            "limit",
            f"The most {entries} of a page.",
            type="integer",
            minimum=1,
            maximum=MAX_PAGE_JOBS,
            default=DEFAULT_PAGE_JOBS,
        ),
        query("cursor", "The `next_cursor` of the previous page.", pattern=f"^{cursor_pattern}$"),
    )


def header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """Return a header of a request. `schema` is its JSON schema; without one it is a string."""
    return _parameter("header", name, description, schema)


def _parameter(place: str, name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "description": description,
        "schema": {"type": "string", **schema},
    }


def _answer(answer: type[Schema] | dict[str, Any]) -> dict[str, Any]:
    if isinstance(answer, dict):
        return answer
    description = (answer.__doc__ or "").partition("\n")[0]
    return {"description": description, "content": {JSON: {"schema": answer}}}


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": PROBLEMS[status],
        "content": {PROBLEM_JSON: {"schema": ProblemSchema}},
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
    }
