"""The contract of an emulated provider, and the code that all of them share."""

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from flask import Blueprint, Response, g, request

from .account_faults import AccountFaults
from .catalogue import REASONS
from .envelopes import CallbackBody, wrap
from .fault_kinds import Value
from .http_types import ConnectionClosedError, close_without_answer, send_interim
from .idempotency import IdempotencyKeys
from .image_files import ImageData, draw_image
from .link_forms import shape_link
from .odd_json import make_odd
from .pictures import PictureSpec
from .result_forms import data_url, reshape_result
from .settings import SandboxSettings
from .state_forms import shape_state
from .tasks import Task, TaskCharge, TaskOutcome, TaskStatus, TaskStore
from .thin_success import Channel, Path, hide_result, is_thin


@dataclass(frozen=True)
class TaskRequest:
    """One valid submission, in terms common to all providers."""

    model: str
    prompt: str
    pictures: tuple[PictureSpec, ...]
    charge: TaskCharge
    callback_url: str | None = None
    idempotency_key: str | None = None
    #: More fields that only its provider shows.
    notes: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A request that the provider refuses. Each provider has its own error envelope."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        field: str | None = None,
        code: str | None = None,
        hint: str | None = None,
        retry_after: int | str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        #: None uses the provider's own words for the status.
        self.message = message
        #: Path of the wrong field, such as `input.prompt`.
        self.field = field
        #: The provider's own code, if it has one besides the status.
        self.code = code
        self.hint = hint
        #: Value of Retry-After. A number is in seconds.
        self.retry_after = retry_after
        #: HTTP status of the answer, if it differs from the status in its body.
        self.http_status = http_status


#: The faults of callbacks. A provider without callbacks does not support them.
CALLBACK_FAULTS = frozenset({"drop", "duplicate", "late", "conflict", "forged", "envelope"})

#: Submits a request with its faults. The task is that of an earlier request with the same key.
Submit = Callable[["EmulatedProvider", TaskRequest, Task | None], tuple[Task, Response]]


