"""From an enqueue message of another service to its job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from orchestrator import log, tracing
from orchestrator.enqueuing import (
    CELERY_SCOPE,
    IdempotencyGone,
    IdempotencyMismatch,
    TenantLimitReached,
    create_job,
)
from orchestrator.job_check import check_job
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jsonio import NotJson, dump, dump_any, parse, rfc3339
from orchestrator.ledger import LedgerUnavailable, UnreadableJob
from orchestrator.providers import PROVIDERS
from orchestrator.runtime import Runtime

#: Shortest and longest wait until the messages of a flow are tried again. Seconds.
MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 30.0
#: Flows of a round, and messages of each of them.
MAX_FLOWS, MAX_MESSAGES = 100, 100


@dataclass(frozen=True, slots=True)
class EnqueueMessage:
    """A message. Its repr leaves out the request, which holds a prompt.

    Attributes:
        id: of the message. It is the idempotency key of the job.
        request: the keyword arguments: the fields of the job, and `tenant`.
        unnamed: other arguments, which are refused.
        trace: the headers of its W3C context.
        expires_at: its sender wants no job from then on, ms; None: always.
    """

    id: str
    request: Mapping[str, Any] = field(repr=False)
    unnamed: Sequence[Any] = field(repr=False)
    trace: Mapping[str, str]
    expires_at: int | None = None

    @property
    def flow(self) -> str | None:
        """The flow in which it waits; None if its tenant or its provider cannot be right."""
        provider = self.request.get("provider")
        try:
            tenant = tenant_name(self.request.get("tenant"))
        except InvalidRequest:
            return None
        known = isinstance(provider, str) and provider in PROVIDERS
        return f"{tenant} {provider}" if known else None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the job."""
        return {name: value for name, value in self.request.items() if name != "tenant"}

    def stored(self) -> str:
        """Return the message as text for `read`.

        Raises:
            TypeError: JSON cannot hold it. No valid request is like that.
        """
        return dump({name: getattr(self, name) for name in self.__slots__}).decode()

    @classmethod
    def read(cls, stored: str) -> Self:
        """Return a message from its text.

        Raises:
            NotJson, TypeError: a message of this version has another form.
        """
        return cls(**parse(stored))


def take_message(runtime: Runtime, message: EnqueueMessage) -> None:
    """Create the job of a message, or keep the message while its tenant has reached a limit.

    A message waits behind older ones of its flow. A bad one is logged and added to the rejected
    messages. The call can be repeated.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    flow, waiting, now = message.flow, runtime.ledger.waiting_messages, runtime.clock()
    due_at = now
    if flow is None or not waiting.has(flow):
        try:
            _create(runtime, message)
            return
        except TenantLimitReached as error:
            flow, due_at = str(message.flow), now + _wait_ms(error)
            log.get().info("enqueue_waits", message_id=message.id, reason=str(error))
    try:
        stored = message.stored()
    except TypeError as error:
        reject_message(runtime, message, f"JSON cannot hold it: {error}")
        return
    waiting.add(flow, stored, now=now, due_at=due_at)


def take_waiting(runtime: Runtime) -> int:
    """Create the jobs of waiting messages whose tenants may have them now. Return their number.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    flows = runtime.ledger.waiting_messages.due(now=runtime.clock(), limit=MAX_FLOWS)
    return sum(_take_flow(runtime, flow) for flow in flows)


def _take_flow(runtime: Runtime, flow: str) -> int:
    """Create the jobs of one flow until a limit is reached. Return their number."""
    waiting, taken = runtime.ledger.waiting_messages, 0
    # Another process leaves the flow alone meanwhile, and an error here does not stop the others.
    waiting.later(flow, due_at=runtime.clock() + int(MAX_WAIT_SECONDS * 1000))
    while taken < MAX_MESSAGES and (stored := waiting.oldest(flow)) is not None:
        try:
            _create_stored(runtime, stored)
        except TenantLimitReached as error:
            waiting.later(flow, due_at=runtime.clock() + _wait_ms(error))
            return taken
        waiting.done(flow, stored)
        taken += 1
    waiting.later(flow, due_at=runtime.clock())
    return taken


def _wait_ms(error: TenantLimitReached) -> int:
    return int(min(max(error.retry_after, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS) * 1000)


def _create_stored(runtime: Runtime, stored: str) -> None:
    """Create the job of a message that waited, or reject it. Raises the errors of `_create`."""
    try:
        message = EnqueueMessage.read(stored)
    except (NotJson, TypeError) as error:
        # Rejected messages may be read, so nothing of this one is lost.
        log.get().error("enqueue_refused", reason=f"another version kept it: {error}")
        _keep(runtime, f"another version kept it: {error}", stored.encode())
        return
    _create(runtime, message)


def _create(runtime: Runtime, message: EnqueueMessage) -> None:
    """Create the job, or reject the message.

    Raises:
        TenantLimitReached: the tenant may have no further job now.
        LedgerUnavailable: Redis is away.
    """
    if message.expires_at is not None and runtime.clock() >= message.expires_at:
        reject_message(runtime, message, f"it expired at {rfc3339(message.expires_at)}")
        return
    try:
        if message.unnamed:
            raise InvalidRequest(
                Violation("args", list(message.unnamed), "left out; use keyword arguments")
            )
        tenant = tenant_name(message.request.get("tenant"))
        with tracing.continued(message.trace.get):
            create_job(runtime, message.fields, scope=CELERY_SCOPE, tenant=tenant, key=message.id)
    except TenantLimitReached as error:
        if error.limit != "daily_budget" or _fits_budget(runtime, message.fields, tenant):
            raise
        reject_message(runtime, message, f"{error}. The job alone costs more than that")
    except (InvalidRequest, IdempotencyMismatch, IdempotencyGone) as error:
        reject_message(runtime, message, str(error))
    except UnreadableJob as error:  # a repeated message: its job exists, and keeps the request
        log.get().warning("enqueue_repeated", message_id=message.id, reason=str(error))
    except LedgerUnavailable:
        raise
    except Exception as error:  # noqa: BLE001  # of a plug-in. The message is the only record.
        log.get().exception("enqueue_crashed", message_id=message.id)
        reject_message(runtime, message, f"an unexpected {type(error).__name__}")


def _fits_budget(runtime: Runtime, fields: Mapping[str, Any], tenant: str) -> bool:
    """Return whether a shard's part of a day's budget is enough for the job."""
    job = check_job(runtime, fields, tenant)
    provider = job.request.provider
    budget, cost = job.limits.daily_budgets.get(provider), job.reserve.get(provider)
    return not (budget and cost) or budget.allows(cost.amount, shards=runtime.settings.shards)


def reject_message(runtime: Runtime, message: EnqueueMessage, reason: str) -> None:
    """Log a message, and add it to the rejected messages.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    log.get().error("enqueue_refused", message_id=message.id, reason=reason)
    body = {"id": message.id, "args": message.unnamed, "kwargs": message.request}
    _keep(runtime, reason, dump_any(body))


def _keep(runtime: Runtime, reason: str, body: bytes) -> None:
    runtime.ledger.rejected.keep("enqueue", now=runtime.clock(), reason=reason, body=body)
