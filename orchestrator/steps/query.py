"""Queries a provider task, and plans the next query."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.backoff import asked_wait, back_off, running_wait
from orchestrator.jobs.model import Attempt, ErrorCode, Job, JobError, Step
from orchestrator.metrics.labels import CallKind
from orchestrator.net.http_types import Call, Reply
from orchestrator.providers import Provider
from orchestrator.providers.responses import QueryFailed, TaskReport
from orchestrator.runtime import Runtime
from orchestrator.steps import adapters
from orchestrator.steps.evidence import Reading
from orchestrator.steps.pause import pause_after
from orchestrator.steps.submit import call_ms, lease_ms

#: The wait between queries of a provider that is switched off. Seconds.
SWITCHED_OFF_SECONDS = 60.0


def query_lease_ms(runtime: Runtime) -> int:
    """Return the lease of a step with one query, ms. A query may take two calls."""
    enabled = (runtime.providers[name] for name in runtime.settings.providers)
    has_second_call = any(type(each).result_call is not Provider.result_call for each in enabled)
    return lease_ms(runtime) + (call_ms(runtime) if has_second_call else 0)


def query_task(runtime: Runtime, job: Job, attempt: Attempt) -> Reading:
    """Query the task of an attempt. An answer about another task is a failed query."""
    name = job.provider_of(attempt.number)
    enabled, task_id = runtime.enabled_provider(name), attempt.task_id
    if enabled is None or task_id is None:
        reason = f"{name} is switched off, because its API key is not set"
        error = JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason, retryable=True)
        return QueryFailed(error, SWITCHED_OFF_SECONDS)
    provider, settings = enabled

    def ask(call: Call) -> Reply | QueryFailed:
        answer = runtime.call_provider(provider, call, settings, kind=CallKind.QUERY)
        if isinstance(answer, Reply):
            return answer
        return QueryFailed(JobError(ErrorCode.PROVIDER_UNAVAILABLE, answer.reason, retryable=True))

    reading = _reading(runtime, provider, job, task_id, ask)
    if isinstance(reading, TaskReport) and reading.task_id != task_id:
        message = f"queried {task_id}, but the answer is about {reading.task_id}"
        return QueryFailed(JobError(ErrorCode.UNKNOWN, message))
    return reading


def _reading(
    runtime: Runtime,
    provider: Provider,
    job: Job,
    task_id: str,
    ask: Callable[[Call], Reply | QueryFailed],
) -> Reading:
    """Query a task, and then its result if that has an address of its own."""
    model = adapters.own_model(provider, job)
    if isinstance(model, QueryFailed):
        return model
    call = adapters.query_call(provider, job, task_id, model)
    answer = ask(call) if isinstance(call, Call) else call
    if isinstance(answer, QueryFailed):
        return answer
    second = adapters.result_call(provider, job, task_id, model, answer)
    if second is None:
        return adapters.read_query(provider, job, answer, runtime.clock())
    result = ask(second) if isinstance(second, Call) else second
    if isinstance(result, QueryFailed):
        return result
    return adapters.read_result(provider, job, task_id, result, runtime.clock())


def is_running(reading: Reading) -> bool:
    """Return whether the answer shows that the task still runs."""
    if not isinstance(reading, TaskReport):
        return False
    return reading.outcome is None and reading.thin_success is None


def next_query_wait(
    runtime: Runtime, provider: str, reading: Reading, tries: int, *, elapsed: float = 0.0
) -> float:
    """Return the wait until the next query, seconds. It pauses the provider if the answer asks so.

    Args:
        runtime: of this process.
        provider: of the task.
        reading: the answer to the last query.
        tries: the number of queries before it that changed nothing.
        elapsed: the time since the submission, seconds.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    settings = runtime.settings.providers.get(provider)
    first = settings.poll_seconds if settings else SWITCHED_OFF_SECONDS
    longest = settings.max_poll_seconds if settings else SWITCHED_OFF_SECONDS
    if is_running(reading):
        return running_wait(elapsed, first, longest, runtime.random)
    wait = back_off(max(tries, 0), first, longest, runtime.random)
    if isinstance(reading, QueryFailed):
        wait = asked_wait(wait, reading.retry_after, runtime.random)
        if settings:  # a process without the API key pauses nothing for the others
            pause_after(runtime, provider, Step.POLL, reading, wait)
    return wait
