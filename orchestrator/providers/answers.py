"""What the answers and callbacks of a provider mean. A provider's adapter inherits it.

An adapter reads its provider's own names. This module decides once, for all providers, which answer
is a task, a refusal or neither, and reads what the documents do not say: other spellings, forms and
envelopes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from orchestrator.jobs.model import Cost, ErrorCode, Image, JobError, Outcome, Status
from orchestrator.net.http_types import Reply
from orchestrator.providers.catalog import Model
from orchestrator.providers.envelopes import inner_documents
from orchestrator.providers.errors import Codes, bare_error, failure, reason_of, thin_success
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    Stateless,
    TaskNotFound,
    TaskReport,
    Unreadable,
    task_id,
)
from orchestrator.providers.results import result_images
from orchestrator.providers.states import States, is_documented, terminal_status

#: A provider's code that is the number of a 5xx.
_SERVER_ERROR = re.compile(r"5\d\d")
#: The HTTP status of a server that does not take requests for now, and of one that gave up waiting.
SERVICE_UNAVAILABLE, GATEWAY_TIMEOUT = 503, 504
#: Errors that prove that there is no task, whatever the HTTP status is.
_REFUSALS = frozenset(
    {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.AUTHENTICATION,
        ErrorCode.INSUFFICIENT_CREDITS,
        ErrorCode.PERMISSION,
        ErrorCode.NOT_FOUND,
        ErrorCode.TOO_LARGE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.TASK_LIMIT,
        ErrorCode.CONTENT_POLICY,
    }
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do besides submit and query."""

    #: The provider calls our URL when a task is terminal.
    callbacks: bool = False
    #: The provider signs its callbacks with a secret of its console.
    signed_callbacks: bool = False
    #: The address of the Ed25519 keys that sign the callbacks, as a JSON Web Key Set. It is the
    #: default of a setting. None: the provider has no such keys.
    jwks_url: str | None = None
    #: A callback is only a hint: it makes a poll due at once, and the poll settles the job.
    callback_is_hint: bool = False
    #: Lifetime of our idempotency key at the provider, seconds. 0: the provider accepts no key.
    idempotency_seconds: int = 0
    #: Lifetime of image links, seconds. None: unknown, or stated for each link.
    links_live_seconds: int | None = None
    #: The form field for an image file. None: the provider accepts only links.
    upload_field: str | None = None


