"""Messages that were verified but could not be read: lists, replays and deletes them."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.callbacks.address import CallbackAddress
from orchestrator.callbacks.apply import apply_callback
from orchestrator.callbacks.body import read_body
from orchestrator.enqueuing import (
    CELERY_SCOPE,
    IdempotencyGone,
    IdempotencyMismatch,
    TenantLimitReached,
    create_job,
)
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.jsonio import NotJson, parse, rfc3339
from orchestrator.ledger.rejected_messages import RejectedMessage
from orchestrator.providers.responses import Unreadable
from orchestrator.runtime import Runtime

#: The job and the attempt of a callback.
_REFERENCE = re.compile(r"(job_[0-9a-z]+)\.(\d+)")


class UnknownMessage(Exception):
    """There is no such rejected message."""

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"there is no rejected message {message_id[:80]!r}; see: orchestrator rejected list"
        )


class NotReplayable(Exception):
    """The message is rejected again, or cannot be read. The text is the reason."""


def find_rejected(runtime: Runtime, message_id: str) -> RejectedMessage:
    """Return one message.

    Raises:
        UnknownMessage: there is none.
        LedgerUnavailable: Redis is away.
    """
    message = runtime.ledger.rejected.get(message_id)
    if message is None:
        raise UnknownMessage(message_id)
    return message


def delete_rejected(runtime: Runtime, message_id: str, *, actor: str) -> None:
    """Delete a message.

    Raises:
        UnknownMessage: there is none.
        LedgerUnavailable: Redis is away.
    """
    if not runtime.ledger.rejected.delete(message_id):
        raise UnknownMessage(message_id)
    runtime.audit(actor, "rejected_delete", message_id)


def replay_rejected(runtime: Runtime, message_id: str, *, actor: str) -> str:
    """Read a message again, as if it had arrived now, and delete it. Return what it did.

    Raises:
        UnknownMessage: there is none.
        NotReplayable: it is rejected again. It stays.
        LedgerUnavailable: Redis is away. It stays.
    """
    message = find_rejected(runtime, message_id)
    if not message.complete:
        raise NotReplayable("only the start of its body was kept")
    result = _callback(runtime, message) if message.kind == "callback" else _job(runtime, message)
    runtime.ledger.rejected.delete(message_id)
    runtime.audit(actor, "rejected_replay", message_id)
    return result


def rejected_view(message: RejectedMessage) -> dict[str, Any]:
    """Return a message as JSON-ready data."""
    return {
        "id": message.id,
        "kind": message.kind,
        "at": rfc3339(message.at),
        "reason": message.reason,
        "provider": message.context.get("provider"),
        "reference": message.context.get("reference"),
        "body": message.body,
        "complete": message.complete,
    }


def _callback(runtime: Runtime, message: RejectedMessage) -> str:
    """Apply a callback. Its token and signature were checked when it arrived."""
    name = message.context.get("provider", "")
    reference = _REFERENCE.fullmatch(message.context.get("reference", ""))
    provider = runtime.providers.get(name)
    if provider is None or reference is None or name not in runtime.settings.providers:
        raise NotReplayable(f"the provider {name!r} is not set up here")
    try:
        report = provider.read_callback(read_body(message.body.encode()), message.at)
    except (NotJson, Unreadable) as error:
        raise NotReplayable(str(error)) from None
    except Exception as error:  # noqa: BLE001  # another package's adapter may raise anything
        raise NotReplayable(f"the adapter raised {type(error).__name__}") from None
    address = CallbackAddress(name, reference[1], int(reference[2]))
    return apply_callback(runtime, address, report, runtime.clock(), replayed=True).value


def _job(runtime: Runtime, message: RejectedMessage) -> str:
    """Create the job of an enqueue message. Its message id is the idempotency key."""
    try:
        body = parse(message.body)
        fields = dict(body["kwargs"])
        if body["args"]:
            raise NotReplayable("its arguments have no names")
        tenant = tenant_name(fields.pop("tenant", None))
        made = create_job(runtime, fields, scope=CELERY_SCOPE, tenant=tenant, key=body["id"])
    except (NotJson, KeyError, TypeError, ValueError) as error:
        known = isinstance(error, InvalidRequest | IdempotencyMismatch | IdempotencyGone)
        raise NotReplayable(str(error) if known else "its body is no request") from None
    except (InvalidRequest, TenantLimitReached) as error:
        raise NotReplayable(str(error)) from None
    return made.job.id
