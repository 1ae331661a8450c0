"""Reference images that a caller sent as bytes, as links for providers that accept only links.

An image lies in the storage by its digest. Its link has no expiry time in it, so that the same
image gives the same link, and a repeated request is the same request. The image is deleted
LIFETIME_MS after the last job that got it, and the link is dead from then on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, Self

from orchestrator import log
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.uploads import ImageFile, content_type
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.runtime import Runtime
from orchestrator.security import tokens
from orchestrator.storage.storage import StorageError

#: Reference images are kept for this long after the last job with them. A job that is sent to
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
#: A link of ours, from any address: its token, its owner and the name of its file.
_OUR_LINK = re.compile(
    rf"\Ahttps?://.*/{PATH}/([^/]+)/([0-9a-f]{{{_OWNER_CHARACTERS}}})/([0-9a-f]{{64}}\.[a-z]+)\Z"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An image that is served as a link.

    Attributes:
        link: works while the image is stored.
        path: of the image in the storage.
        content_type: of the image.
        content: the image.
    """

    link: str
    path: str
    content_type: str
    content: bytes = field(repr=False)

    @classmethod
    def of(cls, runtime: Runtime, tenant: str, name: str, content: bytes) -> Self:
        """Return the reference of an image. Nothing is stored.

        Args:
            runtime: of this process.
            tenant: the owner.
            name: of the field with the image, for errors.
            content: the image.

        Raises:
            InvalidRequest: it is no such image or too large, or providers cannot reach us.
        """
        settings = runtime.settings
        kind = content_type(content)
        allowed = f"a PNG, JPEG or WebP image of at most {settings.max_upload_bytes} bytes"
        if kind is None or len(content) > settings.max_upload_bytes:
            raise InvalidRequest(Violation(name, f"{len(content)} bytes", allowed))
        if not serves_links(runtime):
            allowed = "a link: files need ORCHESTRATOR_PUBLIC_URL, so that providers can fetch them"
            raise InvalidRequest(Violation(name, f"{len(content)} bytes", allowed))
        owner = _owner(tenant)
        file = _file_name(content)
        token = tokens.sign(settings.secret_keys[0], _PURPOSE, owner, file)
        link = f"{settings.public_url}/{PATH}/{token}/{owner}/{file}"
        return cls(link, reference_path(owner, file), kind, content)

    def store(self, runtime: Runtime) -> None:
        """Store the image. It is kept for LIFETIME_MS from now on.

        Raises:
            StorageError: the storage failed.
        """
        runtime.storage.put(self.path, BytesIO(self.content), self.content_type)


class NotKept(Exception):
    """One of our links no longer shows its image."""


def kept_references(runtime: Runtime, tenant: str, links: Iterable[str]) -> list[Reference]:
    """Return the images of a tenant's links that are ours. A job that gets them keeps them longer.

    Raises:
        NotKept: one of them is dead.
        StorageError: the storage failed.
    """
    references = []
    for link in links:
        ours = _OUR_LINK.match(link)
        if ours is None or ours[2] != _owner(tenant):
            continue
        path = reference_path(ours[2], ours[3])
        stored_at = (
            runtime.storage.modified(path) if is_reference(runtime, *ours.groups()) else None
        )
        if stored_at is None or runtime.clock() - stored_at > LIFETIME_MS:
            raise NotKept(link)
        content = runtime.storage.get(path)
        references.append(Reference(link, path, content_type(content) or "", content))
    return references


def _owner(tenant: str) -> str:
    return hashlib.sha256(tenant.encode()).hexdigest()[:_OWNER_CHARACTERS]


def serves_links(runtime: Runtime) -> bool:
    """Return whether providers can reach us."""
    return runtime.settings.public_url is not None and bool(runtime.settings.secret_keys)


def wants_link(runtime: Runtime, request: Mapping[str, Any]) -> bool:
    """Return whether the file of a request becomes a link, because a provider takes no file.

    A request in the native form has no place of ours for a link.
    """
    fallback = request.get("fallback")
    targets = [request, *(fallback if isinstance(fallback, list) else ())]
    names = [each.get("provider") for each in targets if isinstance(each, Mapping)]
    adapters = [adapter for name, adapter in runtime.providers.items() if name in names]
    takes_none = any(adapter.capabilities.upload_field is None for adapter in adapters)
    return takes_none and "request" not in request and serves_links(runtime)


def with_link(request: Mapping[str, Any], link: str) -> dict[str, Any]:
    """Return a request with another reference image."""
    images = request.get("images", [])
    return {**request, "images": [*images, link] if isinstance(images, list) else images}


def same_but_links(first: JobRequest, second: JobRequest, file: ImageFile | None) -> bool:
    """Return whether two requests differ at most in links of ours to the same images.

    Such a link depends on our public URL and our secret key. Without them, `file` of the second
    request is no link at all.
    """
    if file and first.upload is None:
        images = [*second.options.get("images", ()), _file_name(file.content)]
        second = replace(second, upload=None, options={**second.options, "images": images})
    one, other = (
        replace(each, options=_without_addresses(each.options)) for each in (first, second)
    )
    return one == other


def _without_addresses(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the name of the file in place of each link of ours."""
    images = [_OUR_LINK.sub(r"\3", link) for link in options.get("images", ())]
    return {**options, "images": images} if images else dict(options)


def _file_name(content: bytes) -> str:
    ending = ENDINGS[content_type(content) or "image/png"]
    return f"{hashlib.sha256(content).hexdigest()}.{ending}"


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
    before, deleted = runtime.clock() - LIFETIME_MS, 0
    for path in list(runtime.storage.put_before(FOLDER, before)):
        stored_at = runtime.storage.modified(path)
        if stored_at is None or stored_at >= before:  # a request has sent it again meanwhile
            continue
        runtime.storage.delete(path)
        deleted += 1
    return deleted


def prune_references(runtime: Runtime) -> None:
    """Delete the images whose time is over. A storage that is away is asked another time."""
    try:
        deleted = delete_old_references(runtime)
    except StorageError as error:
        log.get().warning("references_not_pruned", reason=str(error))
        return
    if deleted:
        log.get().info("references_pruned", deleted=deleted)
