"""Sends Celery messages with kombu: nudges, which name due jobs, and notifications by task.

A message costs more than the step it announces. So nudges of a few milliseconds travel together. A
nudge that cannot be sent is dropped, because the next sweep nudges its jobs again.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from amqp.exceptions import MessageNacked
from kombu import Connection, Producer, Queue
from kombu.exceptions import OperationalError

from orchestrator import log, tracing
from orchestrator.background import TOO_MANY_THREADS, start_thread
from orchestrator.forks import renew_in_children
from orchestrator.jobs.model import Step
from orchestrator.servers.broker_server import BrokerServer
from orchestrator.servers.rabbitmq import connection_options, is_rabbitmq

#: The queue of sweeps, and of the nudges of all steps but archives.
QUEUE = "orchestrator.steps"
#: The queue of nudges for archives. A worker may read it alone, or leave it out.
ARCHIVE_QUEUE = "orchestrator.archive"
#: The queue of enqueue messages of other services. `intake` reads it.
ENQUEUE_QUEUE = "orchestrator.enqueue"
#: The queues whose messages `/metrics` counts.
MEASURED_QUEUES = (QUEUE, ARCHIVE_QUEUE, ENQUEUE_QUEUE)
#: The reply code of a broker that does not know a queue.
NO_QUEUE = "404"
#: Errors of py-amqp and redis-py: the user, the password, a right or the virtual host is wrong.
REFUSALS = frozenset({"AccessRefused", "NotAllowed", "AuthenticationError", "NoPermissionError"})
#: The Celery task of each step.
TASKS = {step: f"orchestrator.{step}" for step in Step}
#: The task of doctor's messages. Its argument is a token, which the process records.
ECHO = "orchestrator.echo"
#: The header with the sender's time, ms.
SENT_MS = "sent_ms"
#: The broker must answer within this time. Seconds.
ANSWER_TIMEOUT_SECONDS = 5
#: A connection can die without closing, in a failover or behind a firewall. Without these options a
#: worker would wait for ever on a write, and 45 s on a read. intake needs the retry: otherwise it
#: could lose a message that it took and could not return.
CONNECTION_OPTIONS = {
    "health_check_interval": ANSWER_TIMEOUT_SECONDS,
    "socket_timeout": ANSWER_TIMEOUT_SECONDS,
    "socket_connect_timeout": 2,
    "retry_on_timeout": True,
}
#: No acknowledgements: they cost more than the message, and a sweep replaces a lost nudge.
TRANSPORT_OPTIONS = {"ack_emulation": False, **CONNECTION_OPTIONS}
#: Values of `delivery_mode`. Only a persistent message outlives a restart of the broker.
TRANSIENT, PERSISTENT = 1, 2

#: The first nudge waits this long for others. Seconds.
WINDOW_SECONDS = 0.005
#: Shortest and longest time between two rounds of messages. Seconds.
MIN_ROUND_SECONDS, MAX_ROUND_SECONDS = 0.02, 0.1
#: The time between rounds per job of the last round: a busy process sends fewer messages. Seconds.
ROUND_SECONDS_PER_JOB = 0.004
#: The most jobs of one message.
MAX_JOBS_PER_MESSAGE = 100

#: Jobs by the name of their provider. The name tells a worker which of its lanes does the step
#: before it claims the job. It is empty for a follow-up, which has a lane of its own.
JobsByProvider = Mapping[str, Sequence[str]]
Send = Callable[[Step, JobsByProvider], None]


def queue_of(step: Step) -> str:
    """Return the queue of the nudges for a step."""
    return ARCHIVE_QUEUE if step is Step.ARCHIVE else QUEUE


class Nudger:
    """Collects nudges of all threads and sends them from its own thread.

    Args:
        send: sends one message. When it raises, the message is dropped.
        window: the wait of the first nudge for others, seconds.
        pace: the shortest time between two rounds, seconds; at most MAX_ROUND_SECONDS.
    """

    def __init__(
        self, send: Send, *, window: float = WINDOW_SECONDS, pace: float = MIN_ROUND_SECONDS
    ) -> None:
        self._send = send
        self._window = window
        self._pace = pace
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without nudges. After a fork, the parent sends the nudges of before the fork."""
        #: The provider of each job.
        self._waiting: dict[Step, dict[str, str]] = {}
        #: The context of the span that nudged each job, while traces are on.
        self._traces: dict[str, str] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def nudge(self, step: Step, job_ids: Sequence[str], provider: str = "") -> None:
        """Ask workers to do `step` of these jobs soon. Returns at once and never raises.

        Args:
            step: what is due.
            job_ids: the jobs.
            provider: the provider of all these jobs. A follow-up needs none.
        """
        if not job_ids:
            return
        with self._changed:
            self._waiting.setdefault(step, {}).update(dict.fromkeys(job_ids, provider))
            if trace := tracing.context():
                self._traces.update(dict.fromkeys(job_ids, trace))
            if self._thread is None:
                self._begin()
            self._changed.notify()

    def _begin(self) -> None:
        """Start the thread. Without it, the nudges are dropped."""
        self._thread = start_thread(self._run, "nudger")
        if self._thread is not None:
            atexit.register(self.close)
            return
        for step, jobs in self._waiting.items():
            log.get().warning("nudge_dropped", step=step, jobs=len(jobs), reason=TOO_MANY_THREADS)
        self._waiting.clear()
        self._traces.clear()

    def nudge_steps(self, job_id: str, steps: Sequence[Step]) -> None:
        """Ask workers to do each of these follow-ups of a job soon."""
        for step in steps:
            self.nudge(step, [job_id])

    def close(self, seconds: float = 5.0) -> None:
        """Send the waiting nudges and stop. Waits at most so long: sweeps replace lost nudges."""
        self._closed.set()
        with self._changed:
            self._changed.notify()
        if self._thread:
            self._thread.join(seconds)

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
                traces, self._traces = self._traces, {}
            named = sum(map(len, waiting.values()))
            next_round = monotonic() + min(
                max(self._pace, named * ROUND_SECONDS_PER_JOB), MAX_ROUND_SECONDS
            )
            for step, providers in waiting.items():
                self._deliver(step, providers, traces)

    def _deliver(self, step: Step, providers: Mapping[str, str], traces: Mapping[str, str]) -> None:
        for batch in _batches(providers):
            job_ids = [job_id for job_ids in batch.values() for job_id in job_ids]
            links = [traces[job_id] for job_id in job_ids if job_id in traces]
            try:
                with tracing.message_span(queue_of(step), len(job_ids), links):
                    self._send(step, batch)
            except Exception as error:
                # A thread that ends would leave all jobs of this process to the sweeps.
                log.get().warning("nudge_dropped", step=step, jobs=len(job_ids), reason=str(error))


