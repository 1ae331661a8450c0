"""Signatures of providers over timestamp and raw body."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from orchestrator.security.secret import Secret


class BadSignature(Exception):
    """The signature of a callback is absent, malformed, too old or wrong."""


def verify_timestamped_hex(
    secrets: Sequence[Secret],
    *,
    timestamp: str | None,
    signature: str | None,
    body: bytes,
    now: int,
    tolerance: int,
) -> None:
    """Check hex(HMAC-SHA256(secret, timestamp + "." + body)) with each secret.

    Args:
        secrets: newest first; several while a secret is rotated.
        timestamp: the text of the header, Unix seconds.
        signature: the text of the header.
        body: the raw bytes, as received.
        now: Unix seconds.
        tolerance: the allowed difference of the timestamp, seconds.

    Raises:
        BadSignature: for any reason.
    """
    if not timestamp or not signature:
        raise BadSignature("the signature headers are absent")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature("the timestamp is not a number of seconds")
    if abs(now - int(timestamp)) > tolerance:
        raise BadSignature(f"the timestamp is more than {tolerance} s off")
    message = timestamp.encode() + b"." + body
    received = signature.encode("utf-8", "surrogatepass")
    good = [
        hmac.compare_digest(
            hmac.new(s.reveal().encode(), message, hashlib.sha256).hexdigest().encode(), received
        )
        for s in secrets
    ]
    if not any(good):
        raise BadSignature("the signature is wrong")
