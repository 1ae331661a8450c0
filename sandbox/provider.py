"""The contract each emulated provider fulfils, and what all of them do alike."""

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
from .pictures import Picture
from .settings import Settings
from .tasks import Charge, Outcome, Status, Task, TaskStore


@dataclass(frozen=True)
class Order:
    """One valid submission, in words common to all providers."""

    model: str
    prompt: str
    pictures: tuple[Picture, ...]
    charge: Charge
    callback_url: str | None = None
    idempotency_key: str | None = None
    #: kept with the task, for what its provider shows of it
    notes: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """A request the provider says no to; each provider words it in its own envelope."""

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
        #: None: the provider's own words for that status
        self.message = message
        #: the path of the field at fault, such as `input.prompt`
        self.field = field
        #: the provider's own code, where there is one beside the status
        self.code = code
        self.hint = hint
        self.retry_after = retry_after


#: the faults that are about callbacks, for providers that send none
CALLBACK_FAULTS = frozenset({"drop", "duplicate", "late", "conflict", "forged"})

#: submits an order under the faults of its prompt; the task is the one a resend led to before
Submit = Callable[["Provider", Order, Task | None], tuple[Task, Response]]


class Provider(ABC):
    """One emulated API. Holds what is particular to it, and nothing else."""

    #: in the URL, in the control API and in the ledger
    name: ClassVar[str]
    #: as its owner writes it
    title: ClassVar[str]
    #: waits before each retry of a callback, in seconds
    retry_seconds: ClassVar[tuple[float, ...]] = ()
    #: how long image links work, in seconds after completion
    links_live_for: ClassVar[float]
    #: what `fail` ends with when nothing else is asked for: content the policy does not allow
    failure: ClassVar[Outcome]
    #: what it ends with for the other `REASONS`; one that is left out is its own code
    failures: ClassVar[Mapping[str, str]] = {}
    #: faults that make no sense here
    unsupported_faults: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, settings: Settings, store: TaskStore, clock: Callable[[], float], submit: Submit
    ) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.submit = submit
        self.keys = IdempotencyKeys(clock)

    def blueprint(self) -> Blueprint:
        """The provider's routes, behind its API key, below `/<name>`."""
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
        """Put a refusal into the provider's error envelope."""

    @abstractmethod
    def accepted(self, task: Task) -> Response:
        """The answer to a submission that was taken."""

    @abstractmethod
    def snapshot(self, task: Task, outcome: Outcome | None) -> dict[str, Any]:
        """The task as a query shows it, if its outcome were this one."""

    @abstractmethod
    def new_id(self) -> str:
        """An id for a new task."""

    def status(self, task: Task) -> str:
        """Where the task stands, in the provider's own word."""
        return str(self.snapshot(task, task.outcome)["status"])

    def most_running(self) -> int | None:
        """How many tasks may run at a time; None: any number. One more is refused with 409."""
        return None

    def callback_body(self, task: Task, outcome: Outcome | None) -> bytes:
        """The body of a callback."""
        return json.dumps(self.snapshot(task, outcome), ensure_ascii=False).encode()

    def signature(self, body: bytes) -> Mapping[str, str]:
        """The headers that sign a callback."""
        return {}

    def wrong_signature(self, body: bytes) -> Mapping[str, str] | None:
        """As `signature`, but false; None where callbacks are not signed."""
        return None

    def opposite(self, task: Task) -> Outcome:
        """The outcome a task did not have."""
        return Outcome(Status.SUCCEEDED) if task.status is not Status.SUCCEEDED else self.failure

    def failed(self, wanted: Value) -> Outcome:
        """How a task fails for one of `REASONS`, or with a code of the provider's own."""
        if wanted in (True, "content_policy", self.failure.code):
            return self.failure
        message = REASONS.get(str(wanted), "Asked for by a fault.")
        return Outcome(Status.FAILED, self.failures.get(str(wanted), str(wanted)), message)

    def find(self, task_id: str) -> Task | None:
        """The provider's task of that id, unless the fault `forget` hides it."""
        task = self.store.get(task_id, self.name)
        return None if task is None or "forget" in task.faults else task

    def submit_once(self, order: Order, key: str) -> tuple[Response, bool]:
        """Submit under an idempotency key; says too whether this was a resend.

        Raises KeyMismatchError and KeyInFlightError.
        """
        known = self.keys.claim(key, hashlib.sha256(request.get_data()).digest())
        task = known
        try:
            task, answer = self.submit(self, order, known)
        finally:
            self.keys.settle(key, task)
        return answer, known is not None

    def _authenticate(self) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(key.strip().encode(), self.settings.api_key.encode())
        if scheme.lower() != "bearer" or not right:
            raise Refusal(401)