class Unroutable(Exception):
    """The broker has no queue of this name, so it has dropped the message."""


def transport_options(url: str, *, confirms: bool = False) -> dict[str, Any]:
    """Return kombu's options for a broker.

    Args:
        url: of the broker.
        confirms: RabbitMQ confirms each message. Redis always does.
    """
    if is_rabbitmq(url):
        return connection_options(ANSWER_TIMEOUT_SECONDS, confirms=confirms)
    return {**TRANSPORT_OPTIONS, **BrokerServer.parse(url).transport_options}


class Broker:
    """Sends Celery messages without a Celery application. Threads may share it.

    The messages follow Celery's documented message protocol, version 2.

    Args:
        url: of the broker.
        clock: gives the time in the header `sent_ms` of a message. A worker whose clock is behind
            takes it.
        confirms: a message must not be lost. The broker keeps it on disk, and confirms that it has
            a queue for it.
    """

    def __init__(
        self, url: str, clock: Callable[[], int] | None = None, *, confirms: bool = False
    ) -> None:
        self._url = url
        self._clock = clock
        self._confirms = confirms
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without a connection, also in the child of a fork: its parent uses it."""
        self._connection = self._new_connection()
        self._producer: Producer | None = None
        #: Why the broker returned the message that is being sent.
        self._returned: list[Exception] = []
        self._origin = f"{os.getpid()}@{socket.gethostname()}"
        self._in_use = threading.Lock()

    def send(self, step: Step, jobs: JobsByProvider) -> None:
        """Send one nudge.

        Raises:
            OperationalError: the broker is away.
        """
        message_id = str(uuid.uuid4())
        args = [{provider: list(job_ids) for provider, job_ids in jobs.items()}]
        self.publish(TASKS[step], args, queue=queue_of(step), message_id=message_id)

    def publish(self, task: str, args: list[Any], *, queue: str, message_id: str) -> None:
        """Send one message: the name of a task and its arguments. Reconnects once.

        Raises:
            OperationalError: the broker is away, or refuses the message.
            Unroutable: the broker confirms messages, and has no such queue. A Redis makes one.
        """
        connection = self._connection
        lost = (*connection.connection_errors, *connection.channel_errors, MessageNacked)
        with self._in_use:
            self._returned.clear()
            try:
                if self._producer is None:
                    self._producer = self._new_producer()
                self._producer.publish(
                    (args, {}, {}),
                    routing_key=queue,
                    headers=self._headers(task, message_id),
                    correlation_id=message_id,
                    serializer="json",
                    delivery_mode=PERSISTENT if self._confirms else TRANSIENT,
                    mandatory=self._confirms,
                    confirm_timeout=ANSWER_TIMEOUT_SECONDS,
                    retry=True,
                    retry_policy={"max_retries": 1, "interval_start": 0},
                )
            except (OperationalError, *lost) as error:
                # The next message needs a new connection: this one is closed, or it still leads to
                # a server that refuses writes since a failover.
                self._producer = None
                self._connection.collect()
                self._connection = self._new_connection()
                raise OperationalError(_reason(error)) from error
            if self._returned:
                raise Unroutable(f"the broker has no queue named {queue!r}")

    def waiting(self, queues: Sequence[str]) -> dict[str, int]:
        """Return the number of messages in each queue. It uses a connection of its own.

        Raises:
            OperationalError: the broker is away.
        """
        with self._own_connection() as connection:
            return {queue: _messages_in(connection, queue) for queue in queues}

    def refusal(self) -> str | None:
        """Return why the broker refuses us, in its own words. None: it does not, or it is away."""
        try:
            self.waiting([QUEUE])
        except OperationalError as error:
            return str(error) if type(error.__cause__).__name__ in REFUSALS else None
        return None

    def echo(self, text: str) -> bool:
        """Send a message through a queue of its own. Return whether it came back.

        Raises:
            OperationalError: the broker is away, or refuses it.
        """
        with self._own_connection() as connection, connection.channel() as channel:
            name = f"orchestrator.echo.{text}"
            queue = Queue(name, routing_key=name, exclusive=True, auto_delete=True)(channel)
            queue.declare()
            try:
                Producer(channel).publish(text, routing_key=name, delivery_mode=1)
                ends = monotonic() + ANSWER_TIMEOUT_SECONDS
                message = None
                while message is None and monotonic() < ends:
                    message = queue.get(no_ack=True)
                return message is not None and message.payload == text
            finally:
                queue.delete()

    def drop_unread(self, queue: str, *, most: int) -> int:
        """Delete the messages of a queue if there are more than `most`. Return their number.

        Raises:
            OperationalError: the broker is away.
        """
        with self._own_connection() as connection:
            if _messages_in(connection, queue) <= most:
                return 0
            with connection.channel() as channel:
                return int(channel.queue_purge(queue))

    @contextmanager
    def _own_connection(self) -> Iterator[Connection]:
        with self._new_connection() as connection:
            lost = (*connection.connection_errors, *connection.channel_errors)
            try:
                connection.ensure_connection(max_retries=1, interval_start=0)
                yield connection
            except (OperationalError, *lost) as error:
                cause = error.__cause__ or error
                raise OperationalError(_reason(cause)) from cause

    def close(self) -> None:
        """Close the connection. The next message opens another one."""
        self._connection.close()
        self.renew()

    def _new_connection(self) -> Connection:
        server = BrokerServer.parse(self._url)
        options = transport_options(self._url, confirms=self._confirms)
        return Connection(server.url, ssl=server.ssl, transport_options=options)

    def _new_producer(self) -> Producer:
        if not (self._confirms and is_rabbitmq(self._url)):
            return Producer(self._connection)
        # RabbitMQ returns a message without a queue before it confirms it.
        return Producer(self._connection, on_return=lambda error, *_: self._returned.append(error))

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
            SENT_MS: self._clock() if self._clock else None,
            **tracing.headers(),
        }


def _reason(error: BaseException) -> str:
    """Return the words of an error of a broker. redis-py's for Sentinels have whole objects."""
    if "MasterNotFoundError" in (type(error).__name__, type(error.__cause__).__name__):
        return "no Sentinel that answers names the master"
    return str(error) or type(error).__name__


def _batches(providers: Mapping[str, str]) -> Iterator[JobsByProvider]:
    """Yield the jobs of each message. `providers` has the provider of each job."""
    jobs = list(providers.items())
    for start in range(0, len(jobs), MAX_JOBS_PER_MESSAGE):
        batch: dict[str, list[str]] = {}
        for job_id, provider in jobs[start : start + MAX_JOBS_PER_MESSAGE]:
            batch.setdefault(provider, []).append(job_id)
        yield batch


def _messages_in(connection: Connection, queue: str) -> int:
    """Return the number of messages in a queue. One that does not exist yet has none."""
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors as error:
            if str(getattr(error, "reply_code", "")) != NO_QUEUE:
                raise
            return 0
