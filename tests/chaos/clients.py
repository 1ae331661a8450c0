"""Those who enqueue: a few threads over HTTP, each patient, each watching what it enqueued."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, Queue
from time import monotonic
from typing import Any

import requests

from orchestrator.cli.stack import Stack
from tests.chaos.plan import Order, picture

THREADS = 6
#: Between two looks at jobs, between two tries of an enqueue that failed, and for one answer.
#: Seconds.
LOOK, RETRY, ANSWER = 0.05, 0.2, 15.0
#: One look in so many holds the answer until the job is done, for up to so many seconds.
WAITING_LOOK, WAIT = 10, 1
#: What of an outcome may never change.
FINAL = ("status", "settled_at", "settled_by", "error")
#: And of its images; their copies come later.
IMAGE_FINAL = ("url", "source_url", "expires_at")

#: Answers that a client may meet: done, seen before, away for now.
EXPECTED = frozenset({200, 202, 503})


@dataclass
class Record:
    """What the clients saw. Shared by them; `lock` guards it."""

    #: the job ids that each order's key was answered with
    accepted: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: the first outcome that somebody saw of each job
    first: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    #: when somebody saw it; an answer that was asked for before may be older
    seen_at: dict[str, float] = field(default_factory=dict)
    #: outcomes that were another one later
    changed: list[str] = field(default_factory=list)
    #: answers by status, 0 for none at all
    answers: Counter[int] = field(default_factory=Counter)
    #: answers that nobody should get
    odd: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def see(self, job: Mapping[str, Any], asked_at: float) -> bool:
        """Note how a job stands that was asked for at a time (monotonic); whether it is done."""
        if job["settled_at"] is None:
            if self.seen_at.get(job["id"], asked_at) < asked_at:
                self.changed.append(f"{job['id']} was done, and is {job['status']}")
            return False
        outcome: dict[str, Any] = {name: job[name] for name in FINAL}
        images = job["images"]
        outcome["images"] = [{name: image[name] for name in IMAGE_FINAL} for image in images]
        with self.lock:
            first = self.first.setdefault(job["id"], outcome)
            self.seen_at.setdefault(job["id"], monotonic())
        if first != outcome:
            self.changed.append(f"{job['id']} was {first}, and is {outcome}")
        return True


class ChaosClients:
    """Enqueue every order when its time has come, and look on until all jobs are done."""

    def __init__(self, stack: Stack, orders: Sequence[Order]) -> None:
        self.record = Record()
        self._stack = stack
        self._orders = orders
        self._queue: Queue[Order] = Queue()
        self._placing = len(orders) + sum(order.twice for order in orders)
        self._open: set[str] = set()
        self._picture = picture()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._pace, name="pace"),
            *(threading.Thread(target=self._work, name=f"client-{n}") for n in range(THREADS)),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, whatever is left."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def placed(self) -> int:
        """How many orders were accepted."""
        return len(self.record.accepted)

    @property
    def done(self) -> int:
        """How many jobs were seen with an outcome."""
        return len(self.record.first)

    @property
    def finished(self) -> bool:
        """Whether every order was placed, and every job seen with an outcome."""
        return self._placing == 0 and self.done >= self.placed == len(self._orders)

    def get(self, path: str) -> Any:
        """One answer of the API, when everything works again.

        Raises:
            requests.RequestException: it does not.
        """
        answer = requests.get(self._url(path), headers=self._headers(), timeout=60)
        answer.raise_for_status()
        return answer.json()

    # ---------------------------------------------------------------------------------------

    def _pace(self) -> None:
        """Hand out the orders at their times; those sent twice to two threads at once."""
        began = monotonic()
        for order in self._orders:
            if self._stop.wait(max(began + order.at - monotonic(), 0)):
                return
            for _ in range(1 + order.twice):
                self._queue.put(order)

    def _work(self) -> None:
        watched: deque[str] = deque()
        with requests.Session() as session:
            session.trust_env = False
            session.headers.update(self._headers())
            while not self._stop.is_set():
                try:
                    order = self._queue.get(timeout=LOOK)
                except Empty:
                    self._look(session, watched)
                else:
                    watched.extend(self._place(session, order))

    def _place(self, session: requests.Session, order: Order) -> list[str]:
        """Enqueue, with the same key until it is accepted."""
        while not self._stop.is_set():
            answer = self._call(session, "POST", "/v1/jobs", **self._content(order))
            if answer is not None and answer.ok:
                job_id = str(answer.json()["id"])
                with self.record.lock:
                    self.record.accepted[order.number].add(job_id)
                    self._placing -= 1
                return [job_id]
            self._stop.wait(RETRY)
        return []

    def _content(self, order: Order) -> dict[str, Any]:
        headers = {"Idempotency-Key": order.key}
        body = {**order.body, "notify_url": f"{self._stack.sandbox_url}/inbox/{order.inbox}"}
        if not order.with_file:
            return {"json": body, "headers": headers}
        form = {
            "job": (None, json.dumps(body)),
            "image_file": ("teal.png", self._picture),
        }
        return {"files": form, "headers": headers}

    def _look(self, session: requests.Session, watched: deque[str]) -> None:
        """At the job that was not looked at for longest."""
        if not watched:
            return
        job_id = watched.popleft()
        number = sum(self.record.answers.values())
        wait = WAIT if number % WAITING_LOOK == 0 else 0
        asked_at = monotonic()
        answer = self._call(session, "GET", f"/v1/jobs/{job_id}", params={"wait": wait})
        if answer is None or not answer.ok or not self.record.see(answer.json(), asked_at):
            watched.append(job_id)

    def _call(
        self, session: requests.Session, method: str, path: str, **content: Any
    ) -> requests.Response | None:
        try:
            answer = session.request(method, self._url(path), timeout=ANSWER, **content)
        except requests.RequestException:
            self._count(0)
            return None
        self._count(answer.status_code)
        if answer.status_code not in EXPECTED:
            told = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
            self.record.odd.append(told)
        return answer

    def _count(self, status: int) -> None:
        with self.record.lock:
            self.record.answers[status] += 1

    def _url(self, path: str) -> str:
        return f"{self._stack.web_url}{path}"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._stack.api_key}"}
