"""What a job would cost, and why it would be refused. Nothing is stored or sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.clock import DAY_MS
from orchestrator.enqueue import TenantLimitReached, check_created
from orchestrator.job_check import CheckedJob, by_target, check_job
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger import Created, Result
from orchestrator.operations.cost import price
from orchestrator.operations.problems import problem_of
from orchestrator.runtime import Runtime


def quote(runtime: Runtime, request: Mapping[str, Any], tenant: str) -> dict[str, Any]:
    """Check a request as an enqueue does, and return the quote as JSON-ready data.

    Args:
        runtime: of this process.
        request: as for an enqueue.
        tenant: the owner of the job.

    Returns:
        `accepted`: whether an enqueue would create the job now; `problem`: the problem document of
        its refusal, or None; `costs`: one for each provider that the request names.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    try:
        job = check_job(runtime, request, tenant)
    except InvalidRequest as error:
        return {"accepted": False, "problem": problem_of(error), "costs": []}
    costs = [_cost(runtime, at) for _, at in by_target(job.request)]
    try:
        _check_limits(runtime, job)
    except TenantLimitReached as error:
        return {"accepted": False, "problem": problem_of(error), "costs": costs}
    return {"accepted": True, "problem": None, "costs": costs}


def _cost(runtime: Runtime, request: JobRequest) -> dict[str, Any]:
    """Return the cost of a request at its provider. It is unknown without a price."""
    enabled = runtime.enabled_provider(request.provider)
    cost = price(*enabled, request) if enabled else None
    return {
        "provider": request.provider,
        "model": request.model,
        "amount": cost.amount if cost else None,
        "unit": cost.unit if cost else None,
        "source": cost.source if cost else "unknown",
    }


def _check_limits(runtime: Runtime, job: CheckedJob) -> None:
    """Check the limits of the tenant that can be read: open jobs, and the budget of a day.

    Raises:
        TenantLimitReached: one of them allows no further job.
    """
    for limit, wait_ms in _reached(runtime, job):
        refused = Created(Result.LIMITED, "", limit, wait_ms)
        check_created(refused, job.limits, job.request.provider)


def _reached(runtime: Runtime, job: CheckedJob) -> Iterator[tuple[str, int]]:
    """Yield the limits that are reached, and the time until each may allow another job (ms)."""
    limits, overview, now = job.limits, runtime.ledger.overview, runtime.clock()
    if limits.max_open is not None and overview.open_jobs(limits.name) >= limits.max_open:
        yield "max_open", 0
    name = job.request.provider
    budget, cost = limits.daily_budgets.get(name), job.reserve.get(name)
    if budget and cost:
        spent = overview.spent(limits.name, now=now).get((name, budget.unit), 0.0)
        if not budget.allows(spent + cost.amount):
            yield "daily_budget", DAY_MS - now % DAY_MS
