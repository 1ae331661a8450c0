"""Standard Webhooks, as a caller who was given a secret checks it: version 1, HMAC-SHA256.

Written from the specification, and not with the product's code: the two have to agree.
"""

import base64
import binascii
import hashlib
import hmac

#: how old a timestamp may be, and how far ahead, in seconds
TOLERANCE_SECONDS = 300


class BadSecretError(ValueError):
    """A secret that is none. The message does not repeat it."""


def read_secret(text: str) -> bytes:
    """The key in `whsec_<base64>`; BadSecretError when there is none."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key or not text.startswith("whsec_"):
        raise BadSecretError("it is not allowed; allowed: whsec_ and then a key in base64")
    return key


def sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """One signature, as it stands in `webhook-signature`."""
    # Header values are read as Latin-1: this gives back the bytes that were sent.
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
    """What is wrong with a notification, in a few words; None when it can be trusted."""
    headers = {"id": message_id, "timestamp": timestamp, "signature": signature}
    for name, value in headers.items():
        if not value:
            return f"no webhook-{name}"
    message_id, timestamp, signature = message_id or "", timestamp or "", signature or ""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        return "webhook-timestamp is no Unix time in seconds"
    age = round(now) - int(timestamp)
    if abs(age) > TOLERANCE_SECONDS:
        return f"webhook-timestamp is {abs(age)} seconds {'old' if age > 0 else 'ahead'}"
    right = sign(key, message_id, timestamp, body).encode()
    # Several while secrets are exchanged; those of other versions are no concern of this one.
    given = (one.encode("latin-1", "replace") for one in signature.split(" "))
    return None if any(hmac.compare_digest(one, right) for one in given) else "no signature fits"
