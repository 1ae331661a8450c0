"""Sends callbacks at their time, with retries and with the faults of their task."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import requests
import structlog

from .envelopes import CallbackBody
from .executor import TaskExecutor
from .provider import EmulatedProvider
from .tasks import Callback, Task, TaskStore
from .thin_success import Channel
from .timetable import Timetable

log = structlog.get_logger(__name__)

#: Timeout of one callback. EvoLink documents it; the other documents name no value. Seconds.
TIMEOUT_SECONDS = 10.0


@dataclass
class CallbackBatch:
    """The true callbacks of one task. There is one, or as many as `duplicate` asks for."""

    #: Callbacks that are neither accepted nor given up.
    unfinished: int
    #: Callbacks that have not had their first attempt.
    untried: int = field(init=False)
    #: Set when every callback has had its first attempt.
    all_tried: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.untried = self.unfinished

    def count_first_attempt(self) -> None:
        """Count the first attempt of one callback."""
        with self._lock:
            self.untried -= 1
            if self.untried == 0:
                self.all_tried.set()

    def count_finished(self) -> bool:
        """Count one finished callback. Return True for the last one."""
        with self._lock:
            self.unfinished -= 1
            return self.unfinished == 0


@dataclass(frozen=True)
class CallbackDelivery:
    """One callback that is sent with retries."""

    task: Task
    provider: EmulatedProvider
    kind: str
    body: CallbackBody
    #: None for a conflicting callback.
    batch: CallbackBatch | None = None


class CallbackSender:
    """Sends callbacks from a bounded number of threads."""

    def __init__(
        self,
        store: TaskStore,
        timetable: Timetable,
        clock: Callable[[], float],
        retry_seconds: tuple[float, ...] | None,
    ) -> None:
        self._store = store
        self._timetable = timetable
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._executor = TaskExecutor()

    def stop(self) -> None:
        """Send no more callbacks."""
        self._executor.stop()

    def send_callbacks(self, provider: EmulatedProvider, task: Task) -> threading.Event:
        """Send the callbacks of a task that just ended.

        Returns:
            An event that is set when every true callback has had its first attempt.
        """
        faults = task.faults
        batch = CallbackBatch(faults.count("duplicate"))
        if task.callback_url is None or "drop" in faults:
            batch.all_tried.set()
            return batch.all_tried
        start = partial(self._start, provider, task, batch)
        if "late" in faults:
            self._timetable.after(faults.seconds("late"), partial(self._executor.submit, start))
        else:
            self._executor.submit(start)
        return batch.all_tried

    def resend(self, provider: EmulatedProvider, task: Task) -> Callback:
        """Send the terminal callback of an ended task once, now, and return the result."""
        body = provider.callback_body(task, task.outcome)
        repeated = any(callback.kind == "true" for callback in task.callbacks)
        with requests.Session() as session:
            session.trust_env = False
            return self._send(
                session,
                task,
                kind="duplicate" if repeated else "true",
                url=task.callback_url,
                body=body,
                signature=provider.signature(body.data),
            )

    def _start(
        self,
        provider: EmulatedProvider,
        task: Task,
        batch: CallbackBatch,
        session: requests.Session,
    ) -> None:
        if "forged" in task.faults:
            self._send_forged(provider, task, session)
        body = provider.callback_body(task, task.outcome)
        for number in range(batch.unfinished):
            kind = "duplicate" if number else "true"
            delivery = CallbackDelivery(task, provider, kind, body, batch)
            self._executor.submit(partial(self._deliver, delivery, 0))

    def _send_forged(
        self, provider: EmulatedProvider, task: Task, session: requests.Session
    ) -> None:
        # The opposite outcome shows when a receiver believes a forged callback.
        body = provider.callback_body(task, provider.opposite(task))
        url = task.callback_url or ""
        forgeries = [(alter_token(url), provider.signature(body.data))]
        wrong = provider.wrong_signature(body.data)
        if wrong is not None:
            forgeries.append((url, wrong))
        for target, signature in forgeries:
            self._send(session, task, kind="forged", url=target, body=body, signature=signature)

    def _deliver(self, delivery: CallbackDelivery, retries: int, session: requests.Session) -> None:
        task, provider = delivery.task, delivery.provider
        if self._store.get(task.id) is not task:
            # The task was forgotten, so nothing is sent. An `early` submission must not wait.
            if delivery.batch and retries == 0:
                delivery.batch.count_first_attempt()
            return
        callback = self._send(
            session,
            task,
            kind="retry" if retries and delivery.batch else delivery.kind,
            url=task.callback_url,
            body=delivery.body,
            # Each attempt has its own signature, because receivers refuse old timestamps.
            signature=provider.signature(delivery.body.data),
        )
        if delivery.batch and retries == 0:
            delivery.batch.count_first_attempt()
        delays = provider.retry_seconds if self._retry_seconds is None else self._retry_seconds
        accepted = callback.status is not None and 200 <= callback.status < 300
        if not accepted and retries < len(delays):
            retry = partial(self._deliver, delivery, retries + 1)
            self._timetable.after(delays[retries], partial(self._executor.submit, retry))
        elif delivery.batch and delivery.batch.count_finished():
            self._follow(provider, task)

    def _follow(self, provider: EmulatedProvider, task: Task) -> None:
        """Send the callbacks that follow when every true one is accepted or given up."""
        bodies = {}
        if task.faults.form("thin_success") == "corrected":
            body = provider.callback_body(task, task.outcome, Channel.CORRECTION)
            bodies["correction"] = body
        if "conflict" in task.faults:
            bodies["conflict"] = provider.callback_body(task, provider.opposite(task))
        for kind, body in bodies.items():
            delivery = CallbackDelivery(task, provider, kind, body)
            self._executor.submit(partial(self._deliver, delivery, 0))

    def _send(
        self,
        session: requests.Session,
        task: Task,
        *,
        kind: str,
        url: str | None,
        body: CallbackBody,
        signature: Mapping[str, str],
    ) -> Callback:
        at, url = self._clock(), url or ""
        headers = {
            **body.headers,
            "User-Agent": f"sandbox-{task.provider}/1",
            **signature,
        }
        status, error = None, None
        try:
            answer = session.post(
                url, data=body.data, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
            )
            status = answer.status_code
        except (requests.RequestException, ValueError) as failure:
            error = _describe(failure)
        callback = Callback(at, kind, url, status, error)
        self._store.add_callback(task, callback)
        log.info(
            "callback_sent", task=task.id, kind=kind, url=redact(url), status=status, reason=error
        )
        return callback


def redact(url: str) -> str:
    """Return the URL without its last path segment and its query, which can hold a secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rpartition("/")[0] + "/***", "", ""))


def alter_token(url: str) -> str:
    """Return the URL with another last path segment of the same length."""
    parts = urlsplit(url)
    rest, _, token = parts.path.rpartition("/")
    wrong = ("B" if token.startswith("A") else "A") + token[1:]
    return urlunsplit(parts._replace(path=f"{rest}/{wrong}"))


def _describe(failure: BaseException) -> str:
    # str(failure) contains the URL, and so the secret in its path.
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{type(failure).__name__}: {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    return type(failure).__name__
