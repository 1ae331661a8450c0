"""The Python API: enqueue a job, get it, cancel it.

The promise begins when `enqueue` returns: the job is in the ledger and reaches exactly one outcome.
After LedgerUnavailable the job may or may not exist. Call again with the same idempotency key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import log, tracing
from orchestrator.job_check import REQUEST_SCHEMA, CheckedJob, check_job, reached_limits
from orchestrator.jobs.model import FollowUp, FollowUpStatus, Job, Status, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.tenant import DEFAULT_TENANT, Tenant, tenant_name
from orchestrator.jobs.uploads import ImageFile, describe
from orchestrator.jobs.validation import InvalidRequest, Violation, checked
from orchestrator.ledger import Created, Idempotency, Result, Waiting, codec
from orchestrator.ledger.creation import NewJob
from orchestrator.reference_images import Reference, same_but_links, wants_link, with_link
from orchestrator.runtime import Runtime, default_runtime
from orchestrator.step_loop import in_thread

#: The scopes of idempotency keys. The key of a Celery message is the id of the Celery task.
API_SCOPE, CELERY_SCOPE = "api", "celery"
#: The longest idempotency key. Characters.
MAX_KEY_CHARACTERS = 255
#: The `retry_after` of a tenant with too many open jobs. Nobody knows when a job ends. Seconds.
OPEN_RETRY_SECONDS = 5.0


class IdempotencyMismatch(ValueError):
    """The idempotency key was used before with another request."""

    def __init__(self) -> None:
        super().__init__(
            "this idempotency key was used before with another request; send a new key for a new"
            " request, or the first request again"
        )


class IdempotencyGone(ValueError):
    """The job of the idempotency key has expired. `job_id` is its id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"the job of this idempotency key has expired: {job_id}; send a new key for a new job"
        )
        self.job_id = job_id


class TenantLimitReached(Exception):
    """The tenant has reached a limit. Nothing was stored or sent. The same call may work later.

    Attributes:
        limit: the name of the limit: max_open, requests_per_second or daily_budget.
        retry_after: seconds after which the limit may allow another job.
    """

    def __init__(self, tenant: str, limit: str, retry_after: float, text: str) -> None:
        super().__init__(f"the tenant {tenant} has reached its limit {limit}: {text}")
        self.limit = limit
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    """A job in the ledger.

    Attributes:
        job: the job.
        replayed: an earlier call created it.
        wait: what a new job waits for; None: the ledger must be asked.
    """

    job: Job
    replayed: bool
    wait: Waiting | None = None


def enqueue(
    idempotency_key: str | None = None,
    image_file: Path | str | None = None,
    tenant: str = DEFAULT_TENANT,
    **request: Any,
) -> Job:
    """Enqueue one job. The keyword arguments are the fields of `POST /v1/jobs`.

    Args:
        idempotency_key: the same key and request return the same job for 24 hours.
        image_file: path of a reference image. A provider that accepts only links gets a link.
        tenant: the owner of the job.
        **request: provider, model, prompt and so on.

    Returns:
        The queued job, or the earlier job of the same key.

    Raises:
        InvalidRequest: a field is wrong. Nothing was stored or sent.
        IdempotencyMismatch: the key was used with another request.
        IdempotencyGone: the job of the key has expired.
        TenantLimitReached: the tenant may have no further job now.
        LedgerUnavailable: Redis is away.
        StorageError: the image could not be stored, and its provider takes only links.
        ConfigError: a setting is missing or wrong.
    """
    file = ImageFile.read(Path(image_file)) if image_file is not None else None
    result = create_job(
        _fitting_runtime(), request, scope="python", tenant=tenant, key=idempotency_key, file=file
    )
    return result.job


def get(job_id: str) -> Job | None:
    """Return the job, or None when there is no such job.

    Raises:
        LedgerUnavailable: Redis is away.
        ConfigError: a setting is missing or wrong.
    """
    return _fitting_runtime().ledger.get(job_id)


def cancel(job_id: str) -> Job | None:
    """Cancel a job that was not sent to its provider.

    Returns:
        The job, or None when there is no such job. A job that was sent is not cancelled and
        continues to its outcome.

    Raises:
        LedgerUnavailable: Redis is away.
        ConfigError: a setting is missing or wrong.
    """
    runtime = _fitting_runtime()
    cancel_job(runtime, job_id, actor="python")
    return runtime.ledger.get(job_id)


def _fitting_runtime() -> Runtime:
    """Return the runtime of this process. The first call checks that it fits the ledger.

    Raises:
        LedgerMismatch: it does not, so a job could be lost.
        LedgerUnavailable: Redis is away.
    """
    runtime = default_runtime()
    if not runtime.ledger.installation.is_compared:
        runtime.ledger.installation.check()
    return runtime


