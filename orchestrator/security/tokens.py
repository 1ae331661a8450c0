"""Tokens in URLs: the part that only we can make. Callback URLs and links to images have one.

token = base64url(HMAC-SHA256(secret, part LF part LF ...)), without padding. A callback's parts are
the provider, the job id and the attempt.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence

from orchestrator.security.secret import Secret


def sign(secret: Secret, *parts: str | int) -> str:
    """Return the token of these parts. No part may contain a line break."""
    message = "\n".join(map(str, parts)).encode("utf-8", "surrogatepass")
    mac = hmac.digest(secret.reveal().encode(), message, hashlib.sha256)
    return urlsafe_b64encode(mac).rstrip(b"=").decode()


def verify(secrets: Sequence[Secret], token: str, *parts: str | int) -> bool:
    """Return whether `token` was made for these parts with one of the secrets."""
    received = token.encode("utf-8", "surrogatepass")
    good = [hmac.compare_digest(sign(secret, *parts).encode(), received) for secret in secrets]
    return any(good)
