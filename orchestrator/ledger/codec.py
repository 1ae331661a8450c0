"""Converts jobs to their stored form in Redis, and back. Only this module knows the form."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields as fields_in
from typing import Any

import orjson

from orchestrator.jobs.batch import Batch
from orchestrator.jobs.model import (
    Attempt,
    Copy,
    Cost,
    ErrorCode,
    FollowUp,
    FollowUpStatus,
    Image,
    Job,
    JobError,
    Move,
    PendingFailure,
    SettledBy,
    Status,
    Step,
)
from orchestrator.jobs.request import JobRequest, Receiver, Target
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.jobs.uploads import Upload
from orchestrator.ledger import identifiers
from orchestrator.ledger.refusals import FORMAT, UnreadableJob

#: The defaults of the fields of those that are stored without them.
_DEFAULTS = {
    kind: {field.name: field.default for field in fields_in(kind)}
    for kind in (Image, Copy, Cost, JobError)
}


def dumps(value: Any) -> str:
    """Return a value or dataclass as compact JSON. None and an empty tuple become empty text.

    Raises:
        TypeError: the value holds bytes, such as the content of an image. They belong to the
            storage.
    """
    return "" if value is None or value == () else orjson.dumps(value).decode()


def given(value: Image | Copy | Cost | JobError | None) -> dict[str, Any] | None:
    """Return the fields of a dataclass that differ from their defaults."""
    if value is None:
        return None
    defaults = _DEFAULTS[type(value)]
    return {name: each for name in defaults if (each := getattr(value, name)) != defaults[name]}


def fingerprint(stored: Mapping[str, Any]) -> str:
    """Return a hash of a stored request. It does not depend on the order of the fields."""
    text = orjson.dumps(stored, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]


def pairs(flat: list[str]) -> dict[str, str]:
    """Return the fields of a hash from a flat reply of Redis."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def read_job(job_id: str, fields: Mapping[str, str]) -> Job:
    """Return the job from the fields of its hash.

    Raises:
        UnreadableJob: the fields are not those of this version.
    """
    try:
        check_format(fields.get("format"))
        return _job(job_id, fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableJob(job_id, fields.get("tenant", DEFAULT_TENANT)) from error


def check_format(stored: str | None) -> None:
    """Check the format of a job. Scripts check it, too.

    Raises:
        ValueError: this version would misread the job.
    """
    if stored and int(stored) > FORMAT:
        raise ValueError("a newer format")


def _job(job_id: str, fields: Mapping[str, str]) -> Job:
    settled, by = fields.get("settled"), fields.get("by")
    request = read_request(fields["request"])
    provider = fields.get(f"provider.{fields.get('winner')}") or fields.get(
        "provider", request.provider
    )
    return Job(
        id=job_id,
        status=Status(fields["status"]),
        request=request,
        tenant=fields.get("tenant", DEFAULT_TENANT),
        trace=fields.get("trace", ""),
        batch=fields.get("batch"),
        retry_of=fields.get("retry_of"),
        retried_as=fields.get("retried_as"),
        created_at=int(fields["created"]),
        updated_at=int(fields["updated"]),
        deadline_at=int(fields["deadline"]),
        attempts=tuple(_attempts(fields)),
        tries=int(fields.get("tries", 0)),
        resubmitted=int(fields.get("resubmitted", 0)),
        images=read_images(job_id, fields.get("images")),
        late_images=read_images(job_id, fields.get("late_images")),
        late_results=sum(f"late.{n}" in fields for n in range(1, int(fields["attempt"]) + 1)),
        error=_error(_load(fields, "error")),
        pending_failure=_pending_failure(_load(fields, "pending_failure")),
        refusal=_error(_load(fields, "refusal")),
        cost=_cost(_load(fields, "cost")),
        settled_at=int(settled) if settled else None,
        settled_by=SettledBy(by) if by else None,
        archive=_follow_up(fields, Step.ARCHIVE),
        notification=_follow_up(fields, Step.NOTIFY),
        notifies_late_result=fields.get("late.notify") == "due",
        confirmation=_follow_up(fields, Step.CONFIRM),
        confirms_attempts=tuple(map(int, fields.get("confirm.attempts", "").split())),
        moved_to=None if provider == request.provider else provider,
        moves=tuple(Move(m["at"], m["from"], m["to"], m["reason"]) for m in _list(fields, "moves")),
        fallback_left=tuple(each["provider"] for each in _list(fields, "fallback")),
    )


def read_batch(
    batch_id: str, fields: Mapping[str, str], parts: Iterable[Mapping[str, str]]
) -> Batch:
    """Return the batch from the fields of its hash, and from its counts in each shard."""
    counts: Counter[Status] = Counter()
    for part in [loads(fields["counts"])] if "counts" in fields else parts:
        counts.update({status: int(part[status]) for status in Status if part.get(status)})
    sealed, completed = fields.get("sealed"), fields.get("completed")
    return Batch(
        batch_id,
        fields["tenant"],
        int(fields["created"]),
        {status: number for status, number in counts.items() if number},
        Receiver(**(_load(fields, "receiver") or {})),
        sealed_at=int(sealed) if sealed else None,
        completed_at=int(completed) if completed else None,
        notification=_follow_up(fields, Step.NOTIFY),
    )


def fields_of(job: Job) -> dict[str, str]:
    """Return the fields from which `read_job` reads a job. They lack what it does not read."""
    fields: dict[str, Any] = {
        "status": job.status,
        "request": dumps(job.request.stored()),
        "provider": job.provider,
        "tenant": job.tenant,
        "batch": job.batch or "",
        "retry_of": job.retry_of or "",
        "retried_as": job.retried_as or "",
        "created": job.created_at,
        "updated": job.updated_at,
        "deadline": job.deadline_at,
        "attempt": len(job.attempts),
        "images": images_text(job.id, job.images),
        "late_images": images_text(job.id, job.late_images),
        "error": dumps(given(job.error)),
        "cost": dumps(given(job.cost)),
        "settled": job.settled_at or "",
        "by": job.settled_by or "",
        "archive": job.archive.status if job.archive else "",
        "moves": dumps(tuple(map(_stored_move, job.moves))),
    }
    for attempt in job.attempts:
        fields[f"sent.{attempt.number}"] = attempt.submitted_at
        fields[f"task.{attempt.number}"] = attempt.task_id or ""
        fields[f"provider.{attempt.number}"] = attempt.provider or ""
    return {name: str(value) for name, value in fields.items() if value != ""}


def _stored_move(move: Move) -> dict[str, Any]:
    return {"at": move.at, "from": move.source, "to": move.target, "reason": move.reason}


def read_error(text: str | None) -> JobError | None:
    """Return the error in stored text, or None."""
    return _error(loads(text))


def loads(text: str | None) -> Any:
    """Return the value in stored text, or None."""
    return orjson.loads(text) if text else None


def read_request(text: str | None) -> JobRequest:
    """Return the request in stored text.

    Raises:
        AttributeError, TypeError, ValueError: the text is no request of this version.
    """
    stored: dict[str, Any] = orjson.loads(text or "")
    upload = stored.pop("upload", None)
    fallback = tuple(Target(**target) for target in stored.pop("fallback", ()))
    return JobRequest(upload=Upload(**upload) if upload else None, fallback=fallback, **stored)


def _attempts(fields: Mapping[str, str]) -> list[Attempt]:
    numbers = range(1, int(fields["attempt"]) + 1)
    last = fields["provider"] if "moves" in fields else None
    return [
        Attempt(
            n, int(fields[f"sent.{n}"]), fields.get(f"task.{n}"), fields.get(f"provider.{n}", last)
        )
        for n in numbers
    ]


def images_text(job_id: str, images: Sequence[Image]) -> str:
    """Return images of a job as JSON; empty text if there are none.

    Left out is what `read_images` knows: defaults, the folder of the job, and the usual thumbnail.

    Raises:
        TypeError: an image holds its content, which belongs to the storage.
    """
    return dumps(tuple(_stored_image(job_id, image) for image in images))


def read_images(job_id: str, text: str | None) -> tuple[Image, ...]:
    """Return the images in stored text, also in that of an older version."""
    return tuple(_image(job_id, stored) for stored in loads(text) or ())


def copy_states(text: str | None) -> list[tuple[bool, bool]]:
    """Return whether each image in stored text has a copy, and whether it has an error.

    This is several times faster than `read_images`.
    """
    return [(bool(stored.get("copy")), bool(stored.get("error"))) for stored in loads(text) or ()]


def _stored_image(job_id: str, image: Image) -> dict[str, Any]:
    stored = given(image) or {}
    if image.copy:
        stored["copy"] = copy = given(image.copy) or {}
        if image.copy.thumbnail == _thumbnail(image.copy.path):
            del copy["thumbnail"]
        folder, _, name = image.copy.path.rpartition("/")
        if folder == identifiers.folder(job_id):
            copy["path"] = f"/{name}"
    return stored


def _image(job_id: str, stored: dict[str, Any]) -> Image:
    copy = stored.pop("copy", None)
    if copy:
        if copy["path"].startswith("/"):
            copy["path"] = identifiers.folder(job_id) + copy["path"]
        copy.setdefault("thumbnail", _thumbnail(copy["path"]))
    known = Copy(**_known(copy, Copy)) if copy else None
    return Image(copy=known, **_known(stored, Image))


def _thumbnail(path: str) -> str:
    """Return the usual path of the thumbnail of a copy."""
    return f"{path.rpartition('.')[0]}.thumb.webp"


def _known(stored: dict[str, Any], kind: type[Image | Copy]) -> dict[str, Any]:
    """Return the fields that this version knows. A newer one may have stored more."""
    return {name: value for name, value in stored.items() if name in _DEFAULTS[kind]}


def _follow_up(fields: Mapping[str, str], step: Step) -> FollowUp | None:
    if step not in fields:
        return None
    since, tried, due_at = (fields.get(f"{step}.{name}") for name in ("since", "tried", "next"))
    status = FollowUpStatus(fields[step])
    if since is None and status is not FollowUpStatus.OFF:
        since = fields.get("settled")
    return FollowUp(
        status,
        since=int(since) if since else None,
        tries=int(fields.get(f"{step}.tries", 0)),
        tried_at=int(tried) if tried else None,
        due_at=int(due_at) if due_at else None,
        error=fields.get(f"{step}.error") or None,
    )


def _list(fields: Mapping[str, str], name: str) -> list[Any]:
    return _load(fields, name) or []


def _load(fields: Mapping[str, str], name: str) -> Any:
    return loads(fields.get(name))


def _error(fields: dict[str, Any] | None) -> JobError | None:
    return JobError(**{**fields, "code": ErrorCode(fields["code"])}) if fields else None


def _pending_failure(fields: dict[str, Any] | None) -> PendingFailure | None:
    error = _error(fields.pop("error")) if fields else None
    return PendingFailure(error, **fields) if fields and error else None


def _cost(fields: dict[str, Any] | None) -> Cost | None:
    return Cost(**fields) if fields else None
