"""Ed25519 signatures, and the public keys of a JSON Web Key Set (RFC 7517, RFC 8037)."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from collections.abc import Sequence
from typing import Any

from orchestrator.jsonio import NotJson, parse
from orchestrator.security.signatures import BadSignature

#: The length of a key and of a signature. Bytes.
KEY_BYTES, SIGNATURE_BYTES = 32, 64
#: The most keys of a set that are read.
MAX_KEYS = 20


class UnknownKey(BadSignature):
    """No known key made the signature. Its owner may have a newer key."""


class NotKeySet(ValueError):
    """The document has no Ed25519 key."""


def read_key_set(document: bytes) -> tuple[bytes, ...]:
    """Return the Ed25519 keys of a JSON Web Key Set. Other keys are left out.

    Raises:
        NotKeySet: there is none.
    """
    try:
        found = parse(document)
    except NotJson as error:
        raise NotKeySet(f"it is not JSON: {error}") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    keys = tuple(filter(None, map(_key, listed if isinstance(listed, list) else ())))
    if not keys:
        raise NotKeySet("it has no Ed25519 key")
    return keys[:MAX_KEYS]


def verify_ed25519(keys: Sequence[bytes], *, message: bytes, signature: str | None) -> None:
    """Check an Ed25519 signature over `message` with each key.

    Args:
        keys: public keys of 32 bytes.
        message: what is signed.
        signature: the text of the header, in hexadecimal.

    Raises:
        UnknownKey: none of the keys made it.
        BadSignature: it is absent or malformed.
    """
    # A process that verifies no such signature does not load the library.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )

    if not signature:
        raise BadSignature("the signature headers are absent")
    try:
        given = bytes.fromhex(signature)
    except ValueError:
        given = b""
    if len(given) != SIGNATURE_BYTES or len(signature) != 2 * SIGNATURE_BYTES:
        raise BadSignature("the signature is malformed")
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(given, message)
        except (InvalidSignature, ValueError):
            continue
        return
    raise UnknownKey("the signature is wrong")


def _key(jwk: Any) -> bytes | None:
    """Return the bytes of an Ed25519 key, or None for anything else."""
    if not isinstance(jwk, dict) or jwk.get("kty", "OKP") != "OKP":
        return None
    text = jwk.get("x")
    if jwk.get("crv", "Ed25519") != "Ed25519" or not isinstance(text, str):
        return None
    try:
        key = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (NotBase64, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None
