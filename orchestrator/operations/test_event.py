"""Sends a test notification, so that a receiver can be checked before it has a job."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from time import monotonic
from typing import Any

from ulid import ULID

from orchestrator.delivery.message import Message
from orchestrator.delivery.targets import deliver, refusals, signing_secrets
from orchestrator.jobs.request import Receiver
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.jsonio import rfc3339
from orchestrator.runtime import Runtime

#: The type of the message.
TEST = "test"


@dataclass(frozen=True, slots=True)
class SentEvent:
    """What happened to a test notification.

    Attributes:
        id: of the message.
        host: the receiver's host.
        accepted: whether the receiver accepted it.
        status: the HTTP status of the answer; None: there was no answer.
        seconds: the time until the answer or the failure.
        reason: why it was not accepted; None after a success.
    """

    id: str
    host: str
    accepted: bool
    status: int | None
    seconds: float
    reason: str | None

    def view(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)


def send_test_event(runtime: Runtime, url: str, tenant: str, *, actor: str) -> SentEvent:
    """Send one signed test notification to a URL, and wait for the answer.

    It is sent and signed like any other notification of the tenant. It is sent once, and it does
    not count as a failure of the host.

    Args:
        runtime: of this process.
        url: the receiver.
        tenant: whose secrets sign it.
        actor: who asks, for the audit trail.

    Raises:
        InvalidRequest: the URL must not be called, nothing can sign, or the tenant's name is wrong.
        LedgerUnavailable: Redis is away. Nothing was sent.
    """
    tenant_name(tenant)
    receiver = Receiver(notify_url=url)
    signs = bool(signing_secrets(runtime, tenant))
    if wrong := list(refusals(receiver, runtime.settings, signs=signs)):
        raise InvalidRequest(*(replace(each, field="url") for each in wrong))
    host = receiver.name or ""
    runtime.audit(actor, "test_event", host, tenant=tenant)
    message = Message(f"msg_test_{str(ULID()).lower()}", TEST, _content(runtime, tenant))
    began = monotonic()
    delivery = deliver(runtime, receiver, tenant, message)
    seconds, reason = round(monotonic() - began, 3), delivery.reason
    return SentEvent(message.id, host, reason is None, delivery.status, seconds, reason)


def _content(runtime: Runtime, tenant: str) -> dict[str, Any]:
    return {"type": TEST, "timestamp": rfc3339(runtime.clock()), "data": {"tenant": tenant}}
