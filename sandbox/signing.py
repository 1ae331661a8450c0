"""Checks Standard Webhooks signatures, version 1, HMAC-SHA256.

It is written from the specification and shares no code with the product. So both implementations
check each other.
"""

import base64
import binascii
import hashlib
import hmac

#: Largest difference between the timestamp and the clock, in both directions. Seconds.
TOLERANCE_SECONDS = 300


class BadSecretError(ValueError):
    """The text is not a secret. The message does not repeat it."""


def read_secret(text: str) -> bytes:
    """Return the key in `whsec_<base64>`.

    Raises:
        BadSecretError: The text has another form.
    """
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key or not text.startswith("whsec_"):
        raise BadSecretError("must be whsec_ followed by a key in base64")
    return key


def sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Return one signature in the form of the `webhook-signature` header."""
    # The server decodes headers as Latin-1. Encoding restores the bytes that were sent.
    head = f"{message_id}.{timestamp}.".encode("latin-1", "replace")
    digest = hmac.digest(key, head + body, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def problem(
    key: bytes,
    *,
    message_id: str | None,
    timestamp: str | None,
    signature: str | None,
    body: bytes,
    now: float,
) -> str | None:
    """Return the reason why a notification is not verified, or None when it is verified.

    Args:
        key: The key of the secret.
        message_id: The header `webhook-id`.
        timestamp: The header `webhook-timestamp`.
        signature: The header `webhook-signature`.
        body: The raw body.
        now: The current Unix time, in seconds.
    """
    headers = {"id": message_id, "timestamp": timestamp, "signature": signature}
    for name, value in headers.items():
        if not value:
            return f"webhook-{name} is missing"
    message_id, timestamp, signature = message_id or "", timestamp or "", signature or ""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        return "webhook-timestamp is not a Unix time in seconds"
    age = round(now) - int(timestamp)
    if abs(age) > TOLERANCE_SECONDS:
        return f"webhook-timestamp is {abs(age)} seconds {'old' if age > 0 else 'ahead'}"
    expected = sign(key, message_id, timestamp, body).encode()
    # A sender may add signatures of another secret or of another version.
    signatures = (one.encode("latin-1", "replace") for one in signature.split(" "))
    matches = any(hmac.compare_digest(one, expected) for one in signatures)
    return None if matches else "no signature matches"
