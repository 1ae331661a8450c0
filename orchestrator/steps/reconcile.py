"""The sweep: nudge every due job.

A sweep runs once a second, so a lost message delays a job by at most one second.
"""

from __future__ import annotations

import socket

from orchestrator.jobs.model import FOLLOW_UPS, Step
from orchestrator.runtime import DAY_MS, Runtime

#: The most open jobs that one sweep nudges per shard. The next sweep nudges the rest.
MAX_JOBS = 5000
#: The most follow-ups that one sweep nudges per shard. Workers drop what they have no room for.
MAX_FOLLOW_UPS = 500
#: Without a finished sweep for this long, no worker or no beat runs. Seconds.
SWEEP_STALE_SECONDS = 60


def reconcile(runtime: Runtime) -> int:
    """Nudge every due job, and return their number. The cost is O(due), not O(open).

    Raises:
        LedgerUnavailable: the next sweep finds the same jobs.
    """
    due: dict[Step, list[str]] = {}
    for shard in range(runtime.ledger.shards):
        for job_id, step in runtime.ledger.due(shard, now=runtime.clock(), limit=MAX_JOBS):
            due.setdefault(step, []).append(job_id)
        for step in FOLLOW_UPS:
            due.setdefault(step, []).extend(
                runtime.ledger.follow_ups.due(
                    shard, step, now=runtime.clock(), limit=MAX_FOLLOW_UPS
                )
            )
    for step, job_ids in due.items():
        runtime.nudger.nudge(step, job_ids)
    retention = int(runtime.settings.retention_days * DAY_MS)
    runtime.ledger.overview.tidy(oldest=runtime.clock() - retention)
    runtime.ledger.mark_sweep(now=runtime.clock(), host=socket.gethostname())
    return sum(map(len, due.values()))
