"""A shard's part of a tenant's limits. All parts together are the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.jobs.model import Cost
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.tenant import Tenant
from orchestrator.ledger import codec


def limit_arguments(
    limits: Tenant | None, provider: str, reserve: Mapping[str, Cost], shard: int, shards: int
) -> list[str | int]:
    """Return the arguments of the create script for the limits of a job's tenant.

    Args:
        limits: the limits of the tenant; None means no limit.
        provider: of the job.
        reserve: the expected cost of the job at each provider where its tenant has a budget.
        shard: of the job.
        shards: the number of shards.

    Returns:
        The most open jobs, the shortest time between jobs (ms), the jobs of a burst, the cost, its
        unit and the budget. A limit that is absent is empty text.
    """
    if limits is None:
        return [""] * 6
    args: list[str | int] = [""] * 6
    if limits.max_open is not None:
        args[0] = limits.max_open // shards + (shard < limits.max_open % shards)
    if limits.requests_per_second is not None:
        interval, burst = rate_part(limits.requests_per_second, shards)
        args[1:3] = [f"{interval:.3f}", burst]
    if part := _budget_part(limits, provider, reserve, shards):
        args[3:] = [f"{part['cost']:.9f}", part["unit"], f"{part['budget']:.9f}"]
    return args


def rate_part(rate: float, shards: int) -> tuple[float, int]:
    """Return a shard's part of a rate: the shortest time between jobs (ms), and jobs of a burst."""
    part = rate / shards
    return 1000 / part, max(1, math.ceil(part))


def fallback_argument(
    request: JobRequest, limits: Tenant | None, reserve: Mapping[str, Cost], shards: int
) -> str:
    """Return the fallbacks of a job as the scripts read them; empty text without one."""
    entries: list[dict[str, Any]] = [
        {"provider": name, **(_budget_part(limits, name, reserve, shards) if limits else {})}
        for name in (target.provider for target in request.fallback)
    ]
    return codec.dumps(entries) if entries else ""


def _budget_part(
    limits: Tenant, provider: str, reserve: Mapping[str, Cost], shards: int
) -> dict[str, Any]:
    """Return the expected cost at a provider, its unit, and a shard's part of the budget."""
    budget, cost = limits.daily_budgets.get(provider), reserve.get(provider)
    if budget is None or cost is None:
        return {}
    return {"cost": cost.amount, "unit": cost.unit, "budget": budget.amount / shards}
