"""The sweep: turn due agenda entries into nudges. What makes every lost message cost one second."""

from __future__ import annotations

import socket

from orchestrator.jobs.model import FOLLOW_UPS, Step
from orchestrator.runtime import DAY_MS, Runtime

#: The most jobs one sweep takes from a shard; the rest are due at the next one.
LIMIT = 5000
#: The same for what follows from an outcome: workers drop what they have no room for.
FOLLOW_UPS_LIMIT = 500


def reconcile(runtime: Runtime) -> int:
    """Nudge every job whose next look is due; how many there were. Costs O(due), not O(open).

    Raises:
        LedgerUnavailable: the next sweep finds the same jobs.
    """
    found: dict[Step, list[str]] = {}
    for shard in range(runtime.ledger.shards):
        for job_id, step in runtime.ledger.due(shard, now=runtime.clock(), limit=LIMIT):
            found.setdefault(step, []).append(job_id)
        for step in FOLLOW_UPS:
            found.setdefault(step, []).extend(
                runtime.ledger.follow_ups.due(
                    shard, step, now=runtime.clock(), limit=FOLLOW_UPS_LIMIT
                )
            )
    for step, job_ids in found.items():
        runtime.nudger.nudge(step, job_ids)
    retention = int(runtime.settings.retention_days * DAY_MS)
    runtime.ledger.overview.tidy(oldest=runtime.clock() - retention)
    runtime.ledger.mark_sweep(now=runtime.clock(), host=socket.gethostname())
    return sum(map(len, found.values()))
