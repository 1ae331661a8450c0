"""The contract between the core and one provider's API.

An adapter is pure: it turns data into data and does no I/O. It says what the provider can do, which
models it has and what they take, how a call is written, and what an answer means. What may be
asked and what an answer means is decided here, once, for all of them; an adapter fills in the
provider's own names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from orchestrator.jobs.model import Cost, ErrorCode, JobError, JobRequest
from orchestrator.jobs.validation import InvalidRequest, Violation, checked
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
    """What a provider can do beyond submit and query."""

    #: Calls a URL of ours when a task is terminal.
    callbacks: bool = False
    #: Signs those calls with a secret set in its console.
    signed_callbacks: bool = False
    #: How long (seconds) it remembers our idempotency key on a submit; 0: it takes none.
    idempotency_seconds: int = 0
    #: How long (seconds) its image links live; None: it does not say, or says it link by link.
    links_live_seconds: int | None = None
    #: The form field that takes an image file in the request; None: it takes only links.
    upload_field: str | None = None


class Provider(ABC):
    """One provider's API. Subclasses hold the wire mapping and nothing else."""

    #: In URLs, settings (upper case) and file names.
    name: ClassVar[str]
    #: As its own documents write it.
    title: ClassVar[str]
    #: Scheme and host; None: its documents name none, and the setting must.
    base_url: ClassVar[str | None]
    capabilities: ClassVar[Capabilities]
    #: The provider's own names of its models.
    models: ClassVar[Mapping[str, Model]]
    #: Names that mean the same at every provider.
    families: ClassVar[Mapping[str, Family]] = {}
    #: What the native form may say to a model that is not listed; None: such models are refused.
    unlisted: ClassVar[Model | None] = None
    #: Fields of the body in which a callback is asked for; `provider_options` may not set them.
    callback_fields: ClassVar[frozenset[str]] = CALLBACK_FIELDS
    #: First and longest time between polls, seconds.
    poll_seconds: ClassVar[float] = 3.0
    max_poll_seconds: ClassVar[float] = 30.0

    # Requests ------------------------------------------------------------------------------

    def check(self, request: JobRequest) -> None:
        """Refuse what the provider's document does not allow, before anything is stored or sent.

        Raises:
            InvalidRequest: naming each field as the caller wrote it.
        """
        if request.upload and self.capabilities.upload_field is None:
            allowed = f"absent: {self.title} takes no files, only links in images"
            raise InvalidRequest(Violation("image_file", request.upload.name, allowed))
        name, options = self._resolved(request)
        model = self._model(name, request)
        wrong = [v for v in (self._unsayable(model, name, o, options[o]) for o in options) if v]
        try:
            check_extras(request.provider_options, self.callback_fields)
            body = checkable(model.schema, self.body(request), request.provider_options)
            checked(model.schema, body)
        except InvalidRequest as error:
            wrong += [as_written(v, model, request) for v in error.violations]
        if wrong:
            raise InvalidRequest(*wrong)

    def body(self, request: JobRequest) -> dict[str, Any]:
        """The provider's own request body for a checked request, without callback and upload."""
        if request.native is not None:
            return {**request.native}
        name, options = self._resolved(request)
        return merged(self.unified(name, options, request), request.provider_options)

    def unified(self, name: str, options: Mapping[str, Any], request: JobRequest) -> dict[str, Any]:
        """The body that says unified options to model `name`."""
        return to_body(self.models[name], name, options)

    def price(
        self, request: JobRequest, prices: PriceTable, returned: int | None = None
    ) -> Cost | None:
        """What a request costs by a price table, or None when the table does not say.

        Args:
            request: a checked one.
            prices: of this provider.
            returned: how many images came, once they did.
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
        """Why the provider would not take `url` for callbacks, or None if it would."""
        return None

    @abstractmethod
    def submit_call(self, body: dict[str, Any], callback_url: str | None, key: str) -> Call:
        """The call that submits `body`; `key` identifies the attempt, where that is understood."""

    def authorize(self, call: Call, api_key: Secret) -> Call:
        """Return the call with our API key. The default is `Authorization: Bearer`."""
        headers = {"Authorization": f"Bearer {api_key.reveal()}", **call.headers}
        return replace(call, headers=headers)

    @abstractmethod
    def query_call(self, task_id: str) -> Call:
        """The call that asks for a task."""

    # Answers -------------------------------------------------------------------------------

    def read_submit(self, reply: Reply) -> Accepted | Rejected | Ambiguous:
        """What the answer to a submit means. Never raises, whatever was answered."""
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
        return Ambiguous(
            f"HTTP {reply.status} without the provider's own words", reply.retry_after()
        )

    def read_query(self, reply: Reply, now: int) -> TaskReport | TaskNotFound | QueryFailed:
        """What the answer to a query means; `now` in ms. Never raises, whatever was answered."""
        document = reply.object()
        if reply.status // 100 == 2 and document is not None:
            try:
                return self.read_task(self.unwrap(document), now)
            except Unreadable as unreadable:
                reason = str(unreadable)
        else:
            reason = f"HTTP {reply.status} without the provider's own words"
        error = self.read_error(reply.status, document) if document is not None else None
        if error and error.code is ErrorCode.NOT_FOUND:
            return TaskNotFound()
        error = error or JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason, retryable=True)
        return QueryFailed(error, self._retry_after(reply, document))

    @abstractmethod
    def read_accepted(self, document: dict[str, Any]) -> Accepted:
        """A 2xx answer to a submit.

        Raises:
            Unreadable: it names no task.
        """

    @abstractmethod
    def read_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """The provider's error in a document, or None when it is not one of the provider's."""

    @abstractmethod
    def read_task(self, document: Any, now: int) -> TaskReport:
        """A task as a callback or an unwrapped query answer shows it; `now` in ms.

        Raises:
            Unreadable: it has not the shape of a task.
        """

    def unwrap(self, document: dict[str, Any]) -> Any:
        """The task inside a query answer's envelope."""
        return document

    def hinted_retry_after(self, document: dict[str, Any]) -> float | None:
        """Seconds to wait that an error document asks for in words, where there is no header."""
        return None

    def verify_callback(
        self, headers: Mapping[str, str], body: bytes, secrets: Sequence[Secret], now: int
    ) -> None:
        """Check the provider's own signature over the raw body; header names in lower case.

        Called only where a secret is set, which only providers with signed callbacks have; `now`
        is in ms.

        Raises:
            BadSignature: it is absent or wrong.
        """
        raise BadSignature(f"{self.title} does not sign its callbacks")

    # ---------------------------------------------------------------------------------------

    def _resolved(self, request: JobRequest) -> tuple[str, dict[str, Any]]:
        """The provider's own model for a request, and the unified options to say to it."""
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
        names = ", ".join(self.models if request.native else {**self.models, **self.families})
        allowed = f"one of {self.title}'s models: {names}"
        if self.unlisted:
            allowed += "; or any other in the native form, with its own body in `request`"
        raise InvalidRequest(Violation("model", name, allowed))

    def _unsayable(self, model: Model, name: str, option: str, value: Any) -> Violation | None:
        if option in model.options:
            return None
        if option == "n":
            only_one = f"1: {self.title} makes one image a task"
            return None if value == 1 else Violation("n", value, only_one)
        taken = ", ".join(model.options)
        allowed = f"{self.title} does not take {option}; it takes {taken}"
        tiered = [f for f, family in self.families.items() if name in family.tiers.values()]
        if option == "resolution" and tiered:
            allowed += f"; the name {name} says its resolution, and {tiered[0]} takes one"
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
