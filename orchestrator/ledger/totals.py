"""What a shard counts, and its totals, read in one transaction to compare them with its jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from redis.exceptions import WatchError

from orchestrator.jobs.model import FOLLOW_UPS, FollowUpStatus, Status
from orchestrator.ledger import keys

#: Events that repeat or contradict what the ledger knows.
CONTRADICTIONS = ("duplicate", "conflict", "mismatch", "superseded", "late_result")
#: The terminal states of a follow-up.
ENDS = (FollowUpStatus.DONE, FollowUpStatus.DEAD, FollowUpStatus.GONE)
#: The statuses of open jobs.
OPEN = tuple(status for status in Status if not status.terminal)
#: What a shard counts, besides the jobs of each tenant.
COUNTED = (*Status, *CONTRADICTIONS, *(f"{step}_{end}" for step in FOLLOW_UPS for end in ENDS))


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of a shard.

    Attributes:
        counts: jobs by status, and contradicting events by name.
        tenants: open jobs by tenant.
        flows: jobs by flow.
        in_flight: attempts in flight by provider, for the providers with an open job.
        deadlines: queued jobs in the set of deadlines.
        movable: queued jobs with a fallback by provider, for the same providers.
        batches: open jobs by batch.
        in_batches: the same, as the batches count them by status.
    """

    counts: dict[str, int]
    tenants: dict[str, int]
    flows: dict[str, int]
    in_flight: dict[str, int]
    deadlines: int
    movable: dict[str, int]
    batches: dict[str, int]
    in_batches: dict[str, int]


def read_totals(watch: Any, shard: int) -> Totals | None:
    """Return the totals of a shard; None if its counts have changed.

    Args:
        watch: a pipeline that watches the counts of the shard. It is executed.
        shard: the shard.
    """
    flows = [flow for flow in watch.zrange(keys.flows(shard), 0, -1) if flow.count(":") >= 2]
    providers = sorted({flow.split(":")[1] for flow in flows})
    batches = watch.hkeys(keys.open_batches(shard))
    watch.multi()
    watch.hgetall(keys.counts(shard))
    watch.zcard(keys.deadlines(shard))
    watch.hgetall(keys.open_batches(shard))
    for flow in flows:
        watch.zcard(keys.flow(shard, *flow.split(":", 2)))
    for key in (keys.in_flight, keys.movable):
        for provider in providers:
            watch.zcard(key(shard, provider))
    for batch_id in batches:
        watch.hmget(keys.batch(shard, batch_id), OPEN)
    try:
        counts, deadlines, in_open, *rest = watch.execute()
    except WatchError:
        return None
    sizes = iter(rest)
    return Totals(
        {name: int(number) for name, number in counts.items() if name in COUNTED},
        {name: each.get("open", 0) for name, each in of_tenants(counts).items()},
        {flow: next(sizes) for flow in flows},
        {provider: next(sizes) for provider in providers},
        deadlines,
        {provider: next(sizes) for provider in providers},
        {batch_id: int(number) for batch_id, number in in_open.items()},
        {batch_id: sum(int(number or 0) for number in next(sizes)) for batch_id in batches},
    )


def of_tenants(stored: Any) -> dict[str, dict[str, int]]:
    """Return the numbers of each tenant in the counts of a shard."""
    counts: dict[str, dict[str, int]] = {}
    for name, number in stored.items():
        tenant, _, what = name.partition(" ")
        if what and what != "rate":
            counts.setdefault(tenant, {})[what] = int(number)
    return counts
