"""Nudges: Celery messages that name jobs to advance now. Hints, never the truth.

A message costs more than the work it announces, so what comes within a few milliseconds travels
in one. A nudge that cannot be sent is dropped: the agenda brings its jobs back with the next sweep.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

from kombu import Connection, Producer
from kombu.exceptions import OperationalError

from orchestrator import log
from orchestrator.jobs.model import Step

#: The queue that workers take nudges and sweeps from.
QUEUE = "orchestrator.steps"
#: The Celery task that takes each step's nudges.
TASKS = {step: f"orchestrator.{step}" for step in Step}
#: How long the broker may leave us without an answer. Seconds.
SILENCE = 5
#: A connection can die without closing, in a failover or behind a firewall. Without these a worker
#: would wait on it: for ever where it writes, and for 45 s where it waits for messages. The retry
#: is for intake, which would lose the message that it has taken and cannot note as not yet done.
CONNECTION_OPTIONS = {
    "health_check_interval": SILENCE,
    "socket_timeout": SILENCE,
    "socket_connect_timeout": 2,
    "retry_on_timeout": True,
}
#: No acknowledgements: they cost more than the message, and a lost nudge costs one sweep.
TRANSPORT_OPTIONS = {"ack_emulation": False, **CONNECTION_OPTIONS}

#: How long a nudge waits for company. Seconds.
WINDOW = 0.005
#: The time between two rounds of messages: from, to, and for each job that the last one named.
#: Seconds. A message costs as much as several callbacks, so the more there is to do, the fewer go.
PACE, SLOWEST, PER_JOB = 0.02, 0.1, 0.004
#: The most jobs one message names.
BATCH = 100

Send = Callable[[Step, Sequence[str]], None]


class Nudger:
    """Gathers nudges from all threads and sends them from one of its own.

    Args:
        send: sends one message, or raises; then the message is dropped.
        window: how long the first nudge waits for others, seconds.
        pace: the least time between two rounds of messages, seconds; at most SLOWEST.
    """

    def __init__(self, send: Send, *, window: float = WINDOW, pace: float = PACE) -> None:
        self._send = send
        self._window = window
        self._pace = pace
        self._waiting: dict[Step, list[str]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def nudge(self, step: Step, job_ids: Sequence[str]) -> None:
        """Have workers take `step` with these jobs soon. Returns at once; never raises."""
        if not job_ids:
            return
        with self._changed:
            self._waiting.setdefault(step, []).extend(job_ids)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nudger", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            self._changed.notify()

    def nudge_steps(self, job_id: str, steps: Sequence[Step]) -> None:
        """Have workers take each of these steps with a job soon, as `nudge` does."""
        for step in steps:
            self.nudge(step, [job_id])

    def close(self) -> None:
        """Send what waits, and stop."""
        self._closed.set()
        with self._changed:
            self._changed.notify()
        if self._thread:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        next_round = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
                if not self._waiting:
                    return
            self._closed.wait(max(self._window, next_round - monotonic()))
            with self._changed:
                waiting, self._waiting = self._waiting, {}
            named = sum(map(len, waiting.values()))
            next_round = monotonic() + min(max(self._pace, named * PER_JOB), SLOWEST)
            for step, job_ids in waiting.items():
                self._deliver(step, job_ids)

    def _deliver(self, step: Step, job_ids: list[str]) -> None:
        for batch in _batches(job_ids):
            try:
                self._send(step, batch)
            except Exception as error:
                # Whatever it is: a nudger that ended would leave its process to the sweeps.
                log.get().warning("nudge_dropped", step=step, jobs=len(batch), why=str(error))


class Broker:
    """Sends Celery messages, without a Celery application. May be shared by threads.

    The form is Celery's documented message protocol, version 2; a test has a Celery worker read it.
    """

    def __init__(self, url: str) -> None:
        self._connection = Connection(url, transport_options=TRANSPORT_OPTIONS)
        self._producer: Producer | None = None
        self._origin = f"{os.getpid()}@{socket.gethostname()}"
        self._in_use = threading.Lock()

    def send(self, step: Step, job_ids: Sequence[str]) -> None:
        """Send one nudge.

        Raises:
            OperationalError: the broker is away.
        """
        message_id = str(uuid.uuid4())
        self.publish(TASKS[step], [list(job_ids)], queue=QUEUE, message_id=message_id)

    def publish(self, task: str, args: list[Any], *, queue: str, message_id: str) -> None:
        """Send one message: a task by its name, with its arguments; reconnects once if need be.

        Raises:
            OperationalError: the broker is away.
        """
        lost = (*self._connection.connection_errors, *self._connection.channel_errors)
        with self._in_use:
            try:
                if self._producer is None:
                    self._producer = Producer(self._connection)
                self._producer.publish(
                    (args, {}, {}),
                    routing_key=queue,
                    headers=self._headers(task, message_id),
                    correlation_id=message_id,
                    serializer="json",
                    delivery_mode=1,
                    retry=True,
                    retry_policy={"max_retries": 1, "interval_start": 0},
                )
            except (OperationalError, *lost) as error:
                # kombu has closed its connection, and the producer would go on with that for ever.
                self._producer = None
                raise OperationalError(str(error)) from error

    def _headers(self, task: str, message_id: str) -> dict[str, Any]:
        return {
            "lang": "py",
            "task": task,
            "id": message_id,
            "root_id": message_id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "eta": None,
            "expires": None,
            "timelimit": [None, None],
            "argsrepr": "",
            "kwargsrepr": "",
            "origin": self._origin,
            "ignore_result": True,
        }


def _batches(job_ids: list[str]) -> Iterator[list[str]]:
    unique = list(dict.fromkeys(job_ids))
    return (unique[start : start + BATCH] for start in range(0, len(unique), BATCH))
