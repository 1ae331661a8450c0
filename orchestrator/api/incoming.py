"""Reads and checks bodies, forms with files, and query parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from flask import Flask, request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from orchestrator.api.multipart import read_form, too_large
from orchestrator.jobs.uploads import ImageFile
from orchestrator.jobs.validation import (
    InvalidRequest,
    KnownFields,
    OneOfNames,
    Violation,
    whole_number,
)
from orchestrator.jsonio import NotJson, parse
from orchestrator.runtime import Runtime

#: The longest `?wait=`. Seconds.
MAX_WAIT_SECONDS = 60.0
#: Jobs of a page: default and maximum.
DEFAULT_PAGE_JOBS, MAX_PAGE_JOBS = 50, 200
#: The end of the name of a parameter that stands for many.
ANY_KEY = "<key>"
FORM = "multipart/form-data"
#: A variable in a rule of Flask: `<job_id>` or `<int:index>`.
_CONVERTER = re.compile(r"<(?:\w+:)?(\w+)>")
#: The parts of a form: the request as JSON, and the file.
FORM_PARTS = ("job", "image_file")


def form(runtime: Runtime) -> tuple[dict[str, Any], ImageFile]:
    """Return the request and the file of a multipart form.

    Raises:
        RequestEntityTooLarge: the form or its request is too large, or it has too many parts.
        BadRequest: the body is not a form, or its request is not JSON.
        InvalidRequest: the form has other parts.
    """
    room = request.max_content_length or 0
    form_parts = read_form(room + runtime.settings.max_upload_bytes, len(FORM_PARTS) + 1)
    for part in form_parts:
        if part.name not in FORM_PARTS:
            raise InvalidRequest(Violation(part.name, "", KnownFields(FORM_PARTS)))
    images = [part for part in form_parts if part.name == "image_file" and part.is_file]
    if len(images) != 1:
        allowed = "one file, as the form part image_file"
        raise InvalidRequest(Violation("image_file", f"{len(images)} files", allowed))
    jobs = [part.content for part in form_parts if part.name == "job"]
    if len(jobs) != 1:
        allowed = "one request as JSON, as the form part job"
        raise InvalidRequest(Violation("job", f"{len(jobs)} parts", allowed))
    if len(jobs[0]) > room:
        raise too_large(room)
    return _parsed(jobs[0]), ImageFile(images[0].file_name or "image", images[0].content)


def base64_size(size: int) -> int:
    """Return the number of characters of this number of bytes in base64."""
    return 4 * -(-size // 3)


def large_body(max_bytes: int) -> dict[str, Any]:
    """Return the request's JSON object, as `body` does, with another limit of its size."""
    request.max_content_length = max_bytes
    return body()


def body() -> dict[str, Any]:
    """Return the request's JSON object.

    Raises:
        UnsupportedMediaType: the content type is another one.
        RequestEntityTooLarge: the body is too large.
        BadRequest: the body is not JSON, or ended early.
        InvalidRequest: the body is not an object.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType(
            f"Content-Type must be application/json, or {FORM} with a file;"
            f" got {request.mimetype or 'none'}"
        )
    most, length = request.max_content_length or math.inf, request.content_length
    if length is not None and length > most:
        raise too_large(most)
    data = request.get_data(cache=False)
    if length is None and len(data) >= most:  # a chunked body beyond the limit
        raise too_large(most)
    if length is not None and len(data) < length:
        raise BadRequest(f"the body ended after {len(data)} of {length} bytes; send it again")
    return _parsed(data)


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        body = parse(data)
    except NotJson as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidRequest(Violation("body", body, "a JSON object"))
    return body


def refuse_unknown_parameters(app: Flask, paths: Mapping[str, Any]) -> None:
    """Refuse query parameters that the OpenAPI document does not name, and repeated ones.

    A misspelled filter would otherwise give the jobs of all, and only one of two would count.

    Args:
        app: the application.
        paths: the paths of the document.
    """
    known = {
        (path, method.upper()): frozenset(
            each["name"] for each in described.get("parameters", ()) if each["in"] == "query"
        )
        for path, methods in paths.items()
        for method, described in methods.items()
        if method != "parameters"
    }

    @app.before_request
    def check() -> None:
        if not request.query_string:
            return
        path = _CONVERTER.sub(r"{\1}", request.url_rule.rule) if request.url_rule else ""
        names = known.get((path, request.method))
        if names is None:
            return
        unknown = [name for name in request.args if not _is_known(name, names)]
        if unknown:
            raise InvalidRequest(
                *(Violation(n, request.args[n], KnownFields(names)) for n in unknown)
            )
        repeated = [(n, values[-1]) for n, values in request.args.lists() if len(values) > 1]
        if repeated:
            raise InvalidRequest(*(Violation(n, value, "given once") for n, value in repeated))


def _is_known(name: str, names: Collection[str]) -> bool:
    """Return whether a parameter is described, also as one of `prefix.<key>`."""
    if name in names:
        return True
    families = (each.removesuffix(ANY_KEY) for each in names if each.endswith(ANY_KEY))
    return any(name.startswith(family) and name != family for family in families)


def one_of(name: str, allowed: list[str]) -> str | None:
    """Return a query parameter with a closed list of values, or None.

    Raises:
        InvalidRequest: the parameter has another value.
    """
    value = request.args.get(name)
    if value is not None and value not in allowed:
        raise InvalidRequest(Violation(name, value, OneOfNames(allowed)))
    return value


def whole(name: str, default: int, low: int, high: int) -> int:
    """Return a query parameter that is a whole number.

    Raises:
        InvalidRequest: it is not a number from `low` to `high`.
    """
    return whole_number(name, request.args.get(name, str(default)), low, high)


def page_limit() -> int:
    """Return `?limit=`: the most entries of a page.

    Raises:
        InvalidRequest: it is not a number of entries that a page may have.
    """
    return whole("limit", DEFAULT_PAGE_JOBS, 1, MAX_PAGE_JOBS)


def cursor(pattern: re.Pattern[str]) -> str | None:
    """Return `?cursor=`, or None.

    Raises:
        InvalidRequest: it is not a cursor of ours.
    """
    value = request.args.get("cursor")
    if value is not None and not pattern.fullmatch(value):
        raise InvalidRequest(Violation("cursor", value, "the next_cursor of an earlier page"))
    return value


def wait() -> float:
    """Return `?wait=` in seconds, or 0.

    Raises:
        InvalidRequest: it is not a number, or too large.
    """
    text = request.args.get("wait")
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise InvalidRequest(
            Violation("wait", text, f"a number of seconds from 0 to {MAX_WAIT_SECONDS:g}")
        )
    return seconds
