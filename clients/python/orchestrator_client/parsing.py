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
    Violation,
)

Model = TypeVar("Model")
#: A JSON object.
Object = Mapping[str, Any]


def job(found: Object) -> Job:
    """Return a job."""
    return _made(
        Job,
        found,
        attempts=_all(Attempt, found.get("attempts")),
        fallbacks=tuple(map(_move, found.get("fallbacks") or ())),
        images=_all(Image, found.get("images")),
        late_images=_all(Image, found.get("late_images")),
        error=_optional(JobError, found.get("error")),
        cost=_optional(Cost, found.get("cost")),
        archive=_optional(FollowUp, found.get("archive")),
        notification=_optional(FollowUp, found.get("notification")),
        raw=found,
    )


def page(found: Object) -> JobPage:
    """Return a page of jobs."""
    return _made(JobPage, found, jobs=tuple(job(each) for each in found["jobs"]))


def batch(found: Object) -> Batch:
    """Return a batch."""
    return _made(Batch, found, notification=_optional(FollowUp, found.get("notification")))


def batch_result(found: Object) -> BatchResult:
    """Return the answer to a batch."""
    entries = tuple(
        BatchEntry(
            index=each["index"],
            job=job(each["job"]) if "job" in each else None,
            problem=problem(each["problem"]) if "problem" in each else None,
        )
        for each in found["results"]
    )
    return BatchResult(id=found["batch"], entries=entries)


def problem(found: Object) -> Problem:
    """Return a problem document. A proxy may have sent a part of one."""
    known = {"type": "about:blank", "title": "", "status": 0, "detail": "", **found}
    return _made(Problem, known, errors=_all(Violation, found.get("errors")))


def _made(kind: type[Model], found: Object, **parts: Any) -> Model:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # each is a dataclass
    values = {name: value for name, value in found.items() if name in known}
    times = {n: _time(value) for n, value in values.items() if n.endswith("_at") and value}
    return kind(**{**values, **times, **parts})


def _move(found: Object) -> Move:
    return _made(Move, found, from_provider=found["from"], at=_time(found["at"]))


def _all(kind: type[Model], found: Iterable[Object] | None) -> tuple[Model, ...]:
    return tuple(_made(kind, each) for each in found or ())


def _optional(kind: type[Model], found: Object | None) -> Model | None:
    return _made(kind, found) if found else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