def job_of_key(
    runtime: Runtime, scope: str, key: str, tenant: str = DEFAULT_TENANT, *, name: str = "key"
) -> Job | None:
    """Return a tenant's job of an idempotency key, or None when it is unknown or has expired.

    Args:
        runtime: of this process.
        scope: the face through which the request came.
        key: the idempotency key.
        tenant: the owner of the job.
        name: of the parameter with the key, for the error.

    Raises:
        InvalidRequest: the text cannot be a key.
        LedgerUnavailable: Redis is away.
    """
    known = runtime.ledger.idempotency_keys.find(
        Idempotency(key_owner(scope, tenant), checked_key(key, name))
    )
    return runtime.ledger.get(known[0]) if known else None


def cancel_job(runtime: Runtime, job_id: str, *, actor: str) -> bool:
    """Cancel a job, and return whether it is cancelled. `actor` is for the audit trail."""
    result = cancel_unaudited(runtime, job_id)
    if result is Result.CANCELLED:
        runtime.audit(actor, "cancel", job_id)
    return result in (Result.CANCELLED, Result.DUPLICATE)


def cancel_unaudited(runtime: Runtime, job_id: str) -> Result:
    """Cancel a job for a caller that has its own entry in the audit trail.

    Returns:
        CANCELLED, DUPLICATE, IN_FLIGHT, TERMINAL or MISSING.
    """
    settlement = runtime.ledger.cancel(job_id, now=runtime.clock())
    result = runtime.nudge_due(job_id, settlement)
    if result is Result.CANCELLED:
        runtime.ledger.uploads.drop(job_id)
    return result


def create_job(
    runtime: Runtime,
    request: Mapping[str, Any],
    *,
    scope: str,
    tenant: str = DEFAULT_TENANT,
    key: str | None = None,
    file: ImageFile | None = None,
    references: Sequence[Reference] = (),
    retry_of: str = "",
) -> EnqueueResult:
    """Check a request and create its job, or find the job of the same idempotency key.

    Args:
        runtime: of this process.
        request: as the caller sent it.
        scope: the face through which the request came. Idempotency keys of two scopes, or of two
            tenants, are different keys.
        tenant: the owner of the job.
        key: the idempotency key, or None.
        file: a reference image. A provider that accepts only links gets a link.
        references: images whose links are in the request. They are stored if it is valid.
        retry_of: the id of the job that the new one retries.

    Raises:
        InvalidRequest, IdempotencyMismatch, IdempotencyGone, TenantLimitReached, LedgerUnavailable,
        StorageError: as for enqueue.
    """
    tenant = tenant_name(tenant)
    if file is not None and wants_link(runtime, request):
        reference = Reference.of(runtime, tenant, "image_file", file.content)
        references = (*references, reference)
        request, file = with_link(request, reference.link), None
    owner = key_owner(scope, tenant)
    name = "Idempotency-Key" if scope == API_SCOPE else "idempotency_key"
    idempotency = None if key is None else Idempotency(owner, checked_key(key, name))
    try:
        job = check_job(runtime, request, tenant, file)
    except InvalidRequest:
        # The settings may have changed since the key was used. The key still belongs to its job.
        earlier = idempotency and in_thread(known_job, runtime, idempotency, request, file)
        if not earlier:
            raise
        return EnqueueResult(earlier, replayed=True)
    attributes = {
        "messaging.operation.type": "create",
        "gen_ai.provider.name": job.request.provider,
    }
    _store_references(runtime, job, references, idempotency)
    with tracing.span("create job", "producer", attributes) as span:
        try:
            result = _store(
                runtime, job, owner, idempotency=idempotency, file=file, retry_of=retry_of
            )
        except IdempotencyMismatch:
            # Links of ours to the same images change with our address and our secret.
            earlier = idempotency and in_thread(known_job, runtime, idempotency, request, file)
            if not earlier:
                raise
            result = EnqueueResult(earlier, replayed=True)
        span.set("messaging.message.id", result.job.id)
    return result


def _store_references(
    runtime: Runtime,
    job: CheckedJob,
    references: Sequence[Reference],
    idempotency: Idempotency | None,
) -> None:
    """Store reference images, unless the call is refused: a tenant could fill the storage.

    They stay if a limit is reached meanwhile. Another job may have got them.

    Raises:
        TenantLimitReached: nothing is stored.
    """
    if not references:
        return
    known = idempotency and runtime.ledger.idempotency_keys.find(idempotency)
    if known and known[1] != codec.fingerprint(job.request.stored()):
        return  # the call is refused, or its job has the same images behind other links
    for limit, wait_ms in () if known else reached_limits(runtime, job):
        reached = Created(Result.LIMITED, "", limit, wait_ms)
        raise _limit_reached(job.limits, job.request.provider, reached)
    for each in references:
        each.store(runtime)


