"""Handles the submissions of every provider."""

import math
import random
import threading
from collections.abc import Callable

import structlog
from flask import Response, g, request

from .callbacks import CallbackSender
from .catalogue import REFUSALS
from .faults import FaultError, Faults
from .http_types import (
    ConnectionClosedError,
    close_without_answer,
    is_reused_connection,
    send_header_slowly,
    wait_for_client,
)
from .provider import EmulatedProvider, Refusal, TaskRequest
from .retry_after import retry_after
from .rules import Rules, Submission
from .settings import SandboxSettings
from .tasks import Task, TaskOutcome, TaskStatus, TaskStore
from .timetable import Timetable

log = structlog.get_logger(__name__)

#: Interval of the check whether the sandbox stops. Seconds.
_STOP_CHECK_SECONDS = 0.1

#: Refusals with a Retry-After.
_WITH_WAIT = frozenset({"429", "503"})

_GATEWAY_PAGE = """<html>
<head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center></body>
</html>
"""


class SubmissionHandler:
    """Refuses a submission, or creates and charges its task and answers with its faults."""

    def __init__(
        self,
        settings: SandboxSettings,
        *,
        store: TaskStore,
        rules: Rules,
        timetable: Timetable,
        callback_sender: CallbackSender,
        clock: Callable[[], float],
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._store = store
        self._rules = rules
        self._timetable = timetable
        self._callback_sender = callback_sender
        self._clock = clock
        #: Set when the sandbox stops. It ends every delayed answer.
        self._stopping = stopping
        self._random = random.Random(settings.seed)  # noqa: S311 - not a secret

    def submit(
        self, provider: EmulatedProvider, task_request: TaskRequest, known: Task | None
    ) -> tuple[Task, Response]:
        """Create a task, or answer with the known one.

        Args:
            provider: The provider that received the request.
            task_request: The valid request.
            known: The task that an earlier request with the same idempotency key created.

        Raises:
            Refusal: A fault or the limit of tasks in flight refuses the request.
            ConnectionClosedError: A fault closes the connection.
        """
        faults = self._draw(provider, task_request, resend=known is not None)
        self._refuse(provider, faults)
        if known is None:
            task = self._create(provider, task_request, faults)
        else:
            task = known
            self._store.count_submission(task)
        g.task = task
        return task, self._answer(provider, task, faults)

    def _draw(
        self, provider: EmulatedProvider, task_request: TaskRequest, *, resend: bool
    ) -> Faults:
        submission = Submission(
            provider.name,
            task_request.model,
            task_request.prompt,
            resend,
            is_reused_connection(),
        )
        try:
            return self._rules.draw(submission, provider.unsupported_faults)
        except FaultError as error:
            raise Refusal(400, str(error), field="prompt") from error

    def _refuse(self, provider: EmulatedProvider, faults: Faults) -> None:
        if "stale_connection" in faults and is_reused_connection():
            log.info("connection_closed", provider=provider.name)
            raise ConnectionClosedError
        for name in sorted(REFUSALS.intersection(faults.values)):
            log.info("submission_refused", provider=provider.name, status=int(name))
            value = faults.values[name]
            raise Refusal(
                int(name),
                # The value of the others is an HTTP status.
                retry_after=retry_after(value, self._clock()) if name in _WITH_WAIT else None,
                http_status=None if name in _WITH_WAIT or value is True else int(value),
            )

    def _create(
        self, provider: EmulatedProvider, task_request: TaskRequest, faults: Faults
    ) -> Task:
        task = Task(
            id=provider.new_id(),
            provider=provider.name,
            model=task_request.model,
            prompt=task_request.prompt,
            callback_url=task_request.callback_url,
            charge=task_request.charge,
            pictures=task_request.pictures,
            link_base=request.host_url.rstrip("/"),
            faults=faults,
            idempotency_key=task_request.idempotency_key,
            notes=task_request.notes,
            created_at=self._clock(),
            run_seconds=faults.seconds("slow", self._run_seconds()),
            link_ttl_seconds=faults.seconds("expire_links", provider.link_ttl_seconds),
        )
        if not self._store.add(task, provider.max_in_flight):
            log.info("submission_above_limit", provider=provider.name)
            raise Refusal(provider.limit_status)
        log.info("task_created", provider=task.provider, task=task.id, model=task.model)
        if "early" in faults:
            self._wait(self._finish(provider, task))
        elif not task.run_seconds:
            # The timetable would finish it after the answer. The answer must show it as finished.
            self._finish(provider, task)
        else:
            self._timetable.after(task.run_seconds, lambda: self._end(provider, task))
        return task

    def _run_seconds(self) -> float:
        spread = self._random.normalvariate(0.0, self._settings.task_spread)
        return self._settings.task_seconds * math.exp(spread)

    def _end(self, provider: EmulatedProvider, task: Task) -> None:
        self._finish(provider, task)

    def _finish(self, provider: EmulatedProvider, task: Task) -> threading.Event | None:
        outcome = _outcome(provider, task.faults)
        if not self._store.finish(task, outcome, self._clock()):
            return None
        log.info("task_finished", provider=task.provider, task=task.id, status=outcome.status)
        return self._callback_sender.send_callbacks(provider, task)

    def _answer(self, provider: EmulatedProvider, task: Task, faults: Faults) -> Response:
        if "hang" in faults:
            wait_for_client(faults.seconds("hang"), self._stopping)
        if "trickle" in faults:
            send_header_slowly(faults.seconds("trickle"))
        if "502_html" in faults:
            return Response(_GATEWAY_PAGE, 502, mimetype="text/html")
        if "504" in faults:
            return provider.refuse(Refusal(504, "upstream request timeout"))
        if "lost_response" in faults:
            return close_without_answer()
        return provider.accepted(task)

    def _wait(self, all_tried: threading.Event | None) -> None:
        while all_tried is not None and not all_tried.wait(_STOP_CHECK_SECONDS):
            if self._stopping.is_set():
                return


def _outcome(provider: EmulatedProvider, faults: Faults) -> TaskOutcome:
    if "cancelled" in faults:
        return TaskOutcome(TaskStatus.CANCELLED)
    if "fail" not in faults:
        return TaskOutcome(TaskStatus.SUCCEEDED)
    return provider.failed(faults.values["fail"])
