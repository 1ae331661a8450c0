"""The Python API: enqueue a job, get it, cancel it.

The promise begins when `enqueue` returns: the job is in the ledger and reaches exactly one outcome.
After LedgerUnavailable the job may or may not exist. Call again with the same idempotency key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import log, tracing
from orchestrator.delivery.targets import refusals, signing_secrets
from orchestrator.jobs.model import Cost, FollowUp, FollowUpStatus, Job, Status, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.schemas import JobRequestSchema
from orchestrator.jobs.tenant import DEFAULT_TENANT, Tenant, tenant_name
from orchestrator.jobs.uploads import ImageFile, describe
from orchestrator.jobs.validation import InvalidRequest, Violation, checked
from orchestrator.ledger import Created, Idempotency, Result, codec
from orchestrator.providers import PROVIDERS
from orchestrator.runtime import Runtime, default_runtime

#: Checks the requests of all callers.
REQUEST_SCHEMA = JobRequestSchema(PROVIDERS)
#: The scopes of idempotency keys. The key of a Celery message is the id of the Celery task.
API_SCOPE, CELERY_SCOPE = "api", "celery"
#: The longest idempotency key. Characters.
MAX_KEY_CHARACTERS = 255
#: The `retry_after` of a tenant with too many open jobs. Nobody knows when a job ends. Seconds.
OPEN_RETRY_SECONDS = 5.0


class IdempotencyMismatch(ValueError):
    """The idempotency key was used before with another request."""


class IdempotencyGone(ValueError):
    """The job of the idempotency key has expired. `job_id` is its id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the job of this idempotency key has expired: {job_id}")
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
    """A job in the ledger. `replayed` says that an earlier call created it."""

    job: Job
    replayed: bool


def enqueue(
    idempotency_key: str | None = None,
    image_file: Path | str | None = None,
    tenant: str = DEFAULT_TENANT,
    **request: Any,
) -> Job:
    """Enqueue one job. The keyword arguments are the fields of `POST /v1/jobs`.

    Args:
        idempotency_key: the same key and request return the same job for 24 hours.
        image_file: path of a reference image, for providers that accept files.
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
        ConfigError: a setting is missing or wrong.
    """
    file = ImageFile.read(Path(image_file)) if image_file is not None else None
    result = create_job(
        default_runtime(), request, scope="python", tenant=tenant, key=idempotency_key, file=file
    )
    return result.job


def get(job_id: str) -> Job | None:
    """Return the job, or None when there is no such job.

    Raises:
        LedgerUnavailable: Redis is away.
        ConfigError: a setting is missing or wrong.
    """
    return default_runtime().ledger.get(job_id)


def cancel(job_id: str) -> Job | None:
    """Cancel a job that was not sent to its provider.

    Returns:
        The job, or None when there is no such job. A job that was sent is not cancelled and
        continues to its outcome.

    Raises:
        LedgerUnavailable: Redis is away.
        ConfigError: a setting is missing or wrong.
    """
    runtime = default_runtime()
    cancel_job(runtime, job_id, actor="python")
    return runtime.ledger.get(job_id)


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
        Idempotency(_owner(scope, tenant), _checked_key(key, name))
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
) -> EnqueueResult:
    """Check a request and create its job, or find the job of the same idempotency key.

    Args:
        runtime: of this process.
        request: as the caller sent it.
        scope: the face through which the request came. Idempotency keys of two scopes, or of two
            tenants, are different keys.
        tenant: the owner of the job.
        key: the idempotency key, or None.
        file: a reference image, for providers that accept files.

    Raises:
        InvalidRequest, IdempotencyMismatch, IdempotencyGone, TenantLimitReached, LedgerUnavailable:
            as for enqueue.
    """
    tenant = tenant_name(tenant)
    owner = _owner(scope, tenant)
    name = "Idempotency-Key" if scope == API_SCOPE else "idempotency_key"
    idempotency = None if key is None else Idempotency(owner, _checked_key(key, name))
    try:
        job_request = _checked_request(runtime, request, tenant, file)
        limits = runtime.ledger.access.current().tenant(tenant)
        reserve = _expected_costs(runtime, limits, job_request)
    except InvalidRequest:
        # The settings may have changed since the key was used. The key still belongs to its job.
        earlier = idempotency and _known_job(runtime, idempotency, request, file)
        if not earlier:
            raise
        return EnqueueResult(earlier, replayed=True)
    return _store(
        runtime, job_request, limits, owner, reserve=reserve, idempotency=idempotency, file=file
    )


def _store(
    runtime: Runtime,
    request: JobRequest,
    limits: Tenant,
    caller: str,
    *,
    reserve: Mapping[str, Cost],
    idempotency: Idempotency | None,
    file: ImageFile | None,
) -> EnqueueResult:
    """Create the job of a checked request in the ledger, and nudge it."""
    attributes = {"messaging.operation.type": "create", "gen_ai.provider.name": request.provider}
    with tracing.span("create job", "producer", attributes) as span:
        result = _created(
            runtime,
            request,
            limits,
            caller,
            reserve=reserve,
            idempotency=idempotency,
            file=file,
        )
        span.set("messaging.message.id", result.job.id)
    return result


