"""The Python face: enqueue a job, look at it, call it off.

Our promise begins when `enqueue` returns: the job is in the ledger then, and reaches exactly one
outcome. If it raises LedgerUnavailable the job may or may not be there; call it again with the same
idempotency key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import log
from orchestrator.delivery.targets import refusals
from orchestrator.jobs.model import FollowUp, FollowUpStatus, Job, JobRequest, Status, Step
from orchestrator.jobs.schemas import JobRequestSchema
from orchestrator.jobs.uploads import ImageFile, describe
from orchestrator.jobs.validation import InvalidRequest, Violation, checked
from orchestrator.ledger import Idempotency, Result
from orchestrator.providers import PROVIDERS
from orchestrator.runtime import Runtime, default_runtime

#: Checks the requests of all callers.
REQUEST_SCHEMA = JobRequestSchema(PROVIDERS)
#: The longest idempotency key that is taken. Characters.
MAX_KEY = 255


class IdempotencyMismatch(ValueError):
    """The idempotency key was used before, with another request."""


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    """A job that is in the ledger; `replayed` when an earlier call had put it there."""

    job: Job
    replayed: bool


def enqueue(
    idempotency_key: str | None = None, image_file: Path | str | None = None, **request: Any
) -> Job:
    """Enqueue one job, with the fields of `POST /v1/jobs` as keyword arguments.

    Args:
        idempotency_key: the same key and request give the same job for 24 hours.
        image_file: a reference image on this machine, for providers that take files.
        **request: provider, model, prompt, ...

    Returns:
        The job, queued; or the earlier one of the same key.

    Raises:
        InvalidRequest: a field is wrong; nothing was stored or sent.
        IdempotencyMismatch: the key was used with another request.
        LedgerUnavailable: Redis is away.
        ConfigError: a setting is missing or wrong.
    """
    file = ImageFile.read(Path(image_file)) if image_file is not None else None
    return create_job(
        default_runtime(), request, scope="python", key=idempotency_key, file=file
    ).job


def get(job_id: str) -> Job | None:
    """The job as it stands, or None if there is no such job.

    Raises:
        LedgerUnavailable: Redis is away.
        ConfigError: a setting is missing or wrong.
    """
    return default_runtime().ledger.get(job_id)


def cancel(job_id: str) -> Job | None:
    """Call a job off that was not sent to its provider yet; None if there is no such job.

    Returns:
        The job as it stands: cancelled, or on its way to its outcome because it was sent.

    Raises:
        LedgerUnavailable: Redis is away.
        ConfigError: a setting is missing or wrong.
    """
    runtime = default_runtime()
    cancel_job(runtime, job_id)
    return runtime.ledger.get(job_id)


def cancel_job(runtime: Runtime, job_id: str) -> bool:
    """Cancel a job, for one of the faces; whether it is cancelled."""
    settlement = runtime.ledger.cancel(job_id, now=runtime.clock())
    result = runtime.nudge_due(job_id, settlement)
    if result is Result.CANCELLED:
        runtime.ledger.drop_upload(job_id)
    return result in (Result.CANCELLED, Result.DUPLICATE)


def create_job(
    runtime: Runtime,
    request: Mapping[str, Any],
    *,
    scope: str,
    key: str | None = None,
    file: ImageFile | None = None,
) -> EnqueueResult:
    """Check a request and put it in the ledger, for one of the faces: HTTP, Python or Celery.

    Args:
        runtime: this process' runtime.
        request: as the caller sent it.
        scope: whose idempotency keys these are.
        key: the idempotency key, if there is one.
        file: a reference image, for providers that take files.

    Raises:
        InvalidRequest, IdempotencyMismatch, LedgerUnavailable: as for enqueue.
    """
    idempotency = Idempotency(scope, _checked_key(key)) if key is not None else None
    wanted: JobRequest = checked(REQUEST_SCHEMA, request)
    if file:
        wanted = replace(wanted, upload=describe(file, runtime.settings.max_upload_bytes))
    _check_provider(runtime, wanted)
    if refused := tuple(refusals(wanted, runtime.settings)):
        raise InvalidRequest(*refused)
    now = runtime.clock()
    seconds = wanted.deadline_seconds or runtime.settings.job_deadline_seconds
    deadline_at = now + int(seconds * 1000)
    made = runtime.ledger.create(
        wanted,
        now=now,
        deadline_at=deadline_at,
        idempotency=idempotency,
        upload=file.content if file else None,
    )
    if made.result is Result.MISMATCH:
        raise IdempotencyMismatch("this idempotency key was used before, with another request")
    if made.result is Result.REPLAYED:
        earlier = runtime.ledger.get(made.job_id)
        if earlier:
            return EnqueueResult(earlier, replayed=True)
    runtime.nudger.nudge(Step.SUBMIT, [made.job_id])
    log.get().info("job_created", job=made.job_id, provider=wanted.provider, caller=scope)
    told = FollowUp(FollowUpStatus.WAITING) if wanted.notifies else None
    job = Job(made.job_id, Status.QUEUED, wanted, now, now, deadline_at, notification=told)
    return EnqueueResult(job, replayed=False)


def _check_provider(runtime: Runtime, wanted: JobRequest) -> None:
    on = runtime.enabled_provider(wanted.provider)
    if on is None:
        names = ", ".join(runtime.settings.providers) or "none, because no API key is set"
        key = f"{wanted.provider.upper()}_API_KEY"
        allowed = f"a provider that is switched on ({names}); set {key} to switch it on"
        raise InvalidRequest(Violation("provider", wanted.provider, allowed))
    on[0].check(wanted)


def _checked_key(key: str) -> str:
    if 1 <= len(key) <= MAX_KEY and key.isprintable():
        return key
    raise InvalidRequest(Violation("Idempotency-Key", key, f"1 to {MAX_KEY} printable characters"))
