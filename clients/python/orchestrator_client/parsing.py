"""Makes models from JSON objects. A newer server may send more fields; they are left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

from orchestrator_client.models import (
    Attempt,
    Batch,
    BatchEntry,
    BatchResult,
    Cost,
    FollowUp,
    Image,
    Job,
    JobError,
    JobPage,
    Move,
    Problem,
    Quote,
    QuotedCost,
    Violation,
)

Model = TypeVar("Model")
#: A JSON object.
Object = Mapping[str, Any]


def job(body: Object) -> Job:
    """Return a job."""
    return _made(
        Job,
        body,
        attempts=_all(Attempt, body.get("attempts")),
        fallbacks=tuple(map(_move, body.get("fallbacks") or ())),
        images=_all(Image, body.get("images")),
        late_images=_all(Image, body.get("late_images")),
        error=_optional(JobError, body.get("error")),
        cost=_optional(Cost, body.get("cost")),
        archive=_optional(FollowUp, body.get("archive")),
        notification=_optional(FollowUp, body.get("notification")),
        raw=body,
    )


def page(body: Object) -> JobPage:
    """Return a page of jobs."""
    unreadable = tuple(each["id"] for each in body.get("unreadable", ()))
    return _made(
        JobPage, body, jobs=tuple(job(each) for each in body["jobs"]), unreadable=unreadable
    )


def batch(body: Object) -> Batch:
    """Return a batch."""
    return _made(Batch, body, notification=_optional(FollowUp, body.get("notification")))


def batch_result(body: Object) -> BatchResult:
    """Return the answer to a batch."""
    entries = tuple(
        BatchEntry(
            index=each["index"],
            job=job(each["job"]) if "job" in each else None,
            problem=problem(each["problem"]) if "problem" in each else None,
        )
        for each in body["results"]
    )
    return BatchResult(id=body["batch"], entries=entries)


def problem(body: Object) -> Problem:
    """Return a problem document. A proxy may have sent a part of one, or one of another form."""
    known: dict[str, Any] = {"type": "about:blank", "title": "", "status": 0, "detail": ""}
    known |= {
        name: value
        for name, value in body.items()
        if isinstance(value, _PROBLEM_TYPES.get(name, object))
    }
    errors = body.get("errors")
    listed = errors if isinstance(errors, list) else ()
    violations = _all(Violation, filter(_is_violation, listed))
    return _made(Problem, known, errors=violations)


#: The types of the members of a problem document. What has another type is left out.
_PROBLEM_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("type", "title", "detail", "limit", "job_id"), str),
    "status": int,
    "retry_after": (int, float),
}


def _is_violation(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(value.get(name), str) for name in ("field", "message")
    )


def quote(body: Object) -> Quote:
    """Return a quote."""
    found = body["problem"]
    return _made(
        Quote,
        body,
        problem=problem(found) if found else None,
        costs=_all(QuotedCost, body["costs"]),
    )


def _made(kind: type[Model], body: Object, **parts: Any) -> Model:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # each is a dataclass
    values = {name: value for name, value in body.items() if name in known}
    times = {n: _time(value) for n, value in values.items() if n.endswith("_at") and value}
    return kind(**{**values, **times, **parts})


def _move(body: Object) -> Move:
    return _made(Move, body, from_provider=body["from"], at=_time(body["at"]))


def _all(kind: type[Model], body: Iterable[Object] | None) -> tuple[Model, ...]:
    return tuple(_made(kind, each) for each in body or ())


def _optional(kind: type[Model], body: Object | None) -> Model | None:
    return _made(kind, body) if body else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