def _created(
    runtime: Runtime,
    request: JobRequest,
    limits: Tenant,
    caller: str,
    *,
    reserve: Mapping[str, Cost],
    idempotency: Idempotency | None,
    file: ImageFile | None,
) -> EnqueueResult:
    now = runtime.clock()
    seconds = request.deadline_seconds or runtime.settings.job_deadline_seconds
    deadline_at = now + int(seconds * 1000)
    created = runtime.ledger.create(
        request,
        now=now,
        deadline_at=deadline_at,
        tenant=limits.name,
        limits=limits,
        reserve=reserve,
        idempotency=idempotency,
        upload=file.content if file else None,
    )
    if earlier := _earlier_job(runtime, limits, request.provider, created):
        return EnqueueResult(earlier, replayed=True)
    runtime.nudger.nudge(Step.SUBMIT, [created.job_id], request.provider)
    log.get().info("job_created", job=created.job_id, provider=request.provider, caller=caller)
    job = _queued(created.job_id, request, now, deadline_at, limits.name)
    return EnqueueResult(job, replayed=False)


def _queued(job_id: str, request: JobRequest, now: int, deadline_at: int, tenant: str) -> Job:
    """Return a job as the ledger has just stored it."""
    notification = FollowUp(FollowUpStatus.WAITING) if request.notifies else None
    return Job(
        job_id,
        Status.QUEUED,
        request,
        created_at=now,
        updated_at=now,
        deadline_at=deadline_at,
        tenant=tenant,
        notification=notification,
        fallback_left=tuple(target.provider for target in request.fallback),
    )


def _earlier_job(runtime: Runtime, limits: Tenant, provider: str, created: Created) -> Job | None:
    """Return the job that an earlier call created, or None when this call created one.

    Raises:
        TenantLimitReached, IdempotencyMismatch, IdempotencyGone: there is no job.
    """
    if created.result is Result.LIMITED:
        raise _limit_reached(limits, provider, created)
    if created.result is Result.MISMATCH:
        raise IdempotencyMismatch("this idempotency key was used before with another request")
    if created.result is Result.GONE:
        raise IdempotencyGone(created.job_id)
    return runtime.ledger.get(created.job_id) if created.result is Result.REPLAYED else None


def _expected_costs(runtime: Runtime, limits: Tenant, request: JobRequest) -> dict[str, Cost]:
    """Return the cost that a job reserves at each of its providers where its tenant has a budget.

    Raises:
        InvalidRequest: a cost is not known, so the budget cannot hold.
    """
    costs = {}
    for field, at in _by_target(request):
        budget = limits.daily_budgets.get(at.provider)
        enabled = runtime.enabled_provider(at.provider)
        if budget is None or enabled is None:
            continue
        provider, settings = enabled
        cost = provider.price(at, settings.prices) if settings.prices else None
        if cost is None or cost.unit != budget.unit:
            variable = f"{provider.name.upper()}_PRICES"
            allowed = f"a model with a price in {budget.unit}, because the tenant has a budget"
            raise InvalidRequest(Violation(f"{field}model", at.model, f"{allowed}; see {variable}"))
        costs[at.provider] = cost
    return costs


def _by_target(request: JobRequest) -> Iterator[tuple[str, JobRequest]]:
    """Yield the request as each of its providers gets it, and the start of its fields' names."""
    yield "", request
    for index, target in enumerate(request.fallback):
        yield f"fallback.{index}.", request.at(target.provider)


def _limit_reached(limits: Tenant, provider: str, created: Created) -> TenantLimitReached:
    if created.limit == "max_open":
        wait, text = OPEN_RETRY_SECONDS, f"{limits.max_open} open jobs"
    elif created.limit == "daily_budget":
        wait, text = created.wait_ms / 1000, f"{limits.daily_budgets[provider]} a day at {provider}"
    else:
        wait, text = created.wait_ms / 1000, f"{limits.requests_per_second:g} jobs per second"
    return TenantLimitReached(limits.name, created.limit, wait, text)


def _owner(scope: str, tenant: str) -> str:
    """Return the owner of idempotency keys. No two tenants share one."""
    return scope if tenant == DEFAULT_TENANT else f"{scope}:{tenant}"


def _known_job(
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
    if codec.fingerprint(job_request) != fingerprint:
        raise IdempotencyMismatch("this idempotency key was used before with another request")
    job = runtime.ledger.get(job_id)
    if job is None:
        raise IdempotencyGone(job_id)
    return job


def _checked_request(
    runtime: Runtime, request: Mapping[str, Any], tenant: str, file: ImageFile | None
) -> JobRequest:
    job_request: JobRequest = checked(REQUEST_SCHEMA, request)
    if file:
        job_request = replace(job_request, upload=describe(file, runtime.settings.max_upload_bytes))
    for field, at in _by_target(job_request):
        _check_provider(runtime, at, field)
    signs = job_request.notify_url is not None and bool(signing_secrets(runtime, tenant))
    if violations := tuple(refusals(job_request, runtime.settings, signs=signs)):
        raise InvalidRequest(*violations)
    return job_request


def _check_provider(runtime: Runtime, request: JobRequest, field: str) -> None:
    """Check a request with the catalog of its provider. `field` is the start of its fields' names.

    Raises:
        InvalidRequest: the provider is switched off, or does not allow the request.
    """
    enabled = runtime.enabled_provider(request.provider)
    if enabled is None:
        name = request.provider
        names = ", ".join(runtime.settings.providers) or "none, because no API key is set"
        allowed = f"an enabled provider: {names}; set {name.upper()}_API_KEY to enable {name}"
        raise InvalidRequest(Violation(f"{field}provider", name, allowed))
    try:
        enabled[0].check(request)
    except InvalidRequest as error:
        named = (replace(v, field=f"{field}{v.field}") for v in error.violations)
        raise InvalidRequest(*named) from None


def _checked_key(key: object, name: str) -> str:
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY_CHARACTERS and key.isprintable():
        return key
    raise InvalidRequest(Violation(name, key, f"1 to {MAX_KEY_CHARACTERS} printable characters"))
