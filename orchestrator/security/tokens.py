"""Callback tokens: the part of a callback URL that only we can make.

token = base64url(HMAC-SHA256(secret, provider LF job id LF attempt)), without padding.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from orchestrator.security.secret import Secret


def sign(secret: Secret, provider: str, job_id: str, attempt: int) -> str:
    """Return the token of one attempt."""
    message = f"{provider}\n{job_id}\n{attempt}".encode()
    mac = hmac.digest(secret.reveal().encode(), message, hashlib.sha256)
    return urlsafe_b64encode(mac).rstrip(b"=").decode()


def verify(secrets: Sequence[Secret], token: str, provider: str, job_id: str, attempt: int) -> bool:
    """Return whether `token` was made for this attempt with one of the secrets."""
    received = token.encode("utf-8", "surrogatepass")
    good = [
        hmac.compare_digest(sign(secret, provider, job_id, attempt).encode(), received)
        for secret in secrets
    ]
    return any(good)
