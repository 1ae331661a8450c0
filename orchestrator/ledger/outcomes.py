"""Waiting for the outcome of a job, or for the completion of a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

from redis import Redis

from orchestrator.jobs.batch import Batch
from orchestrator.jobs.model import Job
from orchestrator.ledger import identifiers, keys
from orchestrator.ledger.connection import ANSWER_TIMEOUT, listener
from orchestrator.ledger.subscription import Subscription

T = TypeVar("T")


class Outcomes:
    """Waits until jobs are terminal, or batches completed.

    Args:
        client: returns the client of this thread.
        get: returns a job of the ledger.
        get_batch: returns a batch of the ledger.
    """

    def __init__(
        self,
        client: Callable[[], AbstractContextManager[Redis]],
        get: Callable[[str], Job | None],
        get_batch: Callable[[str], Batch | None],
    ) -> None:
        self._redis = client
        self._get = get
        self._get_batch = get_batch

    def wait(self, job_id: str, timeout: float) -> Job | None:
        """Wait until a job is terminal, at most `timeout` seconds. Return the job, or None.

        The wait uses its own connection.
        """
        if not identifiers.is_job_id(job_id):
            return None
        return self._wait(job_id, partial(self._get, job_id), lambda j: j.status.terminal, timeout)

    def wait_for_batch(self, batch_id: str, timeout: float) -> Batch | None:
        """Wait until a batch is completed, as `wait` does for a job."""
        if not identifiers.is_batch_id(batch_id):
            return None
        read = partial(self._get_batch, batch_id)
        return self._wait(batch_id, read, lambda batch: batch.complete, timeout)

    def _wait(
        self, id_: str, read: Callable[[], T | None], ended: Callable[[T], bool], timeout: float
    ) -> T | None:
        with self._redis() as client, listener(client) as channel:
            channel.subscribe(keys.settled(id_))
            channel.get_message(timeout=ANSWER_TIMEOUT)  # the subscription is active now
            known = read()
            if known is None or ended(known):
                return known
            channel.get_message(ignore_subscribe_messages=True, timeout=timeout)
        return read()

    def subscription(self, changed: Callable[[str], None]) -> Subscription:
        """Return a subscription to any number of channels. See its class for `changed`."""
        return Subscription(self._redis, changed)
