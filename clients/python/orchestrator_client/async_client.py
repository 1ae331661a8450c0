"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from os import PathLike
from pathlib import Path
from typing import Self, TypeVar, Unpack

import httpx

from orchestrator_client import operations
from orchestrator_client.calls import Call, Calls, DiskWork, Operation
from orchestrator_client.connection import (
    ANSWER_SECONDS,
    CHUNK_BYTES,
    MAX_RETRIES,
    options,
    request_options,
)
from orchestrator_client.errors import WaitTimeout
from orchestrator_client.models import Batch, BatchResult, Job, JobPage, Quote
from orchestrator_client.requests import BatchJobRequest, JobFilter, JobRequest, Receiver

Result = TypeVar("Result")


class AsyncClient:
    """Calls an image orchestrator. Use it in an `async with` block, or call `close`.

    Args:
        base_url: the URL of the orchestrator, such as https://images.example.com.
        api_key: an API key of a tenant.
        timeout: the time for an answer. Seconds.
        max_retries: repetitions of a call that is safe to repeat.
        transport: how requests are sent; None uses the network.

    Raises:
        ValueError: an argument is wrong.

    Every call may raise ApiError, if the API refuses it, or ConnectionFailed, if no answer comes. A
    call that changes something is repeated by itself only with an idempotency key, or when it
    certainly did not arrive.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout: float = ANSWER_SECONDS,
        max_retries: int = MAX_RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**options(base_url, api_key, timeout), transport=transport)
        self._calls = Calls(max_retries)
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._http.base_url)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def enqueue(
        self,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        image_file: PathLike[str] | str | bytes | None = None,
        **request: Unpack[JobRequest],
    ) -> Job:
        """Enqueue a job. Return it at once, without its outcome.

        Args:
            idempotency_key: the same key and request give the same job, for as long as it is kept.
                Choose one that your own data names, such as an order, and you can repeat the call
                after a crash. Without it, a new one protects the repetitions of this call only.
            tenant: the owner; only administrators may name another one than their own.
            image_file: a reference image, as a path or as bytes.
            request: the fields of the job.

        Raises:
            InvalidRequest: the request is wrong.
            IdempotencyMismatch: the key was used for another request.
            LimitReached: a limit of the tenant is reached.
        """
        file = image_file if isinstance(image_file, bytes | None) else Path(image_file)
        return await self._run(
            operations.enqueue(
                self._calls, request, key=idempotency_key, tenant=tenant, image_file=file
            )
        )

    async def quote(self, *, tenant: str | None = None, **request: Unpack[JobRequest]) -> Quote:
        """Say what a job would cost, and why it would be refused. Nothing is created.

        Args:
            tenant: the owner; only administrators may name another one than their own.
            request: the fields of the job.
        """
        return await self._run(operations.get_quote(self._calls, request, tenant))

    async def get(self, job_id: str) -> Job:
        """Return a job as it is now.

        Raises:
            NotFound: there is no such job.
        """
        return await self._run(operations.get(self._calls, job_id))

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Return a job when it has its outcome, also when it failed.

        Args:
            job_id: the job.
            timeout: the longest wait, in seconds; None waits for the outcome, which comes at the
                latest at the deadline of the job.

        Raises:
            WaitTimeout: there is no outcome in this time.
        """
        job = await self._run(operations.wait(self._calls, job_id, timeout))
        if not job.done:
            raise WaitTimeout(job)
        return job

    async def list(
        self, *, page_size: int | None = None, **chosen: Unpack[JobFilter]
    ) -> AsyncIterator[Job]:
        """Yield the jobs that match, newest first. Pages are read as they are needed.

        Args:
            page_size: jobs of one page, up to 200.
            chosen: filters; all must match.
        """
        cursor: str | None = None
        while True:
            page = await self.list_page(cursor=cursor, page_size=page_size, **chosen)
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def list_page(
        self,
        *,
        cursor: str | None = None,
        page_size: int | None = None,
        **chosen: Unpack[JobFilter],
    ) -> JobPage:
        """Return one page of the jobs that match. `cursor` is `next_cursor` of the page before."""
        return await self._run(operations.page(self._calls, chosen, cursor, page_size))

    async def batch(
        self,
        jobs: Iterable[BatchJobRequest],
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        **receiver: Unpack[Receiver],
    ) -> BatchResult:
        """Enqueue up to 500 jobs as one batch. A bad request does not stop the good ones.

        Args:
            jobs: the requests.
            idempotency_key: the same key and requests give the same batch, for 24 hours.
            tenant: the owner; only administrators may name another one than their own.
            receiver: who is notified when every job has its outcome.
        """
        return await self._run(
            operations.batch(self._calls, jobs, receiver, key=idempotency_key, tenant=tenant)
        )

    async def get_batch(self, batch_id: str) -> Batch:
        """Return a batch as it is now.

        Raises:
            NotFound: there is no such batch.
        """
        return await self._run(operations.get_batch(self._calls, batch_id))

    async def wait_batch(self, batch_id: str, timeout: float | None = None) -> Batch:
        """Return a batch when every job has its outcome, or as it is after `timeout` seconds."""
        return await self._run(operations.wait_batch(self._calls, batch_id, timeout))

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job that was not sent to its provider.

        Raises:
            Conflict: it was sent, or it has its outcome.
        """
        return await self._run(operations.cancel(self._calls, job_id))

    async def retry(self, job_id: str, *, accept_risk: bool = False) -> Job:
        """Enqueue the request of a failed or cancelled job again, once. Return the new job.

        Args:
            job_id: the job.
            accept_risk: retry although the first job may have been charged.

        Raises:
            Conflict: it has not failed, or it may have been charged.
        """
        return await self._run(operations.retry(self._calls, job_id, accept_risk=accept_risk))

    async def download(self, job: Job | str, to: PathLike[str] | str, *, index: int = 0) -> Path:
        """Write an image to a file. The file appears when it is complete.

        Args:
            job: a job, or its id. With a job, the bytes are compared with its `sha256`.
            to: the file; another one of this name is replaced.
            index: the number of the image, from 0.

        Raises:
            NotFound: there is no such image.
            Gone: the image could not be archived.
            DownloadFailed: the bytes are not those of the archive.
            OSError: the file cannot be written.
        """
        return await self._run(operations.download(self._calls, job, Path(to), index))

    async def _run(self, operation: Operation[Result]) -> Result:
        """Run an operation to its end."""
        try:
            wanted = next(operation)
            while True:
                received = None
                try:
                    if isinstance(wanted, Call):
                        received = await self._send(wanted)
                    elif isinstance(wanted, DiskWork):
                        received = await asyncio.to_thread(wanted.action)
                    else:
                        await asyncio.sleep(wanted.seconds)
                except httpx.RequestError as error:
                    wanted = operation.throw(error)
                else:
                    wanted = operation.send(received)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            operation.close()

    async def _send(self, call: Call) -> httpx.Response:
        sending = request_options(call, self._timeout)
        if call.sink is None:
            return await self._http.request(call.method, call.path, **sending)
        call.sink.seek(0)
        call.sink.truncate()
        follow = sending.pop("follow_redirects")
        request = self._http.build_request(call.method, call.path, **sending)
        response = await self._http.send(request, stream=True, follow_redirects=follow)
        try:
            if not response.is_success:
                await response.aread()
                return response
            async for chunk in response.aiter_bytes(CHUNK_BYTES):
                call.sink.write(chunk)
            return response
        finally:
            await response.aclose()
