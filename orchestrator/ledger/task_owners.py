"""Which job has a provider task, over all shards.

The scripts prevent that two jobs of one shard have one task. All keys of a script are in one slot
of a cluster. So with several shards a task is claimed before it is bound. The key of the claim has
a slot of its own. With one shard there is no claim.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from redis import Redis

from orchestrator.ledger import keys
from orchestrator.ledger.results import Result, Settlement

#: How long a claim is kept after the script has bound the task. The scripts have the same number
#: for the jobs of one shard. ms.
TASK_OWNER_MS = 30 * 86_400_000
#: How long a claim is kept until then. It blocks the task if the process dies in between. ms.
CLAIM_MS = 60_000


class TaskOwners:
    """The claims of provider tasks.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client

    def bind(
        self, job_id: str, attempt: int, task_id: str, run: Callable[[], Settlement]
    ) -> Settlement:
        """Claim a task for a job, and run a script that may bind it.

        A process may die at any line. A claim names its job, so the job may claim again. A claim is
        released when the script refuses the task.

        Returns:
            The result of the script, or MISMATCH when another job has the task.
        """
        with self._redis() as client:
            names: Any = client.hmget(keys.job(job_id), f"provider.{attempt}", "provider")
            owner = keys.task_owner(names[0] or names[1] or "", task_id)
            known: Any = client.set(owner, job_id, nx=True, get=True, px=CLAIM_MS)
        if known not in (None, job_id):
            return Settlement(Result.MISMATCH)
        settlement = run()
        refused = settlement.result in (Result.MISMATCH, Result.MISSING)
        with self._redis() as client:
            if not refused:
                client.set(owner, job_id, px=TASK_OWNER_MS)
            elif known is None:
                client.delete(owner)
        return settlement
