"""Reads enqueue messages of other Celery services on the same broker.

    app.send_task("orchestrator.enqueue", kwargs={...}, queue="orchestrator.enqueue")

Such a message is not a hint: until its job is in the ledger, it is the only record of the request.
So it has its own queue, its own process and late acknowledgements. It may be delivered twice. Its
Celery task id is the idempotency key.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, ClassVar

from celery import Celery, Task
from celery.exceptions import Reject
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection, Queue

from orchestrator import log, tracing
from orchestrator.backoff import back_off
from orchestrator.enqueue import (
    CELERY_SCOPE,
    IdempotencyGone,
    IdempotencyMismatch,
    TenantLimitReached,
    create_job,
)
from orchestrator.jobs.tenant import tenant_name
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jsonio import dump
from orchestrator.ledger import LedgerUnavailable
from orchestrator.messages import ENQUEUE_QUEUE, transport_options
from orchestrator.runtime import Runtime, default_runtime
from orchestrator.servers.broker_server import BrokerServer
from orchestrator.servers.rabbitmq import has_other_type, is_rabbitmq, quorum_queue
from workers.app import broker_url, celery_app, note_message

#: A message without an acknowledgement is delivered again after this time. Seconds.
VISIBILITY_TIMEOUT_SECONDS = 60
#: The longest wait of a message whose tenant has reached a limit. With its jitter the wait is still
#: below the visibility time-out, so the broker does not deliver the message twice. Seconds.
MAX_LIMIT_WAIT_SECONDS = 30.0
#: This process holds the messages that wait for their tenants' limits. With RabbitMQ it holds this
#: many at most, and takes no others meanwhile.
RABBITMQ_PREFETCH = 256
#: A wait for a message ends after this time, and begins again. Each is a command. Seconds.
BRPOP_SECONDS = 4.0
#: Wait between tries while the ledger is away. Seconds.
RETRY_INTERVAL_SECONDS = 1.0


class IntakeConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer without its delayed delivery, which makes 28 queues at RabbitMQ.

    We wait for half a minute at most, and Celery's own timer does that.
    """

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


# It warns that a wait occupies this process. The wait is half a minute at most.
logging.getLogger("celery.app.base").setLevel(logging.ERROR)


@app.task(name="orchestrator.enqueue", bind=True)
def enqueue(self: Task, *unnamed: Any, **request: Any) -> None:
    """Create the job of one request. A bad request is logged and added to the rejected messages."""
    runtime, message_id = default_runtime(), self.request.id
    while True:
        try:
            with tracing.continued((self.request.headers or {}).get):
                _create(runtime, request, message_id, unnamed)
            return
        except TenantLimitReached as error:
            # The message waits at the broker, so other tenants' messages pass it. The wait doubles,
            # so that a backlog of one tenant does not occupy this process.
            first = max(error.retry_after, RETRY_INTERVAL_SECONDS)
            wait = back_off(self.request.retries, first, MAX_LIMIT_WAIT_SECONDS, runtime.random)
            raise self.retry(exc=error, countdown=wait, max_retries=None) from None
        except LedgerUnavailable as error:
            log.get().warning("enqueue_delayed", message=message_id, reason=str(error))
        note_message()
        if state.should_stop is not None or state.should_terminate is not None:
            raise Reject("the ledger is away", requeue=True)
        threading.Event().wait(RETRY_INTERVAL_SECONDS)


def _create(
    runtime: Runtime, request: dict[str, Any], message_id: str, unnamed: tuple[Any, ...]
) -> None:
    try:
        if unnamed:
            raise InvalidRequest(
                Violation("args", list(unnamed), "left out; use keyword arguments")
            )
        fields = {name: value for name, value in request.items() if name != "tenant"}
        tenant = tenant_name(request.get("tenant"))
        create_job(runtime, fields, scope=CELERY_SCOPE, tenant=tenant, key=message_id)
    except (InvalidRequest, IdempotencyMismatch, IdempotencyGone) as error:
        log.get().error("enqueue_refused", message=message_id, reason=str(error))
        body = dump({"id": message_id, "args": unnamed, "kwargs": request})
        runtime.ledger.rejected.keep("enqueue", now=runtime.clock(), reason=str(error), body=body)