class Answers(ABC):
    """The reading side of a provider. A subclass maps the provider's own names."""

    #: The name as the provider's documents write it.
    title: ClassVar[str]
    capabilities: ClassVar[Capabilities] = Capabilities()
    #: Models by the provider's own names.
    models: ClassVar[Mapping[str, Model]]
    #: The documented states -> terminal status, or None while the task runs. Case does not matter,
    #: and the usual synonyms of terminal states are known. Every other state counts as running.
    states: ClassVar[States] = {}
    #: The documented places of a task's images, such as `metadata.result_urls`. The usual places
    #: are searched after them.
    results: ClassVar[tuple[str, ...]] = ()
    #: The provider's codes of 5xx answers that prove that there is no task. After any other 5xx
    #: there may be one.
    refusals: ClassVar[frozenset[str]] = frozenset()
    #: Whether a 503 with another code of the provider proves that, too: such a server did not take
    #: the request (RFC 9110). A provider with idempotency keys gets the same key again in any case.
    named_503_is_refusal: ClassVar[bool] = True

    def read_submit(self, reply: Reply) -> Accepted | Rejected | Ambiguous:
        """Return the meaning of the answer to a submission. Never raises."""
        document = reply.object()
        if reply.status // 100 == 2 and document is not None:
            accepted = self._accepted(document)
            if accepted:
                return accepted
        error = self._stated_error(reply.status, document) if document is not None else None
        wait = self._retry_after(reply, document)
        if error and self._proves_no_task(reply.status, error):
            return Rejected(error, wait)
        if error:
            return Ambiguous(f"HTTP {reply.status}: {error.message}", wait)
        if 300 <= reply.status < 500:
            return Rejected(bare_error(reply), wait)
        return Ambiguous(f"HTTP {reply.status} without an error document", wait)

    def read_query(self, reply: Reply, now: int) -> TaskReport | TaskNotFound | QueryFailed:
        """Return the meaning of the answer to a query; `now` in ms. Never raises."""
        document = reply.object()
        reason = f"HTTP {reply.status} without an error document"
        error = None
        if document is not None:
            error = self.read_error(reply.status, document)
            if reply.status // 100 == 2:
                try:
                    return self._queried(document, error, now)
                except Unreadable as unreadable:
                    reason = str(unreadable)
            error = error or self._stated_error(reply.status, document)
        if error and error.code is ErrorCode.NOT_FOUND:
            return TaskNotFound()
        error = error or JobError(ErrorCode.PROVIDER_UNAVAILABLE, reason, retryable=True)
        return QueryFailed(error, self._retry_after(reply, document))

    def read_callback(self, document: Any, now: int) -> TaskReport:
        """Read a task from the JSON of a callback, also in an envelope; `now` in ms.

        An envelope may look like a task, too. Then images count first, then a documented state.

        Raises:
            Unreadable: there is no task in it.
        """
        reports, reason = list[TaskReport](), Unreadable("the body is not a JSON object")
        for candidate in inner_documents(document):
            try:
                reports.append(self.read_task(candidate, now))
            except Unreadable as unreadable:
                reason = unreadable
        if not reports:
            raise reason
        return reports[0] if len(reports) == 1 else self._likeliest(reports)

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

    def report(
        self,
        task: Mapping[str, Any],
        identifier: Any,
        state: Any,
        now: int,
        *,
        error: Any = None,
        codes: Codes | None = None,
        cost: Cost | None = None,
    ) -> TaskReport:
        """Return the report of a task, with its images from `results` or another usual place.

        Args:
            task: the provider's object.
            identifier: its id.
            state: its state, which `states` or a usual synonym explains.
            now: ms.
            error: the provider's error, if it has a place of its own in the task.
            codes: the provider's codes -> our code, and whether the error may pass.
            cost: the reported cost.

        Raises:
            Unreadable: the id or the state has another form.
        """
        images = self._images(task, now)
        if not isinstance(state, str):
            message = f"a task of {self.title} has an id and a state"
            if images:
                raise Stateless(message, TaskReport(task_id(identifier), "no state", images=images))
            raise Unreadable(message)
        status = terminal_status(state, self.states)
        report = TaskReport(task_id(identifier), state)
        if status is None:
            return replace(report, images=images)
        if status is Status.SUCCEEDED and images:
            return replace(report, outcome=Outcome.succeeded(images, cost))
        reason, known = reason_of(task, error), codes or {}
        if status is Status.SUCCEEDED:
            return replace(report, thin_success=thin_success(reason, known))
        outcome = self._without_success(status, reason, known, cost)
        return replace(report, outcome=outcome, images=images)

    def unwrap(self, document: dict[str, Any]) -> Any:
        """Return the task inside the envelope of a query answer."""
        return document

    def hinted_retry_after(self, document: dict[str, Any]) -> float | None:
        """Return the seconds to wait that an error document names, for answers without a header."""
        return None

    def _likeliest(self, reports: list[TaskReport]) -> TaskReport:
        """Return the report with images, or else one with a documented state, or the innermost."""

        def rank(numbered: tuple[int, TaskReport]) -> tuple[bool, bool, int]:
            depth, report = numbered
            made = bool(report.outcome and report.outcome.images)
            return made, is_documented(report.state, self.states), depth

        return max(enumerate(reports), key=rank)[1]

    def _without_success(
        self, status: Status, reason: Any, known: Codes, cost: Cost | None
    ) -> Outcome:
        """Return the outcome of a task that failed or was cancelled."""
        if status is not Status.CANCELLED:
            return Outcome.failed(failure(reason, known), cost)
        message = failure(reason, known, f"the task was cancelled at {self.title}").message
        error = JobError(ErrorCode.CANCELLED, message)
        return Outcome(Status.CANCELLED, error=error, cost=cost)

    def _accepted(self, document: dict[str, Any]) -> Accepted | None:
        """Return what the answer says of a task, or None when it names none."""
        for candidate in inner_documents(document):
            try:
                return self.read_accepted(candidate)
            except Unreadable:
                continue
        return None

    def _stated_error(self, status: int, document: dict[str, Any]) -> JobError | None:
        """Return the error in a document that names no task, or in what it wraps."""
        errors = (self.read_error(status, each) for each in inner_documents(document))
        return next(filter(None, errors), None)

    def _queried(self, document: dict[str, Any], error: JobError | None, now: int) -> TaskReport:
        """Return the task in an answer to a query. An envelope with an error has no task.

        A task with results and without a state counts as running, so that it is a success at the
        deadline.

        Raises:
            Unreadable: there is no task in it.
        """
        try:
            return self.read_task(self.unwrap(document), now)
        except Unreadable as unreadable:
            first = unreadable
        try:
            return self.read_task(document, now) if error else self.read_callback(document, now)
        except Unreadable:
            if isinstance(first, Stateless):
                return first.report
            raise

    def _proves_no_task(self, status: int, error: JobError) -> bool:
        """Return whether an error proves that the provider made no task."""
        if error.code in _REFUSALS:
            return True
        if status == GATEWAY_TIMEOUT:
            return False  # a gateway waited for an answer, so somebody has the request
        code = error.provider_code
        if code in self.refusals:
            return True
        if code and _SERVER_ERROR.fullmatch(code):
            return False  # a number proves no more than an HTTP status; some APIs send it in a 200
        if code and status == SERVICE_UNAVAILABLE:
            return self.named_503_is_refusal and not self.capabilities.idempotency_seconds
        return status < 500

    def _images(self, task: Mapping[str, Any], now: int) -> tuple[Image, ...]:
        lifetime = self.capabilities.links_live_seconds
        expires = now + 1000 * lifetime if lifetime and now else None
        return result_images(task, self.results, inputs=self._inputs(), now=now, expires=expires)

    def _inputs(self) -> set[str]:
        """Return the names of the request's images."""
        paths = (model.options.get("images", ()) for model in self.models.values())
        return {path[-1] for path in paths if path} | {self.capabilities.upload_field or ""}

    def _retry_after(self, reply: Reply, document: dict[str, Any] | None) -> float | None:
        asked = reply.retry_after()
        if asked is None and document is not None:
            asked = self.hinted_retry_after(document)
        return asked
