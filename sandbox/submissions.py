"""What happens to every submission, whichever provider it is for."""

import threading
from collections.abc import Callable

import structlog
from flask import Response, request

from .callbacks import Courier
from .faults import REFUSALS, FaultError, Faults, whole_seconds
from .http_types import vanish, wait
from .provider import Order, Provider, Refusal
from .rules import Rules, Submission
from .settings import Settings
from .tasks import Outcome, Status, Task, TaskStore
from .timetable import Timetable

log = structlog.get_logger(__name__)

_GATEWAY_PAGE = """<html>
<head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center></body>
</html>
"""


class Reception:
    """Takes orders: refuses, creates, charges, and answers as the faults ask for."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: TaskStore,
        rules: Rules,
        timetable: Timetable,
        courier: Courier,
        clock: Callable[[], float],
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._store = store
        self._rules = rules
        self._timetable = timetable
        self._courier = courier
        self._clock = clock
        #: set when the sandbox stops, so that no request keeps hanging
        self._stopping = stopping

    def submit(self, provider: Provider, order: Order, known: Task | None) -> tuple[Task, Response]:
        """Take an order. `known` is the task that the same request led to before, if any."""
        faults = self._draw(provider, order, resend=known is not None)
        self._refuse(provider, faults)
        if known is None:
            task = self._open(provider, order, faults)
        else:
            task = known
            self._store.resubmitted(task)
        return task, self._answer(provider, task, faults)

    def _draw(self, provider: Provider, order: Order, *, resend: bool) -> Faults:
        submission = Submission(provider.name, order.model, order.prompt, resend)
        try:
            return self._rules.draw(submission, provider.unsupported_faults)
        except FaultError as error:
            raise Refusal(400, str(error), field="prompt") from error

    def _refuse(self, provider: Provider, faults: Faults) -> None:
        for name in sorted(REFUSALS.intersection(faults.values)):
            log.info("submission_refused", provider=provider.name, status=int(name))
            wait = whole_seconds(faults.seconds(name)) if name == "429" else None
            raise Refusal(int(name), retry_after=wait)

    def _open(self, provider: Provider, order: Order, faults: Faults) -> Task:
        task = Task(
            id=provider.new_id(),
            provider=provider.name,
            model=order.model,
            prompt=order.prompt,
            callback_url=order.callback_url,
            charge=order.charge,
            pictures=order.pictures,
            link_base=request.host_url.rstrip("/"),
            faults=faults,
            idempotency_key=order.idempotency_key,
            notes=order.notes,
            created_at=self._clock(),
            runs_for=faults.seconds("slow", self._settings.task_seconds),
            links_live_for=faults.seconds("expire_links", provider.links_live_for),
        )
        if not self._store.add(task, provider.most_running()):
            raise Refusal(409)
        log.info("task_created", provider=task.provider, task=task.id, model=task.model)
        if "early" in faults:
            self._wait(self._finish(provider, task))
        elif not task.runs_for:
            # Not by the timetable: a submit answer that shows the task shows it finished.
            self._finish(provider, task)
        else:
            self._timetable.after(task.runs_for, lambda: self._end(provider, task))
        return task

    def _end(self, provider: Provider, task: Task) -> None:
        self._finish(provider, task)

    def _finish(self, provider: Provider, task: Task) -> threading.Event | None:
        outcome = _outcome(provider, task.faults)
        if not self._store.finish(task, outcome, self._clock()):
            return None
        log.info("task_finished", provider=task.provider, task=task.id, status=outcome.status)
        return self._courier.announce(provider, task)

    def _answer(self, provider: Provider, task: Task, faults: Faults) -> Response:
        if "hang" in faults:
            wait(faults.seconds("hang"), self._stopping)
        if "502_html" in faults:
            return Response(_GATEWAY_PAGE, 502, mimetype="text/html")
        if "lost_response" in faults:
            return vanish()
        return provider.accepted(task)

    def _wait(self, answered: threading.Event | None) -> None:
        while answered is not None and not answered.wait(0.1):
            if self._stopping.is_set():
                return


def _outcome(provider: Provider, faults: Faults) -> Outcome:
    if "cancelled" in faults:
        return Outcome(Status.CANCELLED)
    if "fail" not in faults:
        return Outcome(Status.SUCCEEDED)
    return provider.failed(faults.values["fail"])
