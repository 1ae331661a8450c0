"""Files of callers. Each is kept beside its job until its provider has it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from redis import Redis

from orchestrator.ledger import keys
from orchestrator.ledger.results import Created, Result

#: A file is kept for this time after the deadline of its job.
UPLOAD_MARGIN_MS = 3_600_000


class Uploads:
    """The files of all jobs.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client

    def keep(self, job_id: str, content: bytes, *, deadline_ms: int) -> None:
        """Store the file of a job. `deadline_ms` is the time until the deadline of the job."""
        with self._redis() as client:
            client.set(keys.upload(job_id), content, px=deadline_ms + UPLOAD_MARGIN_MS)

    def create_with(
        self, job_id: str, content: bytes | None, deadline_ms: int, create: Callable[[], Created]
    ) -> Created:
        """Create a job after its file, so that no job lacks its file. None is no file."""
        if content is None:
            return create()
        self.keep(job_id, content, deadline_ms=deadline_ms)
        created = create()
        if created.result is not Result.CREATED:
            self.drop(job_id)
        return created

    def get(self, job_id: str) -> bytes | None:
        """Return the file of a job, or None when it is deleted."""
        with self._redis() as client:
            content: bytes | None = client.execute_command(
                "GET", keys.upload(job_id), NEVER_DECODE=True
            )
        return content

    def drop(self, job_id: str) -> None:
        """Delete the file of a job, because it will not be sent any more."""
        with self._redis() as client:
            client.delete(keys.upload(job_id))
