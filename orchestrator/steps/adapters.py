"""Calls to adapters from steps. Whatever an adapter raises becomes an answer that a step knows.

A plug-in's adapter comes from another package. An error in it must not keep a job open for ever.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator import log
from orchestrator.callbacks.address import CallbackAddress
from orchestrator.jobs.model import ErrorCode, Job, JobError
from orchestrator.net.http_types import Call, File, Reply
from orchestrator.providers.base import Provider
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    TaskNotFound,
    TaskReport,
)
from orchestrator.runtime import Runtime
from orchestrator.step_loop import in_thread


def submit_call(runtime: Runtime, provider: Provider, job: Job) -> Call | Rejected:
    """Return the call that submits a job's attempt, or why there is none.

    Raises:
        LedgerUnavailable: the job has a file, and Redis is away.
    """
    number = job.attempt.number
    address = CallbackAddress(provider.name, job.id, number)
    url = address.url(runtime.settings) if runtime.calls_back(provider) else None
    try:
        call = provider.submit_call(
            provider.body(job.request.at(provider.name)), url, f"{job.id}.{number}"
        )
    except Exception as error:
        return Rejected(_fault(provider, job, error))
    if job.request.upload is None:
        return call
    content = in_thread(runtime.ledger.uploads.get, job.id)
    field = provider.capabilities.upload_field
    if content is None or field is None:
        return Rejected(JobError(ErrorCode.INVALID_REQUEST, "the file of the job is gone"))
    upload = job.request.upload
    return replace(call, file=File(field, upload.name, upload.content_type, content))


def read_submit(provider: Provider, job: Job, reply: Reply) -> Accepted | Rejected | Ambiguous:
    """Return the meaning of the answer to a submission."""
    try:
        return provider.read_submit(reply)
    except Exception as error:
        return Ambiguous(_fault(provider, job, error).message)


def own_model(provider: Provider, job: Job) -> str | QueryFailed:
    """Return the provider's own name of the job's model, or why there is none."""
    try:
        return str(provider.body(job.request.at(provider.name)).get("model"))
    except Exception as error:
        return QueryFailed(_fault(provider, job, error))


def query_call(provider: Provider, job: Job, task_id: str, model: str) -> Call | QueryFailed:
    """Return the call that queries a task of a model, or why there is none."""
    try:
        return provider.model_query_call(task_id, model)
    except Exception as error:
        return QueryFailed(_fault(provider, job, error))


def read_query(
    provider: Provider, job: Job, reply: Reply, now: int
) -> TaskReport | TaskNotFound | QueryFailed:
    """Return the meaning of the answer to a query; `now` in ms."""
    try:
        return provider.read_query(reply, now)
    except Exception as error:
        return QueryFailed(_fault(provider, job, error))


def result_call(
    provider: Provider, job: Job, task_id: str, model: str, reply: Reply
) -> Call | QueryFailed | None:
    """Return the second call for the result of a task, None without one, or why it fails."""
    try:
        return provider.result_call(task_id, model, reply)
    except Exception as error:
        return QueryFailed(_fault(provider, job, error))


def read_result(
    provider: Provider, job: Job, task_id: str, reply: Reply, now: int
) -> TaskReport | TaskNotFound | QueryFailed:
    """Return the meaning of the answer to the second call; `now` in ms."""
    try:
        return provider.read_result(task_id, reply, now)
    except Exception as error:
        return QueryFailed(_fault(provider, job, error))


def _fault(provider: Provider, job: Job, error: Exception) -> JobError:
    log.get().exception("adapter_failed", job=job.id, provider=provider.name)
    kind = type(error).__name__
    return JobError(ErrorCode.UNKNOWN, f"the adapter of {provider.title} raised {kind}")
