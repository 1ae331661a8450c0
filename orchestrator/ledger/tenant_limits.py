"""A shard's part of a tenant's limits. All parts together are the limit."""

from __future__ import annotations

import math

from orchestrator.jobs.model import Cost
from orchestrator.jobs.tenant import Tenant


def limit_arguments(
    limits: Tenant | None, provider: str, reserve: Cost | None, shard: int, shards: int
) -> list[str | int]:
    """Return the arguments of the create script for the limits of a job's tenant.

    Args:
        limits: the limits of the tenant; None means no limit.
        provider: of the job.
        reserve: the expected cost of the job, if its tenant has a budget there.
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
        rate = limits.requests_per_second / shards
        args[1:3] = [f"{1000 / rate:.3f}", max(1, math.ceil(rate))]
    budget = limits.daily_budgets.get(provider)
    if budget is not None and reserve is not None:
        args[3:] = [f"{reserve.amount:.9f}", reserve.unit, f"{budget.amount / shards:.9f}"]
    return args
