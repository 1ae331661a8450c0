"""Checks a request with all that decides about it: schema, provider, receiver and budgets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.clock import DAY_MS
from orchestrator.delivery.targets import refusals, signing_secrets
from orchestrator.jobs.model import Cost
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.schemas import JobRequestSchema
from orchestrator.jobs.tenant import Tenant
from orchestrator.jobs.uploads import ImageFile, describe
from orchestrator.jobs.validation import InvalidRequest, Violation, checked
from orchestrator.ledger import Idempotency
from orchestrator.ledger.creation import NewJob
from orchestrator.providers import PROVIDERS
from orchestrator.runtime import Runtime

#: Checks the requests of all callers.
REQUEST_SCHEMA = JobRequestSchema(PROVIDERS)


@dataclass(frozen=True, slots=True)
class CheckedJob:
    """A request that was checked for its tenant.

    Attributes:
        request: the request.
        limits: the tenant, with its limits.
        reserve: the cost that the job reserves at each provider where its tenant has a budget.
    """

    request: JobRequest
    limits: Tenant
    reserve: Mapping[str, Cost]

    def new_job(
        self,
        runtime: Runtime,
        now: int,
        idempotency: Idempotency | None,
        *,
        batch: str = "",
        retry_of: str = "",
    ) -> NewJob:
        """Return the job that the ledger shall create now (ms).

        `batch` is the id of its batch, and `retry_of` that of the job that it retries.
        """
        seconds = self.request.deadline_seconds or runtime.settings.job_deadline_seconds
        deadline_at, tenant = now + int(seconds * 1000), self.limits.name
        return NewJob(
            self.request,
            deadline_at,
            tenant,
            self.limits,
            self.reserve,
            idempotency,
            batch,
            retry_of,
        )


def check_job(
    runtime: Runtime, request: Mapping[str, Any], tenant: str, file: ImageFile | None = None
) -> CheckedJob:
    """Check a request for a tenant. Nothing is stored.

    Raises:
        InvalidRequest: with every violation.
    """
    job_request = _checked_request(runtime, request, tenant, file)
    limits = runtime.ledger.access.current().tenant(tenant)
    return CheckedJob(job_request, limits, _expected_costs(runtime, limits, job_request))


def _checked_request(
    runtime: Runtime, request: Mapping[str, Any], tenant: str, file: ImageFile | None
) -> JobRequest:
    job_request: JobRequest = checked(REQUEST_SCHEMA, request)
    if file:
        job_request = replace(job_request, upload=describe(file, runtime.settings.max_upload_bytes))
    for field, at in by_target(job_request):
        _check_provider(runtime, at, field)
    signs = job_request.notify_url is not None and bool(signing_secrets(runtime, tenant))
    if violations := tuple(refusals(job_request.receiver, runtime.settings, signs=signs)):
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


def _expected_costs(runtime: Runtime, limits: Tenant, request: JobRequest) -> dict[str, Cost]:
    """Return the cost that a job reserves at each of its providers where its tenant has a budget.

    Raises:
        InvalidRequest: a cost is not known, so the budget cannot hold.
    """
    costs = {}
    for field, at in by_target(request):
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


def reached_limits(runtime: Runtime, job: CheckedJob) -> Iterator[tuple[str, int]]:
    """Yield each limit of its tenant that refuses a job now, and the wait (ms; 0: unknown).

    With several shards, a limit may be reached a little earlier.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    limits, overview, now = job.limits, runtime.ledger.overview, runtime.clock()
    if limits.max_open is not None and overview.open_jobs(limits.name) >= limits.max_open:
        yield "max_open", 0
    if limits.requests_per_second is not None:
        wait = overview.rate_wait(limits.name, limits.requests_per_second, now=now)
        if wait > 0:
            yield "requests_per_second", wait
    name = job.request.provider
    budget, cost = limits.daily_budgets.get(name), job.reserve.get(name)
    if budget and cost:
        spent = overview.spent(limits.name, now=now).get((name, budget.unit), 0.0)
        if not budget.allows(spent + cost.amount):
            yield "daily_budget", DAY_MS - now % DAY_MS


def by_target(request: JobRequest) -> Iterator[tuple[str, JobRequest]]:
    """Yield the request as each of its providers gets it, and the start of its fields' names."""
    yield "", request
    for index, target in enumerate(request.fallback):
        yield f"fallback.{index}.", request.at(target.provider)