def _store(
    runtime: Runtime,
    job: CheckedJob,
    caller: str,
    *,
    idempotency: Idempotency | None,
    file: ImageFile | None,
    retry_of: str,
) -> EnqueueResult:
    """Create the job of a checked request in the ledger, and nudge it."""
    now, request = runtime.clock(), job.request
    new = job.new_job(runtime, now, idempotency, retry_of=retry_of)
    created = runtime.ledger.create(
        request,
        now=now,
        deadline_at=new.deadline_at,
        tenant=new.tenant,
        limits=new.limits,
        reserve=new.reserve,
        idempotency=idempotency,
        upload=file.content if file else None,
        retry_of=new.retry_of,
    )
    check_created(created, job.limits, request.provider)
    if created.result is Result.REPLAYED:
        earlier = in_thread(runtime.ledger.get, created.job_id)
        if earlier:
            return EnqueueResult(earlier, replayed=True)
    runtime.nudger.nudge(Step.SUBMIT, [created.job_id], request.provider)
    log.get().info("job_created", job=created.job_id, provider=request.provider, caller=caller)
    return EnqueueResult(queued_job(created.job_id, new, now), False, created.wait)


def queued_job(job_id: str, new: NewJob, now: int) -> Job:
    """Return a job as the ledger has just stored it."""
    request = new.request
    notification = FollowUp(FollowUpStatus.WAITING) if request.notifies else None
    return Job(
        job_id,
        Status.QUEUED,
        request,
        created_at=now,
        updated_at=now,
        deadline_at=new.deadline_at,
        tenant=new.tenant,
        batch=new.batch or None,
        retry_of=new.retry_of or None,
        notification=notification,
        fallback_left=tuple(target.provider for target in request.fallback),
    )


def check_created(created: Created, limits: Tenant, provider: str) -> None:
    """Check that the ledger created a job, or found the one of an earlier call.

    Raises:
        TenantLimitReached, IdempotencyMismatch, IdempotencyGone: there is no job.
    """
    if created.result is Result.LIMITED:
        raise _limit_reached(limits, provider, created)
    if created.result is Result.MISMATCH:
        raise IdempotencyMismatch()
    if created.result is Result.GONE:
        raise IdempotencyGone(created.job_id)


def _limit_reached(limits: Tenant, provider: str, created: Created) -> TenantLimitReached:
    wait = created.wait_ms / 1000
    if created.limit == "max_open":
        wait = OPEN_RETRY_SECONDS
        text = f"{limits.max_open} open jobs; try again when one ends"
    elif created.limit == "daily_budget":
        budget = limits.daily_budgets[provider]
        text = f"{budget} a day at {provider}; try again tomorrow (UTC), or raise the budget"
    else:
        text = f"{limits.requests_per_second:g} jobs per second; send them more slowly"
    return TenantLimitReached(limits.name, created.limit, wait, text)


def key_owner(scope: str, tenant: str) -> str:
    """Return the owner of idempotency keys. No two tenants share one."""
    return scope if tenant == DEFAULT_TENANT else f"{scope}:{tenant}"


def known_job(
    runtime: Runtime, idempotency: Idempotency, request: Mapping[str, Any], file: ImageFile | None
) -> Job | None:
    """Return the job of an idempotency key, whatever the settings allow now."""
    known = runtime.ledger.idempotency_keys.find(idempotency)
    if known is None:
        return None
    job_id, fingerprint = known
    job_request: JobRequest = checked(REQUEST_SCHEMA, request)
    if file:
        job_request = replace(job_request, upload=describe(file, len(file.content)))
    job = runtime.ledger.get(job_id)
    is_same = codec.fingerprint(job_request.stored()) == fingerprint
    if not (is_same or (job and same_but_links(job.request, job_request, file))):
        raise IdempotencyMismatch()
    if job is None:
        raise IdempotencyGone(job_id)
    return job


def checked_key(key: object, name: str) -> str:
    """Return an idempotency key.

    Raises:
        InvalidRequest: the value of the field `name` cannot be a key.
    """
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY_CHARACTERS and key.isprintable():
        return key
    raise InvalidRequest(Violation(name, key, f"1 to {MAX_KEY_CHARACTERS} printable characters"))
