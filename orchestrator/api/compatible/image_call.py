"""A call that asks for images, in our own terms: from another API's request to a job."""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orchestrator.api.auth import caller
from orchestrator.api.compatible.held_call import CallJob
from orchestrator.enqueuing import API_SCOPE, create_job, key_owner
from orchestrator.job_check import check_job
from orchestrator.jobs.model import Job
from orchestrator.jobs.request import Target
from orchestrator.jobs.uploads import ImageFile
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.ledger import Idempotency
from orchestrator.operations.image_size import size_options
from orchestrator.operations.model_names import resolve_model
from orchestrator.operations.repeated_requests import (
    Announcement,
    join_or_create,
    joined_job,
    request_digest,
)
from orchestrator.providers.catalog import Model, merged
from orchestrator.reference_images import Reference
from orchestrator.runtime import Runtime

#: The most reference images of a request.
MAX_IMAGES = 16
#: The most jobs of a request: OpenAI's clients may ask for 10 images.
MAX_JOBS = 10
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

    def jobs_of(
        self, runtime: Runtime, *, key: str | None, path: str, announced: Announcement
    ) -> tuple[tuple[CallJob, ...], tuple[str, ...]]:
        """Create the jobs, or find those that the request joins.

        A provider that makes one image per task gets a job for each image. If one of them is
        refused, the repeated request joins those before it.

        Args:
            runtime: of this process.
            key: the idempotency key of the request, or None.
            path: of the request: the same content means something else at another one.
            announced: what the client says about repetitions.

        Returns:
            The jobs, and the extras that the model does not know.

        Raises:
            InvalidRequest, IdempotencyMismatch, IdempotencyGone, TenantLimitReached,
            LedgerUnavailable: as for `create_job`.
            StorageError: the storage is away.
        """
        earlier = self._earlier_jobs(runtime, key=key, path=path, announced=announced)
        if earlier:
            # Whatever the name of the model, its provider and its limits mean now.
            return earlier
        return self._made_jobs(runtime, key=key, path=path, announced=announced)

    def _made_jobs(
        self, runtime: Runtime, *, key: str | None, path: str, announced: Announcement
    ) -> tuple[tuple[CallJob, ...], tuple[str, ...]]:
        targets = resolve_model(runtime, self.model)
        model = _model_of(runtime, targets[0])
        request, ignored = self._request(runtime, targets, model)
        file, references = self._attach_images(runtime, request, targets)
        count = _take_count(request, model)
        if "fallback" not in self.options:
            request = _without_unfit_fallbacks(runtime, request, file)
        job = partial(self._job, runtime, request, key=key, path=path, announced=announced)
        jobs = [job(number, file=file, references=references) for number in range(count)]
        return tuple(jobs), ignored

    def _job(
        self,
        runtime: Runtime,
        request: dict[str, Any],
        number: int,
        *,
        key: str | None,
        path: str,
        announced: Announcement,
        **images: Any,
    ) -> CallJob:
        """Create job number `number` of the request, or find the one that it joins."""
        tenant = caller().tenant
        digest = self._digest(path, number, key)
        if key is not None:
            scope = _scope(number)
            made = create_job(runtime, request, scope=scope, tenant=tenant, key=key, **images)
            if not made.replayed:
                runtime.ledger.repeats.remember(digest, made.job.id)
            return CallJob(made.job.id, "", made.replayed)
        made = join_or_create(
            runtime, request, digest=digest, announced=announced, tenant=tenant, **images
        )
        return CallJob(made.job.id, digest, made.replayed)

    def _earlier_jobs(
        self, runtime: Runtime, *, key: str | None, path: str, announced: Announcement
    ) -> tuple[tuple[CallJob, ...], tuple[str, ...]] | None:
        """Return the jobs that the same call made before, or None if it has not all of them."""
        jobs, count, ignored = list[CallJob](), 1, tuple[str, ...]()
        while len(jobs) < count:
            number = len(jobs)
            digest = self._digest(path, number, key)
            if key is None:
                job = joined_job(runtime, digest, announced)
            else:
                job = _job_of_key(runtime, key, number, digest)
            if job is None:
                return None
            jobs.append(CallJob(job.id, digest if key is None else "", joined=True))
            asked = self.options.get("n", 1)
            # Without an `n` of its own, it is one of several.
            count = 1 if job.request.options.get("n", 1) == asked else asked
            target = Target(job.request.provider, job.request.model)
            ignored = self._ignored(_model_of(runtime, target))
        return tuple(jobs), ignored

    def _ignored(self, model: Model | None) -> tuple[str, ...]:
        """Return the extras that a model does not know."""
        known = set(model.schema.fields) if model else set()
        return tuple(name for name in self.extras if name not in known)

    def _digest(self, path: str, number: int, key: str | None = None) -> str:
        images = [
            each if isinstance(each, str) else hashlib.sha256(each.content).hexdigest()
            for each in self.images
        ]
        content = (path, self.model, self.options, images, self.size, self.extras, number)
        return request_digest(caller().name, *content, *([] if key is None else [key]))

    def _request(
        self, runtime: Runtime, targets: Sequence[Target], model: Model | None
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the request of the job, and the ignored extras."""
        first, *others = targets
        adapter = runtime.providers[first.provider]
        chosen = size_options(adapter, first.model, self.size) if self.size else {}
        ignored = self._ignored(model)
        sent = {name: value for name, value in self.extras.items() if name not in ignored}
        sent |= chosen.pop("provider_options", {})
        request = {**chosen, **self.options, "provider": first.provider, "model": first.model}
        own = request.get("provider_options", {})
        if sent and isinstance(own, dict):
            request["provider_options"] = merged(sent, own)
        if others and "fallback" not in request:
            request["fallback"] = [{"provider": t.provider, "model": t.model} for t in others]
        return request, ignored

    def _attach_images(
        self, runtime: Runtime, request: dict[str, Any], targets: Sequence[Target]
    ) -> tuple[ImageFile | None, list[Reference]]:
        """Put links to the reference images into the request.

        Returns:
            A file that is sent itself, and the images that are served as links.
        """
        if not self.images:
            return None, []
        only = self.images[0] if len(self.images) == 1 else None
        takes_file = runtime.providers[targets[0].provider].capabilities.upload_field
        if isinstance(only, SentImage) and takes_file and "fallback" not in request:
            return ImageFile("image", only.content), []
        tenant = caller().tenant
        images = [
            each
            if isinstance(each, str)
            else Reference.of(runtime, tenant, each.name, each.content)
            for each in self.images
        ]
        request["images"] = [e if isinstance(e, str) else e.link for e in images]
        return None, [each for each in images if isinstance(each, Reference)]


def _scope(number: int) -> str:
    return API_SCOPE if number == 0 else f"{API_SCOPE}.{number}"


def _job_of_key(runtime: Runtime, key: str, number: int, digest: str) -> Job | None:
    """Return the job of an idempotency key if a call with this digest made it."""
    latest = runtime.ledger.repeats.latest(digest)
    if latest is None:
        return None
    owner = key_owner(_scope(number), caller().tenant)
    known = runtime.ledger.idempotency_keys.find(Idempotency(owner, key))
    return runtime.ledger.get(latest.job_id) if known and known[0] == latest.job_id else None


def _without_unfit_fallbacks(
    runtime: Runtime, request: dict[str, Any], file: ImageFile | None
) -> dict[str, Any]:
    """Return a request with those fallbacks of its route that can make it.

    The caller did not choose them, so they do not decide what the caller may ask for.
    """
    fitting = []
    for fallback in request.pop("fallback", []):
        try:
            check_job(runtime, {**request, "fallback": [fallback]}, caller().tenant, file)
        except InvalidRequest as error:
            if all(each.field.startswith("fallback") for each in error.violations):
                continue
        fitting.append(fallback)
    return {**request, "fallback": fitting} if fitting else request


def _model_of(runtime: Runtime, target: Target) -> Model | None:
    """Return the model of a target, or None if the provider does not list it."""
    adapter = runtime.providers.get(target.provider)
    if adapter is None:
        return None
    family = adapter.families.get(target.model)
    return adapter.models.get(family.default if family else target.model)


def _take_count(request: dict[str, Any], model: Model | None) -> int:
    """Return the number of jobs for a request. Its `n` is removed if the model does not have it.

    Raises:
        InvalidRequest: it asks for more jobs than one request may have.
    """
    count: int = request.get("n", 1)
    if model is None or "n" in model.options:
        return 1
    if count > MAX_JOBS:
        raise InvalidRequest(Violation("n", count, f"a whole number from 1 to {MAX_JOBS}"))
    request.pop("n", None)
    return count


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
