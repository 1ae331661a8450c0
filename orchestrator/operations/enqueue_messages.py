"""From an enqueue message of another service to its job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator import log, tracing
from orchestrator.enqueue import (
    CELERY_SCOPE,
    IdempotencyGone,
    IdempotencyMismatch,
    TenantLimitReached,
    create_job,
)
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jsonio import dump, parse
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
    """

    id: str
    request: Mapping[str, Any] = field(repr=False)
    unnamed: Sequence[Any] = field(repr=False)
    trace: Mapping[str, str]

    @property
    def flow(self) -> str | None:
        """The flow in which it waits; None if its tenant or its provider cannot be right."""
        provider = self.request.get("provider")
        try:
            tenant = tenant_name(self.request.get("tenant"))
        except InvalidRequest:
            return None
        return f"{tenant} {provider}" if provider in PROVIDERS else None


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
    waiting.add(flow, dump(asdict(message)).decode(), now=now, due_at=due_at)


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
    for text in waiting.oldest(flow, MAX_MESSAGES):
        try:
            _create(runtime, EnqueueMessage(**parse(text)))
        except TenantLimitReached as error:
            waiting.later(flow, due_at=runtime.clock() + _wait_ms(error))
            return taken
        waiting.done(flow, text)
        taken += 1
    waiting.later(flow, due_at=runtime.clock())
    return taken


def _wait_ms(error: TenantLimitReached) -> int:
    return int(min(max(error.retry_after, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS) * 1000)


def _create(runtime: Runtime, message: EnqueueMessage) -> None:
    """Create the job, or reject the message.

    Raises:
        TenantLimitReached: the tenant may have no further job now.
    """
    try:
        if message.unnamed:
            raise InvalidRequest(
                Violation("args", list(message.unnamed), "left out; use keyword arguments")
            )
        fields = {name: value for name, value in message.request.items() if name != "tenant"}
        tenant = tenant_name(message.request.get("tenant"))
        with tracing.continued(message.trace.get):
            create_job(runtime, fields, scope=CELERY_SCOPE, tenant=tenant, key=message.id)
    except (InvalidRequest, IdempotencyMismatch, IdempotencyGone) as error:
        log.get().error("enqueue_refused", message_id=message.id, reason=str(error))
        body = dump({"id": message.id, "args": message.unnamed, "kwargs": message.request})
        runtime.ledger.rejected.keep("enqueue", now=runtime.clock(), reason=str(error), body=body)
