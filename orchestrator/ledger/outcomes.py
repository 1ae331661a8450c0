"""Waiting for the outcome of a job."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from redis import Redis

from orchestrator.jobs.model import Job
from orchestrator.ledger import keys
from orchestrator.ledger.connection import ANSWER_TIMEOUT, listener


class Outcomes:
    """Waits until jobs are terminal.

    Args:
        client: returns the client of this thread.
        get: returns a job of the ledger.
    """

    def __init__(
        self,
        client: Callable[[], AbstractContextManager[Redis]],
        get: Callable[[str], Job | None],
    ) -> None:
        self._redis = client
        self._get = get

    def wait(self, job_id: str, timeout: float) -> Job | None:
        """Wait until a job is terminal, at most `timeout` seconds. Return the job, or None.

        The wait uses its own connection.
        """
        if not keys.is_job_id(job_id):
            return None
        with self._redis() as client, listener(client) as channel:
            channel.subscribe(keys.settled(job_id))
            channel.get_message(timeout=ANSWER_TIMEOUT)  # the subscription is active now
            job = self._get(job_id)
            if job is None or job.status.terminal:
                return job
            channel.get_message(ignore_subscribe_messages=True, timeout=timeout)
        return self._get(job_id)
