"""The base class of provider adapters.

An adapter does no I/O. It states what the provider can do and what its models accept, writes calls,
and reads answers. This class decides once, for all providers, what may be requested and what an
answer means. A subclass maps the provider's own names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from orchestrator.jobs.model import Cost, ErrorCode, JobError, JobRequest
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation, checked
from orchestrator.net.http_types import Call, Reply
from orchestrator.providers.catalog import (
    CALLBACK_FIELDS,
    Family,
    Model,
    as_written,
    check_extras,
    checkable,
    get_path,
    merged,
    to_body,
)
from orchestrator.providers.prices import PriceTable
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    TaskNotFound,
    TaskReport,
    Unreadable,
    bare_error,
)
from orchestrator.security.secret import Secret
from orchestrator.security.signatures import BadSignature


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do besides submit and query."""

    #: The provider calls our URL when a task is terminal.
    callbacks: bool = False
    #: The provider signs its callbacks with a secret of its console.
    signed_callbacks: bool = False
    #: A callback is only a hint: it makes a poll due at once, and the poll settles the job.
    callback_is_hint: bool = False
    #: Lifetime of our idempotency key at the provider, seconds. 0: the provider accepts no key.
    idempotency_seconds: int = 0
    #: Lifetime of image links, seconds. None: unknown, or stated for each link.
    links_live_seconds: int | None = None
    #: The form field for an image file. None: the provider accepts only links.
    upload_field: str | None = None


