"""Signatures of providers: HMAC-SHA256 over the time and the body, or over the time and an id."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable, Sequence

from orchestrator.security.secret import Secret

#: The usual difference of a timestamp that is allowed. Seconds.
TOLERANCE_SECONDS = 300
#: The longest text of a timestamp, and the most signatures of one message that are compared.
_MAX_TIME_DIGITS = 12
_MAX_SIGNATURES = 10


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
        now: Unix seconds at the reception.
        tolerance: the allowed difference of the timestamp, seconds.

    Raises:
        BadSignature: for any reason.
    """
    if not timestamp or not signature:
        raise BadSignature("the signature headers are absent")
    check_time(timestamp, now, tolerance)
    message = timestamp.encode() + b"." + body
    if not matches([_digest(secret, message).hex() for secret in secrets], [signature]):
        raise BadSignature("the signature is wrong")


def verify_id_and_time(
    secrets: Sequence[Secret],
    *,
    task_id: str,
    timestamp: str | None,
    signature: str | None,
    now: int,
    tolerance: int,
) -> None:
    """Check base64(HMAC-SHA256(secret, task_id + "." + timestamp)) with each secret.

    The body is not signed. So a callback with such a signature is a hint, and no result.

    Args:
        secrets: newest first; several while a secret is rotated.
        task_id: the id that the body names.
        timestamp: the text of the header, Unix seconds.
        signature: the text of the header.
        now: Unix seconds at the reception.
        tolerance: the allowed difference of the timestamp, seconds.

    Raises:
        BadSignature: for any reason.
    """
    if not timestamp or not signature:
        raise BadSignature("the signature headers are absent")
    check_time(timestamp, now, tolerance)
    message = f"{task_id}.{timestamp}".encode("utf-8", "surrogatepass")
    expected = [b64encode(_digest(secret, message)).decode() for secret in secrets]
    if not matches(expected, [signature]):
        raise BadSignature("the signature is wrong")


def check_time(timestamp: str, now: int, tolerance: int = TOLERANCE_SECONDS) -> None:
    """Check that a timestamp is near `now`. All three are in seconds.

    Raises:
        BadSignature: it is not, or it is no number.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _MAX_TIME_DIGITS):
        raise BadSignature("the timestamp is not a number of seconds")
    if abs(now - int(timestamp)) > tolerance:
        raise BadSignature(f"the timestamp is more than {tolerance} s off")


def matches(expected: Iterable[str], given: Sequence[str]) -> bool:
    """Return whether a given signature is an expected one. The time does not depend on which."""
    received = [one.encode("utf-8", "surrogatepass") for one in given[:_MAX_SIGNATURES]]
    good = [hmac.compare_digest(each.encode(), one) for each in expected for one in received]
    return any(good)


def _digest(secret: Secret, message: bytes) -> bytes:
    return hmac.digest(secret.reveal().encode(), message, hashlib.sha256)