class EmulatedProvider(ABC):
    """One emulated API. It holds only the details of that API."""

    #: Name in URLs, in the control API and in the ledger.
    name: ClassVar[str]
    #: Name as its owner writes it.
    title: ClassVar[str]
    #: Path of a submission.
    submit_path: ClassVar[str]
    #: Path of a task, up to its id.
    query_path: ClassVar[str]
    #: The scheme of the API key, in lower case.
    auth_scheme: ClassVar[str] = "bearer"
    #: Path of the public keys, which need no API key. Empty without such keys.
    key_set_path: ClassVar[str] = ""
    #: True if a query answers with the status alone, and the result has an address of its own.
    queries_status: ClassVar[bool] = False
    #: True if callbacks are signed by Standard Webhooks, with a secret `whsec_…`.
    standard_webhooks: ClassVar[bool] = False
    #: Path of the field of a submission that requests a callback. Empty without callbacks.
    callback_field: ClassVar[Path] = ()
    #: The smallest submission.
    example: ClassVar[Mapping[str, Any]]
    #: Delays before each retry of a callback. Seconds.
    retry_seconds: ClassVar[tuple[float, ...]] = ()
    #: How long image links work after the task ended. Seconds.
    link_ttl_seconds: ClassVar[float]
    #: Outcome of `fail` without a value: the content policy does not allow the prompt.
    failure: ClassVar[TaskOutcome]
    #: Codes of the other `REASONS`. A reason that is missing here is its own code.
    failures: ClassVar[Mapping[str, str]] = {}
    #: Field of a task that holds its state.
    state_field: ClassVar[str] = "status"
    #: Paths of the fields of a task that hold its result. Some may be missing.
    result_fields: ClassVar[tuple[Path, ...]]
    #: Faults that do not apply to this API.
    unsupported_faults: ClassVar[frozenset[str]] = frozenset()
    #: Status of the refusal of a task above the limit of tasks in flight.
    limit_status: ClassVar[int] = 429

    def __init__(
        self,
        settings: SandboxSettings,
        store: TaskStore,
        clock: Callable[[], float],
        submit: Submit,
        account_faults: AccountFaults,
    ) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.submit = submit
        self.account_faults = account_faults
        self.keys = IdempotencyKeys(clock)
        #: Most tasks in flight. One more is refused. None has no limit.
        self.max_in_flight = settings.max_in_flight.get(self.name, self.documented_limit())

    @property
    def webhook_secret(self) -> str | None:
        """The secret that signs the provider's callbacks, or None."""
        return self.settings.webhook_secrets.get(self.name)

    def blueprint(self) -> Blueprint:
        """Return the provider's routes below `/<name>`. They need its API key."""
        routes = Blueprint(self.name, __name__, url_prefix=f"/{self.name}")
        routes.before_request(self._authenticate)
        routes.after_request(self._apply_answer_faults)
        routes.register_error_handler(Refusal, self._answer_refusal)
        routes.register_error_handler(ConnectionClosedError, lambda _: close_without_answer())
        self.route(routes)
        return routes

    @abstractmethod
    def route(self, routes: Blueprint) -> None:
        """Add the provider's own routes."""

    @abstractmethod
    def refuse(self, refusal: Refusal) -> Response:
        """Return a refusal in the provider's error envelope."""

    @abstractmethod
    def accepted(self, task: Task) -> Response:
        """Return the answer to an accepted submission."""

    @abstractmethod
    def snapshot(
        self, task: Task, outcome: TaskOutcome | None, links: Sequence[str]
    ) -> dict[str, Any]:
        """Return the task as a query shows it, with this outcome and these links."""

    @abstractmethod
    def new_id(self) -> str:
        """Return an id for a new task."""

    def status(self, task: Task) -> str:
        """Return the status of the task in the provider's own words."""
        return str(self.snapshot(task, task.outcome, ())[self.state_field])

    def present(self, task: Task, outcome: TaskOutcome | None, channel: Channel) -> dict[str, Any]:
        """Return the task as this channel shows it, with the faults of the task."""
        is_success = outcome is not None and outcome.status is TaskStatus.SUCCEEDED
        thin = is_success and is_thin(self.store, task, channel, self.clock())
        links = self._result_links(task) if is_success and not thin else []
        view = self.snapshot(task, outcome, links)
        faults = task.faults
        if thin:
            hide_result(view, self.result_fields, faults.form("thin_form"))
            if "thin_reason" in faults:
                self.add_error(view, self.failed(faults.values["thin_reason"]))
        elif links and (form := faults.form("result_form")):
            reshape_result(view, self.result_fields, form, links, lambda n: self.draw(task, n).data)
        state = str(view[self.state_field])
        view[self.state_field] = shape_state(state, faults.form("state_form"))
        return view

    def add_error(self, view: MutableMapping[str, Any], outcome: TaskOutcome) -> None:
        """Add the reason of a failure to a task."""
        view["error"] = {"code": outcome.code, "message": outcome.message}

    def draw(self, task: Task, number: int) -> ImageData:
        """Draw one image of a task."""
        return draw_image(task, number, self.title)

    def documented_limit(self) -> int | None:
        """Return the provider's own limit of tasks in flight, or None."""
        return None

    def callback_body(
        self, task: Task, outcome: TaskOutcome | None, channel: Channel = Channel.CALLBACK
    ) -> CallbackBody:
        """Return the body of a callback and its headers."""
        return wrap(self.present(task, outcome, channel), task.faults)

    def signature(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that sign a callback."""
        return {}

    def wrong_signature(self, body: bytes) -> Mapping[str, str] | None:
        """Return headers with a wrong signature, or None if callbacks are not signed."""
        return None

    def opposite(self, task: Task) -> TaskOutcome:
        """Return the outcome that the task did not have."""
        if task.status is TaskStatus.SUCCEEDED:
            return self.failure
        return TaskOutcome(TaskStatus.SUCCEEDED)

    def failed(self, reason: Value) -> TaskOutcome:
        """Return the failure for one of `REASONS` or for a code of the provider."""
        if reason in (True, "content_policy", self.failure.code):
            return self.failure
        code = str(reason)
        message = REASONS.get(code, "Requested by a fault.")
        return TaskOutcome(TaskStatus.FAILED, self.failures.get(code, code), message)

    def find(self, task_id: str) -> Task | None:
        """Return the provider's task that a query asks for. Faults can hide it.

        Raises:
            Refusal: The fault `query` refuses the query.
        """
        task = self.store.get(task_id, self.name)
        if task is None or "forget" in task.faults:
            return None
        g.task = task
        status = self._query_refusal(task)
        if status not in (None, 404):
            raise Refusal(status)
        return task if status is None else None

    def submit_once(self, task_request: TaskRequest, key: str) -> tuple[Response, bool]:
        """Submit with an idempotency key.

        Returns:
            The answer, and True when an earlier request with the same key created the task.

        Raises:
            KeyMismatchError: The earlier request had another body.
            KeyInFlightError: The earlier request is not answered yet.
        """
        claim = self.keys.claim(key, hashlib.sha256(request.get_data()).digest())
        task = known = claim.task
        try:
            task, answer = self.submit(self, task_request, known)
        finally:
            self.keys.settle(key, claim, task)
        return answer, known is not None

    def _authenticate(self) -> None:
        if (request.method, request.path) == ("GET", f"/{self.name}{self.key_set_path}"):
            return
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        valid = hmac.compare_digest(key.strip().encode(), self.settings.api_key.encode())
        if scheme.lower() != self.auth_scheme or not valid:
            raise Refusal(401)
        status = self.account_faults.refusal(self.name, is_submission=request.method == "POST")
        if status is not None:
            raise Refusal(status)

    def _query_refusal(self, task: Task) -> int | None:
        """Return the status that the fault `query` gives to this query. Count the query."""
        value = task.faults.choice("query")
        if value is None or self.clock() - task.created_at < (value.seconds or 0):
            return None
        return int(value.name) if value.applies_to(self.store.count_query(task, "query")) else None

    def _result_links(self, task: Task) -> list[str]:
        if task.faults.form("result_form") == "data_url":
            files = (self.draw(task, number) for number in range(len(task.pictures)))
            return [data_url(file.data, file.content_type) for file in files]
        form = task.faults.form("link_form")
        return [shape_link(link, form) for link in task.links()]

    def _answer_refusal(self, refusal: Refusal) -> Response:
        answer = self.refuse(refusal)
        answer.status_code = refusal.http_status or answer.status_code
        if refusal.retry_after is not None:
            answer.headers["Retry-After"] = str(refusal.retry_after)
        return answer

    def _apply_answer_faults(self, answer: Response) -> Response:
        """Apply the faults of the task that a submission or a query is about."""
        task: Task | None = g.get("task")
        if task is None:
            return answer
        if (status := task.faults.form("early_hints")) is not None:
            send_interim(int(status))
        if answer.status_code == 200:
            answer.set_data(make_odd(answer.get_data(), task.faults.form("odd_json")))
        return answer
