"""Enqueueing by Celery message, for services that live on the same broker.

    app.send_task("orchestrator.enqueue", kwargs={...}, queue="orchestrator.enqueue")

This message is no hint: until its job is in the ledger it is the only record of the request. So it
has its own queue and its own process, with acknowledgements, and is as durable as the broker. It
may be delivered twice; its Celery task id is the idempotency key.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject
from celery.worker import state

from orchestrator import log
from orchestrator.enqueue import IdempotencyMismatch, create_job
from orchestrator.jobs.validation import InvalidRequest, Violation
from orchestrator.jsonio import dump
from orchestrator.ledger import LedgerUnavailable
from orchestrator.messages import CONNECTION_OPTIONS
from orchestrator.runtime import Runtime, default_runtime
from workers.app import configured

QUEUE = "orchestrator.enqueue"
#: A message that nobody acknowledged is given out again after this long. Seconds.
VISIBILITY_TIMEOUT = 60
#: How long to wait between looks for a ledger that is away. Seconds.
PATIENCE = 1.0

app: Celery = configured(
    "orchestrator.intake",
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT, **CONNECTION_OPTIONS},
)


@app.task(name="orchestrator.enqueue", bind=True)
def enqueue(self: Task, *unnamed: Any, **request: Any) -> None:
    """Put one request into the ledger. A bad one is logged and kept among the rejected messages."""
    runtime, message_id = default_runtime(), self.request.id
    while True:
        try:
            _place(runtime, request, message_id, unnamed)
            return
        except LedgerUnavailable as error:
            log.get().warning("enqueue_waits", message=message_id, why=str(error))
        if state.should_stop is not None or state.should_terminate is not None:
            raise Reject("the ledger is away", requeue=True)
        threading.Event().wait(PATIENCE)


def _place(
    runtime: Runtime, request: dict[str, Any], message_id: str, unnamed: tuple[Any, ...]
) -> None:
    try:
        if unnamed:
            raise InvalidRequest(
                Violation("args", list(unnamed), "left out; use keyword arguments")
            )
        create_job(runtime, request, scope="celery", key=message_id)
    except (InvalidRequest, IdempotencyMismatch) as error:
        log.get().error("enqueue_refused", message=message_id, why=str(error))
        body = dump({"id": message_id, "args": unnamed, "kwargs": request})
        runtime.ledger.reject("enqueue", now=runtime.clock(), reason=str(error), body=body)
