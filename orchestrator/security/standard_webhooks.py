"""Signatures by Standard Webhooks (version 1 of its specification, HMAC-SHA256).

We sign notifications so, and verify the callbacks of providers that sign so.

signature = base64(HMAC-SHA256(key, id "." timestamp "." body)). The header holds `v1,<signature>`,
one for each secret during a rotation, separated by spaces. A secret is `whsec_` and the key in
base64.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from secrets import token_bytes

from orchestrator.security.secret import Secret
from orchestrator.security.signatures import (
    TOLERANCE_SECONDS,
    BadSignature,
    check_time,
    matches,
)

_PREFIX = "whsec_"
#: Length of a key, from the specification. Bytes.
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64
#: The form of a secret, for error messages.
SECRET_FORM = f"{_PREFIX} and {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes in base64;"


def new_secret() -> str:
    """Return a new secret."""
    return _PREFIX + b64encode(token_bytes(32)).decode()


def is_secret(text: str) -> bool:
    """Return whether `text` is a secret of this form."""
    try:
        key = b64decode(text.removeprefix(_PREFIX), validate=True)
    except (NotBase64, ValueError):
        return False
    return text.startswith(_PREFIX) and MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES


def secret_refusal(text: str) -> str | None:
    """Return what a secret must be, or None if `text` is one."""
    return None if is_secret(text) else SECRET_FORM.rstrip(";")


def headers(
    secrets: Sequence[Secret], message_id: str, seconds: int, body: bytes
) -> dict[str, str]:
    """Return the three headers of a message.

    Args:
        secrets: newest first; the receiver may know any of them.
        message_id: the same for every delivery of a message.
        seconds: time of this delivery, Unix seconds.
        body: the bytes of the request.
    """
    signed = f"{message_id}.{seconds}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def verify_standard_webhook(
    secrets: Sequence[Secret],
    *,
    headers: Mapping[str, str],
    body: bytes,
    now: int,
    tolerance: int = TOLERANCE_SECONDS,
) -> None:
    """Check the signature of a message that somebody sent to us.

    Args:
        secrets: newest first; several while a secret is rotated.
        headers: of the message, names in lower case.
        body: the raw bytes, as received.
        now: Unix seconds at the reception.
        tolerance: the allowed difference of the timestamp, seconds.

    Raises:
        BadSignature: for any reason.
    """
    message_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    given = headers.get("webhook-signature")
    if not message_id or not timestamp or not given:
        raise BadSignature("the signature headers are absent")
    check_time(timestamp, now, tolerance)
    # The server decodes headers as Latin-1. Encoding restores the bytes that were sent.
    signed = f"{message_id}.{timestamp}.".encode("latin-1", "replace") + body
    expected = [_signature(secret, signed) for secret in secrets if is_secret(secret.reveal())]
    if not matches(expected, given.split(" ")):
        raise BadSignature("the signature is wrong")


def _signature(secret: Secret, signed: bytes) -> str:
    key = b64decode(secret.reveal().removeprefix(_PREFIX))
    return "v1," + b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
