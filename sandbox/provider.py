"""The contract of an emulated provider, and the code that all of them share."""

import hashlib
import hmac
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from flask import Blueprint, Response, request

from .faults import REASONS, Value
from .idempotency import IdempotencyKeys
from .pictures import PictureSpec
from .settings import SandboxSettings
from .tasks import Task, TaskCharge, TaskOutcome, TaskStatus, TaskStore


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
        retry_after: int | None = None,
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
        #: Seconds.
        self.retry_after = retry_after


#: The faults of callbacks. A provider without callbacks does not support them.
CALLBACK_FAULTS = frozenset({"drop", "duplicate", "late", "conflict", "forged"})

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
    #: Faults that do not apply to this API.
    unsupported_faults: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        settings: SandboxSettings,
        store: TaskStore,
        clock: Callable[[], float],
        submit: Submit,
    ) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.submit = submit
        self.keys = IdempotencyKeys(clock)

    def blueprint(self) -> Blueprint:
        """Return the provider's routes below `/<name>`. They need its API key."""
        routes = Blueprint(self.name, __name__, url_prefix=f"/{self.name}")
        routes.before_request(self._authenticate)
        routes.register_error_handler(Refusal, self.refuse)
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
    def snapshot(self, task: Task, outcome: TaskOutcome | None) -> dict[str, Any]:
        """Return the task as a query shows it, with this outcome."""

    @abstractmethod
    def new_id(self) -> str:
        """Return an id for a new task."""

    def status(self, task: Task) -> str:
        """Return the status of the task in the provider's own words."""
        return str(self.snapshot(task, task.outcome)["status"])

    def max_running_tasks(self) -> int | None:
        """Return the limit of running tasks. One more is refused with 409. None has no limit."""
        return None

    def callback_body(self, task: Task, outcome: TaskOutcome | None) -> bytes:
        """Return the body of a callback."""
        return json.dumps(self.snapshot(task, outcome), ensure_ascii=False).encode()

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
        """Return the provider's task with this id. The fault `forget` hides it."""
        task = self.store.get(task_id, self.name)
        return None if task is None or "forget" in task.faults else task

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
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        valid = hmac.compare_digest(key.strip().encode(), self.settings.api_key.encode())
        if scheme.lower() != "bearer" or not valid:
            raise Refusal(401)
