"""Reads enqueue messages of other Celery services on the same broker.

    app.send_task("orchestrator.enqueue", kwargs={...}, queue="orchestrator.enqueue")

Such a message is not a hint: until its job is in the ledger, it is the only record of the request.
So it has its own queue, its own process and late acknowledgements. It may be delivered twice. Its
Celery task id is the idempotency key.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject
from celery.worker import state

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
from orchestrator.messages import CONNECTION_OPTIONS, ENQUEUE_QUEUE
from orchestrator.runtime import Runtime, default_runtime
from workers.app import celery_app

#: A message without an acknowledgement is delivered again after this time. Seconds.
VISIBILITY_TIMEOUT_SECONDS = 60
#: The longest wait of a message whose tenant has reached a limit. With its jitter the wait is still
#: below the visibility time-out, so the broker does not deliver the message twice. Seconds.
MAX_LIMIT_WAIT_SECONDS = 30.0
#: Wait between tries while the ledger is away. Seconds.
RETRY_INTERVAL_SECONDS = 1.0

app: Celery = celery_app(
    "orchestrator.intake",
    task_default_queue=ENQUEUE_QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
        **CONNECTION_OPTIONS,
    },
)


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
