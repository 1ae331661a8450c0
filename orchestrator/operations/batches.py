"""Enqueues many jobs as one batch.

The jobs of one call go to the ledger in a few round trips, however many they are. A call that was
interrupted is completed by the same call with the same idempotency key: each job has a key of its
own, which is made from the batch and the index of the job.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator import log, tracing
from orchestrator.delivery.targets import refusals, signing_secrets
from orchestrator.enqueuing import (
    API_SCOPE,
    IdempotencyGone,
    IdempotencyMismatch,
    cancel_unaudited,
    check_created,
    checked_key,
    key_owner,
    known_job,
    queued_job,
)
from orchestrator.job_check import CheckedJob, check_job
from orchestrator.jobs.model import Job, Step
from orchestrator.jobs.request import Receiver
from orchestrator.jobs.tenant import DEFAULT_TENANT, tenant_name
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.jsonio import dump, parse
from orchestrator.ledger import Created, Idempotency, Result, Waiting
from orchestrator.operations.problems import JOB_REFUSED, problem_of
from orchestrator.runtime import Runtime, default_runtime

#: The most jobs that go to the ledger together, and those of one request to the API.
MAX_JOBS = 500
#: No notification.
NOBODY = Receiver()
#: The field of a job in a batch with its own idempotency key.
OWN_KEY = "idempotency_key"


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """What became of one request of a batch: a job, or a problem document.

    Attributes:
        index: of the request, from 0.
        job: the job.
        problem: why there is no job.
        replayed: an earlier call created the job.
        wait: what a new job waits for; None: the ledger must be asked.
    """

    index: int
    job: Job | None = None
    problem: Mapping[str, Any] | None = None
    replayed: bool = False
    wait: Waiting | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A batch in the ledger. `replayed` says that an earlier call completed its request."""

    id: str
    entries: list[BatchEntry]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that jobs may join.

    Attributes:
        id: of the batch.
        tenant: the owner of its jobs.
        scope: the face through which the request came.
        key: the idempotency key of the batch, or None.
        replayed: an earlier call began it.
    """

    id: str
    tenant: str
    scope: str
    key: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Ready:
    """A checked request that may become a job, and the idempotency key of the job."""

    index: int
    job: CheckedJob
    key: Idempotency | None


def enqueue_batch(
    jobs: Iterable[Mapping[str, Any]],
    idempotency_key: str | None = None,
    tenant: str = DEFAULT_TENANT,
    **receiver: str,
) -> BatchResult:
    """Enqueue many jobs as one batch. A bad job does not stop the good ones.

    Args:
        jobs: the fields of each job, as for `enqueue`, also its `idempotency_key`.
        idempotency_key: the same key and jobs return the same batch for 24 hours.
        tenant: the owner of the jobs.
        **receiver: notify_url, notify_task, notify_stream, notify_queue: who gets one notification
            when all jobs have their outcomes.

    Returns:
        The batch, with a job or a problem document for each of `jobs`, in their order.

    Raises:
        InvalidRequest: the receiver or the key is wrong. Nothing was stored.
        IdempotencyMismatch: the key was used with other jobs.
        IdempotencyGone: the batch of the key has expired.
        LedgerUnavailable: Redis is away. Some jobs may exist. Call again with the same key.
        ConfigError: a setting is missing or wrong.
    """
    runtime = default_runtime()
    who = Receiver(**receiver)
    return create_batch(
        runtime, list(jobs), scope="python", tenant=tenant, key=idempotency_key, receiver=who
    )


def create_batch(
    runtime: Runtime,
    jobs: Sequence[Any],
    *,
    scope: str,
    tenant: str = DEFAULT_TENANT,
    key: str | None = None,
    receiver: Receiver = NOBODY,
) -> BatchResult:
    """Create a batch and its jobs, or complete the batch of the same idempotency key.

    Args:
        runtime: of this process.
        jobs: the requests as the caller sent them.
        scope: the face through which the request came.
        tenant: the owner of the jobs.
        key: the idempotency key, or None.
        receiver: who is notified when all jobs have their outcomes.

    Raises:
        InvalidRequest, IdempotencyMismatch, IdempotencyGone, LedgerUnavailable: as for
            enqueue_batch.
    """
    name = "Idempotency-Key" if scope == API_SCOPE else "idempotency_key"
    if key is not None:
        checked_key(key, name)
    content = fingerprint({"jobs": jobs, "receiver": asdict(receiver)})
    batch = open_batch(
        runtime, scope=scope, tenant=tenant, key=key, content=content, receiver=receiver
    )
    if batch.replayed and (answer := runtime.ledger.batches.answer(batch.id)) is not None:
        return _answered(runtime, batch, answer)
    entries: list[BatchEntry] = []
    numbered = list(enumerate(jobs))
    for start in range(0, len(jobs), MAX_JOBS):
        entries += add_jobs(runtime, batch, numbered[start : start + MAX_JOBS])
    return _sealed(runtime, batch, entries)


def open_batch(
    runtime: Runtime,
    *,
    scope: str,
    tenant: str,
    key: str | None,
    content: str,
    receiver: Receiver = NOBODY,
) -> OpenBatch:
    """Begin a batch, or return the batch of the same idempotency key.

    `content` is the fingerprint of everything that the batch is made from.

    Raises:
        InvalidRequest, IdempotencyMismatch, IdempotencyGone, LedgerUnavailable: as for
            enqueue_batch.
    """
    tenant = tenant_name(tenant)
    idempotency = None if key is None else Idempotency(f"{key_owner(scope, tenant)}:batch", key)
    signs = receiver.notify_url is not None and bool(signing_secrets(runtime, tenant))
    violations = tuple(refusals(receiver, runtime.settings, signs=signs))
    # The settings may have changed since the key was used. The key still belongs to its batch.
    if violations and not (idempotency and runtime.ledger.idempotency_keys.find(idempotency)):
        raise InvalidRequest(*violations)
    opened = runtime.ledger.batches.open(
        tenant,
        receiver,
        now=runtime.clock(),
        idempotency=idempotency,
        fingerprint=content,
    )
    if opened.result is Result.MISMATCH:
        raise IdempotencyMismatch()
    if opened.result is Result.GONE:
        raise IdempotencyGone(opened.job_id)
    replayed = opened.result is Result.REPLAYED
    return OpenBatch(opened.job_id, tenant, scope, key, replayed)


def add_jobs(
    runtime: Runtime, batch: OpenBatch, requests: Sequence[tuple[int, Any]]
) -> list[BatchEntry]:
    """Create the jobs of some requests in a batch, in a few round trips, and nudge them.

    Args:
        runtime: of this process.
        batch: the batch.
        requests: the index of each request, and the request as the caller sent it.

    Raises:
        LedgerUnavailable: Redis is away. Some of the jobs may exist.
    """
    entries: dict[int, BatchEntry] = {}
    ready: list[_Ready] = []
    for index, request in requests:
        try:
            checked = _checked(runtime, batch, index, request)
        except JOB_REFUSED as error:
            entries[index] = BatchEntry(index, problem=problem_of(error))
            continue
        if isinstance(checked, Job):
            entries[index] = BatchEntry(index, checked, replayed=True)
        else:
            ready.append(checked)
    for entry in _stored(runtime, batch, ready):
        entries[entry.index] = entry
    return [entries[index] for index, _ in requests]


def seal_batch(runtime: Runtime, batch: OpenBatch, answer: str = "") -> bool:
    """Record that no further job joins a batch. Return False if it was recorded before.

    `answer` is what the same request is answered again.
    """
    result = runtime.ledger.batches.seal(batch.id, answer, now=runtime.clock())
    runtime.nudger.nudge(Step.BATCH, [batch.id])
    return result is Result.RECORDED


def fingerprint(value: Any) -> str:
    """Return a hash of JSON data. It does not depend on the order of the fields."""
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_request(runtime: Runtime, tenant: str, request: Any) -> None:
    """Check a request for a batch. Nothing is stored.

    Raises:
        InvalidRequest: with every violation.
    """
    check_job(runtime, _own_key(request)[1], tenant)


def _own_key(request: Any) -> tuple[str | None, Any]:
    """Return the own idempotency key of a request, and the request without it.

    Raises:
        InvalidRequest: it cannot be a key.
    """
    if not isinstance(request, Mapping) or OWN_KEY not in request:
        return None, request
    rest = {name: value for name, value in request.items() if name != OWN_KEY}
    return checked_key(request[OWN_KEY], OWN_KEY), rest


def _checked(runtime: Runtime, batch: OpenBatch, index: int, request: Any) -> _Ready | Job:
    """Return a checked request with its idempotency key, or the job that its own key has already.

    Raises:
        InvalidRequest, IdempotencyMismatch, IdempotencyGone: there is no job.
    """
    key, request = _own_key(request)
    own = None if key is None else Idempotency(key_owner(batch.scope, batch.tenant), key)
    try:
        job = check_job(runtime, request, batch.tenant)
    except InvalidRequest:
        # The settings may have changed since the key was used. The key still belongs to its job.
        earlier = own and known_job(runtime, own, request, None)
        if not earlier:
            raise
        return earlier
    if own is None and batch.key is not None:
        own = Idempotency(batch.id, str(index), shown=batch.key)
    return _Ready(index, job, own)


def _stored(runtime: Runtime, batch: OpenBatch, ready: Sequence[_Ready]) -> list[BatchEntry]:
    """Create jobs in the ledger, and nudge the new ones."""
    if not ready:
        return []
    now = runtime.clock()
    jobs = [each.job.new_job(runtime, now, each.key, batch=batch.id) for each in ready]
    attributes = {
        "messaging.operation.type": "create",
        "messaging.message.conversation_id": batch.id,
        "messaging.batch.message_count": len(jobs),
    }
    with tracing.span("create jobs", "producer", attributes):
        created = runtime.ledger.batches.create_jobs(jobs, now=now)
        new: dict[str, list[str]] = {}
        for each, made in zip(ready, created, strict=True):
            if made.result is Result.CREATED:
                new.setdefault(each.job.request.provider, []).append(made.job_id)
        for provider, job_ids in new.items():
            runtime.nudger.nudge(Step.SUBMIT, job_ids, provider)
    again = [made.job_id for made in created if made.result is Result.REPLAYED]
    known = runtime.ledger.overview.jobs(again) if again else {}
    for made, job in zip(created, jobs, strict=True):
        if made.result is Result.CREATED:
            known[made.job_id] = queued_job(made.job_id, job, now)
    return [_entry(each, made, known) for each, made in zip(ready, created, strict=True)]


def _entry(ready: _Ready, made: Created, known: Mapping[str, Job]) -> BatchEntry:
    """Return what became of a request. `known` has the jobs that exist."""
    try:
        check_created(made, ready.job.limits, ready.job.request.provider)
        if made.job_id not in known:  # it has expired since
            raise IdempotencyGone(made.job_id)
    except JOB_REFUSED as error:
        return BatchEntry(ready.index, problem=problem_of(error))
    replayed = made.result is Result.REPLAYED
    return BatchEntry(ready.index, known[made.job_id], replayed=replayed, wait=made.wait)


def _sealed(runtime: Runtime, batch: OpenBatch, entries: list[BatchEntry]) -> BatchResult:
    answer = dump([entry.job.id if entry.job else entry.problem for entry in entries]).decode()
    first = seal_batch(runtime, batch, answer if batch.key is not None else "")
    made = sum(entry.job is not None for entry in entries)
    log.get().info("batch_created", batch=batch.id, jobs=made, problems=len(entries) - made)
    if not first and (stored := runtime.ledger.batches.answer(batch.id)) is not None:
        # The same request at the same time was faster, and its caller got this answer.
        answered = _answered(runtime, batch, stored)
        _cancel_unanswered(runtime, entries, answered.entries)
        return answered
    return BatchResult(batch.id, entries)


def _cancel_unanswered(
    runtime: Runtime, made: Sequence[BatchEntry], answered: Sequence[BatchEntry]
) -> None:
    """Cancel the new jobs of entries that were answered with a problem, such as a limit.

    The caller sends these entries again under another key, and would pay twice.
    """
    for entry, answer in zip(made, answered, strict=True):
        if entry.job and not entry.replayed and not answer.job:
            result = cancel_unaudited(runtime, entry.job.id)
            log.get().warning("batch_job_unanswered", job=entry.job.id, result=result)


def _answered(runtime: Runtime, batch: OpenBatch, answer: str) -> BatchResult:
    """Return what the request was answered before, with the jobs as they are now."""
    stored: list[Any] = parse(answer)
    jobs = runtime.ledger.overview.jobs([each for each in stored if isinstance(each, str)])
    entries = []
    for index, each in enumerate(stored):
        if not isinstance(each, str):
            entries.append(BatchEntry(index, problem=each))
        elif each in jobs:
            entries.append(BatchEntry(index, jobs[each], replayed=True))
        else:
            entries.append(BatchEntry(index, problem=problem_of(IdempotencyGone(each))))
    return BatchResult(batch.id, entries, replayed=True)