class Provider(ABC):
    """One provider's API. A subclass holds only the mapping of names."""

    #: The name in URLs, file names and, in upper case, settings.
    name: ClassVar[str]
    #: The name as the provider's documents write it.
    title: ClassVar[str]
    #: Scheme and host. None: the documents name no address, so the setting is required.
    base_url: ClassVar[str | None]
    capabilities: ClassVar[Capabilities] = Capabilities()
    #: Models by the provider's own names.
    models: ClassVar[Mapping[str, Model]]
    #: Models by family name.
    families: ClassVar[Mapping[str, Family]] = {}
    #: The model for unlisted names in the native form. None: unlisted models are refused.
    unlisted: ClassVar[Model | None] = None
    #: Fields of the body that request a callback. `provider_options` must not set them.
    callback_fields: ClassVar[frozenset[str]] = CALLBACK_FIELDS
    #: First and longest time between polls, seconds.
    poll_seconds: ClassVar[float] = 3.0
    max_poll_seconds: ClassVar[float] = 30.0

    # Requests ------------------------------------------------------------------------------

    def check(self, request: JobRequest) -> None:
        """Refuse a request that the provider's documents do not allow.

        Raises:
            InvalidRequest: with each field as the caller wrote it.
        """
        if request.upload and self.capabilities.upload_field is None:
            allowed = f"left out: {self.title} accepts no files, only links in images"
            raise InvalidRequest(Violation("image_file", request.upload.name, allowed))
        name, options = self._resolved(request)
        model = self._model(name, request)
        violations = [
            violation
            for option, value in options.items()
            if (violation := self._unsupported(model, name, option, value))
        ]
        try:
            check_extras(request.provider_options, self.callback_fields)
            body = checkable(model.schema, self.body(request), request.provider_options)
            checked(model.schema, body)
        except InvalidRequest as error:
            violations += [as_written(v, model, request) for v in error.violations]
        if violations:
            raise InvalidRequest(*violations)

    def body(self, request: JobRequest) -> dict[str, Any]:
        """Return the provider's body for a checked request, without callback and file."""
        if request.native is not None:
            return {**request.native}
        name, options = self._resolved(request)
        return merged(self.unified(name, options, request), request.provider_options)

    def unified(self, name: str, options: Mapping[str, Any], request: JobRequest) -> dict[str, Any]:
        """Return the body of model `name` for unified options."""
        return to_body(self.models[name], name, options)

    def price(
        self, request: JobRequest, prices: PriceTable, returned: int | None = None
    ) -> Cost | None:
        """Return the cost of a request by a price table, or None without a price.

        Args:
            request: a checked request.
            prices: the provider's price table.
            returned: number of images that arrived, or None before that.
        """
        body = self.body(request)
        model = self._model(str(body.get("model")), request)
        others = [str(get_path(body, path) or default) for path, default in model.priced_by.items()]
        each, count = prices.of(str(body.get("model")), others), body.get("n", 1)
        if model.bills_returned and returned is not None:
            count = returned
        if each is None or not isinstance(count, int):
            return None
        return Cost(round(each * count, 9), prices.unit, "computed")

    def callback_refusal(self, url: str) -> str | None:
        """Return why the provider would refuse `url` for callbacks, or None if it accepts it."""
        return None

    @abstractmethod
    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """Return the call that submits `body`.

        Args:
            body: the provider's body.
            callback_url: our URL for the callback, or None.
            key: the idempotency key of the attempt, for providers that accept one.
        """

    def authorize(self, call: Call, api_key: Secret) -> Call:
        """Return the call with our API key. The default is `Authorization: Bearer`."""
        headers = {"Authorization": f"Bearer {api_key.reveal()}", **call.headers}
        return replace(call, headers=headers)

    @abstractmethod
    def query_call(self, task_id: str) -> Call:
        """Return the call that queries a task."""

    # Answers -------------------------------------------------------------------------------

    def read_submit(self, reply: Reply) -> Accepted | Rejected | Ambiguous:
        """Return the meaning of the answer to a submission. Never raises."""
        document = reply.object()
        if reply.status // 100 == 2 and document is not None:
            accepted = self._accepted(document)
            if accepted:
                return accepted
        error = self.read_error(reply.status, document) if document is not None else None
        if error:
            return Rejected(error, self._retry_after(reply, document))
        if 300 <= reply.status < 500:
            return Rejected(bare_error(reply), reply.retry_after())
        return Ambiguous(f"HTTP {reply.status} without an error document", reply.retry_after())

    def read_query(self, reply: Reply, now: int) -> TaskReport | TaskNotFound | QueryFailed:
        """Return the meaning of the answer to a query; `now` in ms. Never raises."""
        document = reply.object()
        if reply.status // 100 == 2 and document is not None:
            try:
                return self.read_task(self.unwrap(document), now)
            except Unreadable as unreadable:
                reason = str(unreadable)
        else:
            reason = f"HTTP {reply.status} without an error document"
        error = self.read_error(reply.status, document) if document is not None else None
        if error and error.code is ErrorCode.NOT_FOUND:
            return TaskNotFound()
        error = error or JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason, retryable=True)
        return QueryFailed(error, self._retry_after(reply, document))

    @abstractmethod
    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """Read a 2xx answer to a submission.

        Raises:
            Unreadable: the answer names no task.
        """

    @abstractmethod
    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Return the provider's error in a document, or None when it holds no such error."""

    @abstractmethod
    def read_task(self, document: Any, now: int) -> TaskReport:
        """Read a task from a callback or from an unwrapped query answer; `now` in ms.

        Raises:
            Unreadable: the document is not a task.
        """

    def unwrap(self, document: dict[str, Any]) -> Any:
        """Return the task inside the envelope of a query answer."""
        return document

    def hinted_retry_after(self, document: dict[str, Any]) -> float | None:
        """Return the seconds to wait that an error document names, for answers without a header."""
        return None

    def verify_callback(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret], now: int
    ) -> None:
        """Check the provider's signature over the raw body.

        Args:
            headers: of the callback, names in lower case.
            body: as received.
            secrets: at least one, newest first.
            now: ms.

        Raises:
            BadSignature: the signature is absent or wrong.
        """
        raise BadSignature(f"{self.title} does not sign its callbacks")

    # ---------------------------------------------------------------------------------------

    def _resolved(self, request: JobRequest) -> tuple[str, dict[str, Any]]:
        """Return the provider's model for a request, and the unified options for it."""
        family = self.families.get(request.model)
        if family is None or request.native is not None or request.model in self.models:
            return request.model, dict(request.options)
        return family.choose(request.options)

    def _model(self, name: str, request: JobRequest) -> Model:
        listed = self.models.get(name)
        if listed:
            return listed
        if self.unlisted and request.native is not None:
            return self.unlisted
        names = [*self.models] if request.native else [*self.models, *self.families]
        allowed = f"one of {self.title}'s models: {', '.join(names)}"
        if self.unlisted:
            allowed += "; or any other name in the native form, with its own body in `request`"
        raise InvalidRequest(Violation("model", name, OneOfNames(names, allowed)))

    def _unsupported(self, model: Model, name: str, option: str, value: Any) -> Violation | None:
        if option in model.options:
            return None
        if option == "n":
            only_one = f"1: {self.title} makes one image per task"
            return None if value == 1 else Violation("n", value, only_one)
        accepted = ", ".join(model.options)
        allowed = f"left out: {self.title} does not accept {option}; it accepts {accepted}"
        tiered = [f for f, family in self.families.items() if name in family.tiers.values()]
        if option == "resolution" and tiered:
            allowed += f"; the resolution is part of the name {name}; {tiered[0]} accepts one"
        return Violation(option, value, allowed)

    def _accepted(self, document: dict[str, Any]) -> Accepted | None:
        try:
            return self.read_accepted(document)
        except Unreadable:
            return None

    def _retry_after(self, reply: Reply, document: dict[str, Any] | None) -> float | None:
        asked = reply.retry_after()
        if asked is None and document is not None:
            asked = self.hinted_retry_after(document)
        return asked
