"""Signing notifications as Standard Webhooks has it (version 1 of its specification, HMAC-SHA256).

signature = base64(HMAC-SHA256(key, id "." timestamp "." body)), in the header as `v1,<signature>`;
one for each secret while secrets are exchanged, separated by a blank. A secret is `whsec_` and the
key in base64.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Sequence
from secrets import token_bytes

from orchestrator.security.secret import Secret

_PREFIX = "whsec_"
#: How long a key may be. Bytes, from the specification.
SHORTEST, LONGEST = 24, 64
#: What a secret must look like, in words.
SECRET = f"{_PREFIX} and {SHORTEST} to {LONGEST} bytes in base64;"


def new_secret() -> str:
    """A fresh secret."""
    return _PREFIX + b64encode(token_bytes(32)).decode()


def is_secret(text: str) -> bool:
    """Whether `text` can be a secret."""
    try:
        key = b64decode(text.removeprefix(_PREFIX), validate=True)
    except (NotBase64, ValueError):
        return False
    return text.startswith(_PREFIX) and SHORTEST <= len(key) <= LONGEST


def headers(
    secrets: Sequence[Secret], message_id: str, seconds: int, body: bytes
) -> dict[str, str]:
    """The three headers that go with a message.

    Args:
        secrets: newest first; the receiver may know any of them.
        message_id: the same for every delivery of one message.
        seconds: the time of this delivery, Unix seconds.
        body: the bytes that are sent.
    """
    signed = f"{message_id}.{seconds}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def _signature(secret: Secret, signed: bytes) -> str:
    key = b64decode(secret.reveal().removeprefix(_PREFIX))
    return "v1," + b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
