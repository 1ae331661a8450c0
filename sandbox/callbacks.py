"""Sends the callbacks: on time, with retries, and as wrongly as the faults ask for."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit, urlunsplit

import requests
import structlog

from .executor import TaskExecutor
from .provider import Provider
from .tasks import Callback, Task, TaskStore
from .timetable import Timetable

log = structlog.get_logger(__name__)

#: EvoLink documents 10 seconds; where a document is silent it is as good as any
TIMEOUT_SECONDS = 10.0


@dataclass
class Batch:
    """The true callbacks of one task: one, or as many as `duplicate` asks for."""

    open: int
    waiting: int = field(init=False)
    #: set once each of them has had its first answer
    answered: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.waiting = self.open

    def tried(self) -> None:
        """One of them had its first answer."""
        with self._lock:
            self.waiting -= 1
            if self.waiting == 0:
                self.answered.set()

    def ended(self) -> bool:
        """One of them was taken or given up; True for the last."""
        with self._lock:
            self.open -= 1
            return self.open == 0


@dataclass(frozen=True)
class Letter:
    """One callback to be delivered, with retries."""

    task: Task
    provider: Provider
    kind: str
    body: bytes
    #: None: nobody waits for it
    batch: Batch | None = None


class Courier:
    """Delivers callbacks from a bounded crew of threads."""

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
        self._crew = TaskExecutor()

    def stop(self) -> None:
        """Send nothing more."""
        self._crew.stop()

    def announce(self, provider: Provider, task: Task) -> threading.Event:
        """Send what a task that just ended sends; the event says when it was first answered."""
        faults = task.faults
        batch = Batch(faults.count("duplicate"))
        if task.callback_url is None or "drop" in faults:
            batch.answered.set()
            return batch.answered
        begin = partial(self._begin, provider, task, batch)
        if "late" in faults:
            self._timetable.after(faults.seconds("late"), partial(self._crew.hand, begin))
        else:
            self._crew.hand(begin)
        return batch.answered

    def again(self, provider: Provider, task: Task) -> Callback:
        """Send the terminal callback of an ended task now, once, and return what came of it."""
        body = provider.callback_body(task, task.outcome)
        kind = "duplicate" if any(sent.kind == "true" for sent in task.callbacks) else "true"
        with requests.Session() as session:
            session.trust_env = False
            return self._send(
                session,
                task,
                kind=kind,
                url=task.callback_url,
                body=body,
                signature=provider.signature(body),
            )

    def _begin(
        self, provider: Provider, task: Task, batch: Batch, session: requests.Session
    ) -> None:
        if "forged" in task.faults:
            self._forge(provider, task, session)
        body = provider.callback_body(task, task.outcome)
        for number in range(batch.open):
            letter = Letter(task, provider, "duplicate" if number else "true", body, batch)
            self._crew.hand(partial(self._deliver, letter, 0))

    def _forge(self, provider: Provider, task: Task, session: requests.Session) -> None:
        # The opposite outcome, so that a receiver that believes a forgery is seen to.
        body = provider.callback_body(task, provider.opposite(task))
        url = task.callback_url or ""
        forgeries = [(altered(url), provider.signature(body))]
        wrong = provider.wrong_signature(body)
        if wrong is not None:
            forgeries.append((url, wrong))
        for target, signature in forgeries:
            self._send(session, task, kind="forged", url=target, body=body, signature=signature)

    def _deliver(self, letter: Letter, tries: int, session: requests.Session) -> None:
        task, provider = letter.task, letter.provider
        if self._store.get(task.id) is not task:
            # Forgotten meanwhile: nothing more is sent, and nobody is kept waiting.
            if letter.batch and tries == 0:
                letter.batch.tried()
            return
        sent = self._send(
            session,
            task,
            kind="retry" if tries else letter.kind,
            url=task.callback_url,
            body=letter.body,
            # Signed anew on each try: a receiver refuses a timestamp that has grown old.
            signature=provider.signature(letter.body),
        )
        if letter.batch and tries == 0:
            letter.batch.tried()
        delays = provider.retry_seconds if self._retry_seconds is None else self._retry_seconds
        taken = sent.status is not None and 200 <= sent.status < 300
        if not taken and tries < len(delays):
            again = partial(self._deliver, letter, tries + 1)
            self._timetable.after(delays[tries], partial(self._crew.hand, again))
        elif letter.batch and letter.batch.ended() and "conflict" in task.faults:
            body = provider.callback_body(task, provider.opposite(task))
            self._crew.hand(partial(self._deliver, Letter(task, provider, "conflict", body), 0))

    def _send(
        self,
        session: requests.Session,
        task: Task,
        *,
        kind: str,
        url: str | None,
        body: bytes,
        signature: Mapping[str, str],
    ) -> Callback:
        at, url = self._clock(), url or ""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"sandbox-{task.provider}/1",
            **signature,
        }
        status, error = None, None
        try:
            answer = session.post(
                url, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False
            )
            status = answer.status_code
        except (requests.RequestException, ValueError) as failure:
            error = _in_short(failure)
        sent = Callback(at, kind, url, status, error)
        self._store.called_back(task, sent)
        log.info(
            "callback_sent", task=task.id, kind=kind, url=redacted(url), status=status, error=error
        )
        return sent


def redacted(url: str) -> str:
    """The URL without its last path segment and its query: they can hold a secret."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rpartition("/")[0] + "/***", "", ""))


def altered(url: str) -> str:
    """The URL with another last path segment of the same length."""
    parts = urlsplit(url)
    rest, _, last = parts.path.rpartition("/")
    wrong = ("B" if last.startswith("A") else "A") + last[1:]
    return urlunsplit(parts._replace(path=f"{rest}/{wrong}"))


def _in_short(failure: BaseException) -> str:
    # Never str(failure): it holds the URL, and with it the secret in its path.
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{type(failure).__name__}: {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    return type(failure).__name__
