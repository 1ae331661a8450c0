"""A call that asks for images, in our own terms: from another API's request to a job."""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.api.auth import caller
from orchestrator.enqueue import API_SCOPE, EnqueueResult, create_job
from orchestrator.jobs.request import Target
from orchestrator.jobs.uploads import ImageFile
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.operations.image_size import size_options
from orchestrator.operations.model_names import resolve_model
from orchestrator.operations.repeated_requests import (
    Announcement,
    join_or_create,
    request_digest,
)
from orchestrator.providers.catalog import merged
from orchestrator.reference_images import Reference
from orchestrator.runtime import Runtime

#: The most reference images of a request.
MAX_IMAGES = 16
#: The letters of URL-safe base64, and what they are in the usual one.
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class SentImage:
    """A reference image as bytes, and the field in which the caller sent it."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ImageCall:
    """What a caller asks for.

    Attributes:
        model: the name that `resolve_model` knows.
        options: the other fields of a job's request.
        images: reference images: links, and images as bytes, in the caller's order.
        size: in pixels or `auto`; empty: the caller named none.
        extras: fields of the other API that are sent to the provider if its model knows them.
    """

    model: str
    options: dict[str, Any] = field(repr=False)
    images: Sequence[str | SentImage] = field(default=(), repr=False)
    size: str = ""
    extras: dict[str, Any] = field(default_factory=dict, repr=False)

    def job_of(
        self, runtime: Runtime, *, key: str | None, path: str, announced: Announcement
    ) -> tuple[EnqueueResult, str, tuple[str, ...]]:
        """Create the job, or find the one that the request joins.

        Args:
            runtime: of this process.
            key: the idempotency key of the request, or None.
            path: of the request: the same content means something else at another one.
            announced: what the client says about repetitions.

        Returns:
            The job, the digest of the request (empty with a key), and the extras that the model
            does not know.

        Raises:
            InvalidRequest, IdempotencyMismatch, IdempotencyGone, TenantLimitReached,
            LedgerUnavailable: as for `create_job`.
            StorageError: the storage is away.
        """
        targets = resolve_model(runtime, self.model)
        request, ignored = self._request(runtime, targets)
        file = self._attach_images(runtime, request, targets)
        tenant = caller().tenant
        if key is not None:
            result = create_job(
                runtime, request, scope=API_SCOPE, tenant=tenant, key=key, file=file
            )
            return result, "", ignored
        digest = self._digest(path)
        result = join_or_create(
            runtime, request, digest=digest, announced=announced, tenant=tenant, file=file
        )
        return result, digest, ignored

    def _digest(self, path: str) -> str:
        images = [
            each if isinstance(each, str) else hashlib.sha256(each.content).hexdigest()
            for each in self.images
        ]
        content = (path, self.model, self.options, images, self.size, self.extras)
        return request_digest(caller().name, *content)

    def _request(
        self, runtime: Runtime, targets: Sequence[Target]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the request of the job, and the ignored extras."""
        first, *others = targets
        adapter = runtime.providers[first.provider]
        chosen = size_options(adapter, first.model, self.size) if self.size else {}
        family = adapter.families.get(first.model)
        model = adapter.models.get(family.default if family else first.model)
        known = set(model.schema.fields) if model else set()
        sent = {name: value for name, value in self.extras.items() if name in known}
        ignored = tuple(name for name in self.extras if name not in known)
        own = self.options.get("provider_options", {})
        provider_options = merged({**sent, **chosen.pop("provider_options", {})}, own)
        request = {**chosen, **self.options, "provider": first.provider, "model": first.model}
        if provider_options:
            request["provider_options"] = provider_options
        if others and "fallback" not in request:
            request["fallback"] = [{"provider": t.provider, "model": t.model} for t in others]
        return request, ignored

    def _attach_images(
        self, runtime: Runtime, request: dict[str, Any], targets: Sequence[Target]
    ) -> ImageFile | None:
        """Put the reference images into the request as links. Return a file that is sent itself."""
        if not self.images:
            return None
        only = self.images[0] if len(self.images) == 1 else None
        takes_file = runtime.providers[targets[0].provider].capabilities.upload_field
        if isinstance(only, SentImage) and takes_file and "fallback" not in request:
            return ImageFile("image", only.content)
        tenant = caller().tenant
        request["images"] = [
            each
            if isinstance(each, str)
            else Reference.of(runtime, tenant, each.name, each.content).store(runtime)
            for each in self.images
        ]
        return None


def decode_base64(field: str, text_: str) -> bytes:
    """Return the bytes of base64, of either alphabet.

    Raises:
        InvalidRequest: it is not base64.
    """
    try:
        padded = text_.strip().translate(_URL_SAFE) + "=" * (-len(text_.strip()) % 4)
        return b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(Violation(field, f"{len(text_)} characters", "base64")) from None
