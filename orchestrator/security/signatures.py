"""Signatures over timestamp and raw body, as providers put them on their callbacks."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from orchestrator.security.secret import Secret


class BadSignature(Exception):
    """A callback whose signature is absent, malformed, stale or wrong. One error for all."""


def verify_timestamped_hex(
    secrets: Sequence[Secret],
    *,
    timestamp: str | None,
    signature: str | None,
    body: bytes,
    now: int,
    tolerance: int,
) -> None:
    """Check hex(HMAC-SHA256(secret, timestamp + "." + body)) against any of the secrets.

    Args:
        secrets: newest first; more than one while a secret is rotated.
        timestamp: the header's own text, Unix seconds.
        signature: the header's own text.
        body: the raw bytes, as received.
        now: Unix seconds.
        tolerance: how far the timestamp may be off, in seconds, either way.

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
    given = signature.encode("utf-8", "surrogatepass")
    good = [
        hmac.compare_digest(
            hmac.new(s.reveal().encode(), message, hashlib.sha256).hexdigest().encode(), given
        )
        for s in secrets
    ]
    if not any(good):
        raise BadSignature("the signature is wrong")
