"""The base class of provider adapters.

An adapter does no I/O. It states what the provider can do and what its models accept, writes calls,
and reads answers. This class decides once, for all providers, what may be requested, and its base
class what an answer means. A subclass maps the provider's own names.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from orchestrator.jobs.model import Cost
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.validation import InvalidRequest, OneOfNames, Violation, checked
from orchestrator.net.http_types import Call, Reply
from orchestrator.providers.answers import Answers, Capabilities
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
from orchestrator.providers.responses import QueryFailed, TaskNotFound, TaskReport
from orchestrator.security.secret import Secret
from orchestrator.security.signatures import BadSignature

__all__ = ["Capabilities", "Provider"]


class Provider(Answers):
    """One provider's API. A subclass holds only the mapping of names."""

    #: The name in URLs, file names and, in upper case, settings.
    name: ClassVar[str]
    #: Scheme and host. None: the documents name no address, so the setting is required.
    base_url: ClassVar[str | None]
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
            allowed = (
                f"left out: {self.title} accepts only links in images. Set ORCHESTRATOR_PUBLIC_URL,"
                " and the file becomes a link"
            )
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
        each, asked = prices.of(str(body.get("model")), others), model.options.get("n", ("n",))
        count = 1 if get_path(body, asked) is None else get_path(body, asked)
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

    def model_query_call(self, task_id: str, model: str) -> Call:
        """Return the call that queries a task, for an API whose address names the model, too."""
        return self.query_call(task_id)

    def result_call(self, task_id: str, model: str, reply: Reply) -> Call | None:
        """Return a second call, for an API whose answer to a query has no result.

        Args:
            task_id: of the task.
            model: of the request.
            reply: the answer to the query. None is returned unless it says that the task has ended.
        """
        return None

    def read_result(
        self, task_id: str, reply: Reply, now: int
    ) -> TaskReport | TaskNotFound | QueryFailed:
        """Return the meaning of the answer to `result_call`; `now` in ms. Never raises."""
        return self.read_query(reply, now)

    def webhook_secret_refusal(self, secret: str) -> str | None:
        """Return what a webhook secret must be if `secret` cannot be one, or None."""
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

    def verify_callback_by_keys(
        self, headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now: int
    ) -> None:
        """Check the provider's signature with its public keys, for a provider with a `jwks_url`.

        Args:
            headers: of the callback, names in lower case.
            body: as received.
            keys: Ed25519 keys of 32 bytes, at least one.
            now: ms.

        Raises:
            UnknownKey: none of the keys made the signature.
            BadSignature: the signature is absent or malformed.
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
