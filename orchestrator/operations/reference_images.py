"""Reference images that a caller sent as bytes, as links for providers that accept only links.

An image lies in the storage by its digest. Its link has no expiry time in it, so that the same
image gives the same link, and a repeated request is the same request. The image is deleted
LIFETIME_MS after the last request that sent it, and the link is dead from then on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from io import BytesIO

from orchestrator import log
from orchestrator.jobs.uploads import content_type
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.runtime import Runtime
from orchestrator.security import tokens
from orchestrator.storage.storage import StorageError

#: Reference images are kept for this long after the last request with them. A job that is sent to
#: its provider later has a dead link. ms.
LIFETIME_MS = 86_400_000
#: The folder of the images in the storage.
FOLDER = "references"
#: The start of the path of their links.
PATH = "references"
#: Type of an accepted image -> the ending of its name.
ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_PURPOSE = "reference"
_OWNER_CHARACTERS = 24


def store_references(
    runtime: Runtime, tenant: str, images: Iterable[tuple[str, bytes]]
) -> list[str]:
    """Store images, and return their links.

    Args:
        runtime: of this process.
        tenant: the owner.
        images: the field of each, for errors, and its bytes.

    Raises:
        InvalidRequest: a file is no such image or too large, or providers cannot reach us.
        StorageError: the storage failed.
    """
    return [_stored(runtime, tenant, field, content) for field, content in images]


def _stored(runtime: Runtime, tenant: str, field: str, content: bytes) -> str:
    settings = runtime.settings
    kind = content_type(content)
    allowed = f"a PNG, JPEG or WebP image of at most {settings.max_upload_bytes} bytes"
    if kind is None or len(content) > settings.max_upload_bytes:
        raise InvalidRequest(Violation(field, f"{len(content)} bytes", allowed))
    if settings.public_url is None or not settings.secret_keys:
        allowed = "a link: files need ORCHESTRATOR_PUBLIC_URL, so that the provider can fetch them"
        raise InvalidRequest(Violation(field, f"{len(content)} bytes", allowed))
    owner = hashlib.sha256(tenant.encode()).hexdigest()[:_OWNER_CHARACTERS]
    name = f"{hashlib.sha256(content).hexdigest()}.{ENDINGS[kind]}"
    runtime.storage.put(reference_path(owner, name), BytesIO(content), kind)
    token = tokens.sign(settings.secret_keys[0], _PURPOSE, owner, name)
    return f"{settings.public_url}/{PATH}/{token}/{owner}/{name}"


def reference_path(owner: str, name: str) -> str:
    """Return the path of an image in the storage."""
    return f"{FOLDER}/{owner}/{name}"


def is_reference(runtime: Runtime, token: str, owner: str, name: str) -> bool:
    """Return whether we made the link with this token."""
    return tokens.verify(runtime.settings.secret_keys, token, _PURPOSE, owner, name)


def delete_old_references(runtime: Runtime) -> int:
    """Delete the images whose time is over, and return their number.

    Raises:
        StorageError: the storage failed.
    """
    old = list(runtime.storage.put_before(FOLDER, runtime.clock() - LIFETIME_MS))
    for path in old:
        runtime.storage.delete(path)
    return len(old)


def prune_references(runtime: Runtime) -> None:
    """Delete the images whose time is over. A storage that is away is asked another time."""
    try:
        deleted = delete_old_references(runtime)
    except StorageError as error:
        log.get().warning("references_not_pruned", reason=str(error))
        return
    if deleted:
        log.get().info("references_pruned", deleted=deleted)
