"""What a job would cost, and why it would be refused. Nothing is stored or sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.enqueuing import TenantLimitReached, check_created
from orchestrator.job_check import CheckedJob, by_target, check_job, reached_limits
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
    """Check the limits of the tenant.

    Raises:
        TenantLimitReached: one of them allows no further job.
    """
    for limit, wait_ms in reached_limits(runtime, job):
        refused = Created(Result.LIMITED, "", limit, wait_ms)
        check_created(refused, job.limits, job.request.provider)
