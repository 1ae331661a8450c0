"""What the client can do, as operations that `Client` and `AsyncClient` run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from io import BufferedRandom
from json import dumps
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TypeVar
from urllib.parse import quote
from uuid import uuid4

from orchestrator_client import parsing
from orchestrator_client.calls import (
    Call,
    Calls,
    DiskWork,
    Operation,
    Parser,
    Pause,
    parsed,
    retry_after,
)
from orchestrator_client.errors import ConnectionFailed, DownloadFailed, ServerError
from orchestrator_client.models import Batch, BatchResult, Job, JobPage, Quote
from orchestrator_client.requests import BatchJobRequest, JobFilter, JobRequest, Receiver

#: One wait at the server. A proxy may end a longer one. Seconds.
HOLD_SECONDS = 30.0
#: The longest idempotency key.
MAX_KEY_CHARACTERS = 255
#: The pause when the server answers a wait at once, or is away. Seconds.
CROWDED_SECONDS = 1.0


class Ending(Protocol):
    """A job or a batch."""

    @property
    def done(self) -> bool:
        """Whether it has ended."""


Ended = TypeVar("Ended", bound=Ending)


def enqueue(
    calls: Calls,
    request: JobRequest,
    *,
    key: str | None,
    tenant: str | None,
    image_file: Path | str | bytes | None,
) -> Operation[Job]:
    """Enqueue a job."""
    headers, params = _key_header(key), _given(tenant=tenant)
    if image_file is None:
        call = Call("POST", "/v1/jobs", params, json=request, headers=headers)
    else:
        # Bytes, so that a repetition can send them again.
        name, content = "image", image_file
        if not isinstance(content, bytes):
            name, content = Path(content).name, (yield DiskWork(Path(content).read_bytes))
        parts = {"job": (None, dumps(request), "application/json"), "image_file": (name, content)}
        call = Call("POST", "/v1/jobs", params, parts=parts, headers=headers)
    return (yield from calls.read(call, parsing.job))


def get_quote(calls: Calls, request: JobRequest, tenant: str | None) -> Operation[Quote]:
    """Check a request without enqueueing it."""
    call = Call("POST", "/v1/jobs/quote", _given(tenant=tenant), json=request, safe=True)
    return (yield from calls.read(call, parsing.quote))


def get(calls: Calls, job_id: str) -> Operation[Job]:
    """Return a job."""
    return (yield from calls.read(Call("GET", _job(job_id)), parsing.job))


def wait(calls: Calls, job_id: str, timeout: float | None) -> Operation[Job]:
    """Return a job when it has its outcome, or as it is after `timeout` seconds."""
    return (yield from _wait(calls, _job(job_id), parsing.job, timeout))


def wait_batch(calls: Calls, batch_id: str, timeout: float | None) -> Operation[Batch]:
    """Return a batch when it is completed, or as it is after `timeout` seconds."""
    return (yield from _wait(calls, _batch(batch_id), parsing.batch, timeout))


def _wait(calls: Calls, path: str, parse: Parser[Ended], timeout: float | None) -> Operation[Ended]:
    ends = None if timeout is None else monotonic() + timeout
    asking = calls if ends is None else Calls(max_retries=0)  # this loop repeats until the end
    while True:
        left = HOLD_SECONDS if ends is None else min(HOLD_SECONDS, max(0.0, ends - monotonic()))
        hold = round(left, 3)
        call = Call("GET", path, {"wait": hold} if hold else {}, timeout=hold)
        asked = monotonic()
        try:
            response = yield from asking.answer(call)
        except (ConnectionFailed, ServerError):
            if ends is None or monotonic() >= ends:
                raise
            yield Pause(CROWDED_SECONDS)
            continue
        outcome = parsed(response, parse)
        if outcome.done or (ends is not None and monotonic() >= ends):
            return outcome
        if monotonic() - asked < min(hold, CROWDED_SECONDS):
            pause = retry_after(response) or CROWDED_SECONDS
            yield Pause(pause if ends is None else min(pause, max(0.0, ends - monotonic())))


def page(
    calls: Calls, chosen: JobFilter, cursor: str | None, page_size: int | None
) -> Operation[JobPage]:
    """Return one page of jobs."""
    params = {**_query(chosen), **_given(cursor=cursor, limit=page_size)}
    return (yield from calls.read(Call("GET", "/v1/jobs", params), parsing.page))


def batch(
    calls: Calls,
    jobs: Iterable[BatchJobRequest],
    receiver: Receiver,
    *,
    key: str | None,
    tenant: str | None,
) -> Operation[BatchResult]:
    """Enqueue up to 500 jobs as one batch."""
    body = {"jobs": list(jobs), **receiver}
    headers = _key_header(key)
    call = Call("POST", "/v1/jobs/batch", _given(tenant=tenant), json=body, headers=headers)
    return (yield from calls.read(call, parsing.batch_result))


def get_batch(calls: Calls, batch_id: str) -> Operation[Batch]:
    """Return a batch."""
    return (yield from calls.read(Call("GET", _batch(batch_id)), parsing.batch))


def cancel(calls: Calls, job_id: str) -> Operation[Job]:
    """Cancel a queued job."""
    return (yield from calls.read(Call("POST", f"{_job(job_id)}/cancel"), parsing.job))


def retry(calls: Calls, job_id: str, *, accept_risk: bool) -> Operation[Job]:
    """Enqueue the request of a job again."""
    call = Call("POST", f"{_job(job_id)}/retry", json={"accept_risk": accept_risk})
    return (yield from calls.read(call, parsing.job))


def download(calls: Calls, job: Job | str, to: Path, index: int) -> Operation[Path]:
    """Write an image to a file. The file appears when it is complete."""
    job_id, expected = (job, None) if isinstance(job, str) else (job.id, _sha256(job, index))
    part = to.with_name(f".{to.name}.{uuid4().hex}.part")
    try:
        with part.open("x+b") as file:
            call = Call("GET", f"{_job(job_id)}/images/{index}", sink=file)
            yield from calls.answer(call)
            actual = yield DiskWork(partial(_synced, file))
        if expected and actual != expected:
            raise DownloadFailed(
                f"image {index} of {job_id} has other bytes than its archived copy"
            )
        return part.replace(to)
    finally:
        part.unlink(missing_ok=True)


def _synced(file: BufferedRandom) -> str:
    """Sync a file, so that it survives a crash of the machine. Return its SHA-256."""
    file.flush()
    os.fsync(file.fileno())
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(job: Job, index: int) -> str | None:
    return job.images[index].sha256 if index < len(job.images) else None


def _key_header(key: str | None) -> dict[str, str]:
    """Return the header with an idempotency key: that of the caller, or a new one.

    An empty key is refused, and not replaced: a new key for each call could buy twice.
    """
    if key is None:
        key = str(uuid4())
    elif not (1 <= len(key) <= MAX_KEY_CHARACTERS and _is_header_text(key)):
        raise ValueError(
            f"idempotency_key must be 1 to {MAX_KEY_CHARACTERS} characters of printable ASCII,"
            " without blanks at its ends"
        )
    return {"Idempotency-Key": key}


def _is_header_text(text: str) -> bool:
    return text.isascii() and text.isprintable() and text == text.strip()


def _job(job_id: str) -> str:
    return f"/v1/jobs/{_segment('job_id', job_id)}"


def _batch(batch_id: str) -> str:
    return f"/v1/batches/{_segment('batch_id', batch_id)}"


def _segment(name: str, value: str) -> str:
    """Return a value as one part of a path. Another path would be another call."""
    if not isinstance(value, str) or value in ("", ".", ".."):
        raise ValueError(f"{name} must be the id that the orchestrator returned")
    return quote(value, safe="")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _query(chosen: JobFilter) -> dict[str, str]:
    query: dict[str, str] = {}
    for name, value in chosen.items():
        if isinstance(value, Mapping):
            query |= {f"{name}.{key}": str(each) for key, each in value.items()}
        elif isinstance(value, bool):
            query[name] = "true" if value else "false"
        elif isinstance(value, datetime):
            query[name] = value.astimezone(UTC).isoformat(timespec="milliseconds")
        elif value is not None:
            query[name] = str(value)
    return query
