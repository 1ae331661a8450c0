"""Reads enqueue messages of other Celery services on the same broker.

    app.send_task("orchestrator.enqueue", kwargs={...}, queue="orchestrator.enqueue")

Such a message is not a hint: until its job is in the ledger, it is the only record of the request.
So it has its own queue, its own process and late acknowledgements. It may be delivered twice. Its
Celery task id is the idempotency key. A message whose tenant has reached a limit waits in the
ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from celery import Celery, Task, signals
from celery.exceptions import Reject, WorkerShutdown
from celery.utils.time import maybe_iso8601, maybe_make_aware
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection, Queue

from orchestrator import log, tracing
from orchestrator.ledger import LedgerUnavailable
from orchestrator.messages import ENQUEUE_QUEUE, transport_options
from orchestrator.operations.enqueue_messages import (
    EnqueueMessage,
    reject_message,
    take_message,
    take_waiting,
)
from orchestrator.runtime import default_runtime
from orchestrator.servers.broker_server import BrokerServer
from orchestrator.servers.rabbitmq import has_other_type, is_rabbitmq, quorum_queue
from workers.app import note_message
from workers.celery_app import broker_url, celery_app
from workers.sweeper import Sweeper, SweepTimer

#: A message without an acknowledgement is delivered again after this time. Seconds.
VISIBILITY_TIMEOUT_SECONDS = 60
#: Messages that RabbitMQ sends ahead.
RABBITMQ_PREFETCH = 16
#: A wait for a message ends after this time, and begins again. Each is a command. Seconds.
BRPOP_SECONDS = 4.0
#: Wait between tries while the ledger is away. Seconds.
RETRY_INTERVAL_SECONDS = 1.0


class IntakeConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer without its delayed delivery, which makes 28 queues at RabbitMQ."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]  # Celery has no types
        """The parts of the consumer."""

        default_steps: ClassVar = [
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in str(step)
        ]


def enqueue_queue(url: str) -> Queue:
    """Return the queue of enqueue messages. One that exists at RabbitMQ is used as it is."""
    queue = quorum_queue(ENQUEUE_QUEUE, url)
    server = BrokerServer.parse(url)
    if not is_rabbitmq(url):
        return queue
    with Connection(
        server.url, ssl=server.ssl, transport_options=transport_options(url)
    ) as connection:
        try:
            if not has_other_type(connection, queue):
                return queue
        except OSError:
            return queue  # RabbitMQ is away, so Celery declares the queue later
    fix = "delete it while it is empty, so that intake makes a quorum queue"
    log.get().warning("enqueue_queue_not_quorum", queue=ENQUEUE_QUEUE, fix=fix)
    return Queue(ENQUEUE_QUEUE, routing_key=ENQUEUE_QUEUE, no_declare=True)


def _options(url: str) -> dict[str, Any]:
    if is_rabbitmq(url):
        return {
            "broker_transport_options": transport_options(url, confirms=True),
            "worker_prefetch_multiplier": RABBITMQ_PREFETCH,
        }
    own = {
        "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
        "ack_emulation": True,
        "polling_interval": BRPOP_SECONDS,
    }
    return {
        "broker_transport_options": {**transport_options(url), **own},
        "worker_prefetch_multiplier": 1,
    }


app: Celery = celery_app(
    "orchestrator.intake",
    task_default_queue=ENQUEUE_QUEUE,
    task_queues=[enqueue_queue(broker_url())],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_consumer=IntakeConsumer,
    **_options(broker_url()),
)


class EnqueueTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task whose failures are kept. Celery acknowledges their messages."""

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, _einfo: Any) -> None:
        """Reject a message that raised, also in Celery: it can pass no field called `self`.

        Raises:
            WorkerShutdown: we must stop before that. The message is not acknowledged then.
        """
        message = EnqueueMessage(task_id, kwargs, args, {})
        reason = f"an unexpected {type(exc).__name__}"
        if not _recorded(partial(reject_message, default_runtime(), message, reason), message):
            raise WorkerShutdown


@app.task(name="orchestrator.enqueue", bind=True, base=EnqueueTask)
def enqueue(self: Task, /, *unnamed: Any, **request: Any) -> None:
    """Create the job of one request, or keep the message while its tenant has reached a limit."""
    headers = self.request.headers or {}
    values = {name: str(headers[name]) for name in tracing.HEADERS if headers.get(name)}
    trace = {name: value for name, value in values.items() if value.isascii()}
    expires_at = _expires_at(self.request.expires)
    message = EnqueueMessage(self.request.id, request, unnamed, trace, expires_at)
    if not _recorded(partial(take_message, default_runtime(), message), message):
        raise Reject("the ledger is away", requeue=True)


def _recorded(record: Callable[[], None], message: EnqueueMessage) -> bool:
    """Record what becomes of a message, also when the ledger is away first. False: we must stop."""
    while True:
        try:
            record()
            return True
        except LedgerUnavailable as error:
            log.get().warning("enqueue_delayed", message_id=message.id, reason=str(error))
        note_message()
        if state.should_stop is not None or state.should_terminate is not None:
            return False
        threading.Event().wait(RETRY_INTERVAL_SECONDS)


def _expires_at(expires: str | datetime | None) -> int | None:
    """Return when a message expires, ms. Celery has refused a time that cannot be read."""
    if not expires:
        return None
    return int(maybe_make_aware(maybe_iso8601(expires)).timestamp() * 1000)


#: Takes the messages that waited for the limits of their tenants.
waiting: Sweeper = Sweeper(lambda: take_waiting(default_runtime()), name="waiting_messages")


@signals.worker_ready.connect
def _start_rounds(sender: Any, **_: Any) -> None:
    if sender.app is app:
        SweepTimer(waiting.sweep, default_runtime().settings.sweep_seconds).start()


@signals.worker_shutdown.connect
def _end_rounds(**_: Any) -> None:
    waiting.stop()
