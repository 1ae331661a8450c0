"""Verifies the notifications of the orchestrator (Standard Webhooks), and reads them.

notification = webhooks.unwrap(request.get_data(), request.headers, secret)
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from orchestrator_client import parsing
from orchestrator_client.errors import OrchestratorError
from orchestrator_client.models import Batch, Job

#: A delivery is refused when it is older or newer than this. Seconds.
TOLERANCE_SECONDS = 300
_PREFIX = "whsec_"


class Headers(Protocol):
    """The headers of any web framework."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Return names and values."""


class InvalidNotification(OrchestratorError):
    """The request is not a notification of the orchestrator. Answer it with 401."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A notification. This class alone stands for a type that this version does not know.

    Attributes:
        id: the same for every delivery; do the work for each id once.
        type: what happened, such as `job.succeeded`.
        timestamp: when it happened.
        data: the JSON object.
    """

    id: str
    type: str
    timestamp: datetime
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNotification(Notification):
    """`job.succeeded`, `job.failed`, `job.cancelled` or `job.late_result`."""

    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNotification(Notification):
    """`batch.completed`."""

    batch: Batch


def unwrap(
    payload: bytes | str,
    headers: Headers,
    secret: str | Sequence[str],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> JobNotification | BatchNotification | Notification:
    """Verify a request, and return its notification.

    Args:
        payload: the body as it was received, not parsed and written again.
        headers: the headers of the request, in any case.
        secret: the secret of notifications, `whsec_...`; during a rotation, several.
        tolerance_seconds: how old a delivery may be, against repetitions by others.

    Raises:
        InvalidNotification: a header is absent, the signature is wrong, or the time is.
        ValueError: there is no secret, or it is not one of Standard Webhooks.
    """
    keys = [_key(each) for each in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("unwrap needs at least one secret of notifications")
    body = payload.encode() if isinstance(payload, str) else bytes(payload)
    lowered = {name.lower(): value for name, value in headers.items()}
    message_id = _header(lowered, "webhook-id")
    seconds = _header(lowered, "webhook-timestamp")
    signed = f"{message_id}.{seconds}.".encode() + body
    if not _is_signed(signed, _header(lowered, "webhook-signature"), keys):
        raise InvalidNotification("no signature of the request belongs to the secret")
    _check_time(seconds, tolerance_seconds)
    return _read(message_id, body)


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (NotBase64, ValueError):
        key = b""
    if not key:
        raise ValueError(f"the secret of notifications is not {_PREFIX} and base64") from None
    return key


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if not value or not value.isascii():
        raise InvalidNotification(f"the request has no {name}")
    return value


def _is_signed(signed: bytes, header: str, keys: Iterable[bytes]) -> bool:
    listed = [each.partition(",") for each in header.split()]
    given = [_decoded(signature) for version, _, signature in listed if version == "v1"]
    expected = [hmac.digest(key, signed, hashlib.sha256) for key in keys]
    return any(hmac.compare_digest(one, other) for one in expected for other in given)


def _decoded(signature: str) -> bytes:
    try:
        return b64decode(signature, validate=True)
    except (NotBase64, ValueError):
        return b""


def _check_time(seconds: str, tolerance: float) -> None:
    if not seconds.isdecimal() or len(seconds) > 12:
        raise InvalidNotification("webhook-timestamp is not a Unix time")
    if abs(time.time() - int(seconds)) > tolerance:
        raise InvalidNotification("the delivery is too old, or a clock is wrong")


def _read(message_id: str, body: bytes) -> JobNotification | BatchNotification | Notification:
    try:
        content = json.loads(body)
        kind, data = content["type"], content["data"]
        at = datetime.fromisoformat(content["timestamp"])
        if kind.startswith("job."):
            job = parsing.job(data)
            return JobNotification(id=message_id, type=kind, timestamp=at, data=data, job=job)
        if kind.startswith("batch."):
            batch = parsing.batch(data)
            return BatchNotification(id=message_id, type=kind, timestamp=at, data=data, batch=batch)
        return Notification(id=message_id, type=kind, timestamp=at, data=data)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidNotification("the body is not a notification") from None
