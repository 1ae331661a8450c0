"""The ways to notify a caller, and the checks of a request that names one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from kombu.exceptions import OperationalError

from orchestrator import tracing
from orchestrator.delivery.message import Message
from orchestrator.jobs.request import Receiver
from orchestrator.jobs.validation import Violation
from orchestrator.messages import Unroutable
from orchestrator.net.guard import Forbidden
from orchestrator.net.guarded_session import RequestFailed
from orchestrator.runtime import Runtime
from orchestrator.security import standard_webhooks
from orchestrator.security.secret import Secret
from orchestrator.settings.settings import Settings
from orchestrator.step_loop import in_thread

#: The time of a caller's server for its whole answer, from Standard Webhooks. Seconds.
TIMEOUT_SECONDS = 15.0
#: The queue of a Celery task without a queue in the request: Celery's own default.
DEFAULT_QUEUE = "celery"
#: Prefixes of our own Celery tasks and queues. On Redis, queues share their names with our keys.
OUR_PREFIX = "orchestrator."
OUR_QUEUE_PREFIXES = (OUR_PREFIX, "{orch:")
_SCHEME = re.compile(r"(?:https?://)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of a try. `reason` says why it failed; None after a success."""

    reason: str | None = None
    #: The receiver does not want another try.
    gone: bool = False
    #: The wait that the receiver asks for, seconds.
    retry_after: float | None = None
    #: Whether the receiver's host works. None: it was not called.
    host_works: bool | None = True
    #: The HTTP status of the receiver's answer; None: there was none.
    status: int | None = None


def signing_secrets(runtime: Runtime, tenant: str) -> tuple[Secret, ...]:
    """Return the secrets that sign a tenant's notifications: its own, or those of the settings.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    own = runtime.ledger.access.current().tenant(tenant).secrets(runtime.clock())
    return own or runtime.settings.notify_secrets


def refusals(receiver: Receiver, settings: Settings, *, signs: bool) -> Iterator[Violation]:
    """Return the errors in the notification fields of a request.

    `signs` says whether there is a secret that signs its notification.
    """
    named = [n for n in ("notify_url", "notify_task", "notify_stream") if getattr(receiver, n)]
    if len(named) > 1:
        yield Violation(named[1], getattr(receiver, named[1]), f"left out when {named[0]} is given")
    if receiver.notify_queue and not receiver.notify_task:
        yield Violation("notify_queue", receiver.notify_queue, "left out without notify_task")
    if receiver.notify_url:
        yield from _refused_url(receiver.notify_url, settings, signs=signs)
    if receiver.notify_task:
        yield from _refused_task(receiver.notify_task, receiver.notify_queue, settings)


def deliver(runtime: Runtime, receiver: Receiver, tenant: str, message: Message) -> Delivery:
    """Notify the caller of a tenant's job or batch in the way that its request names."""
    if receiver.notify_url:
        secrets = signing_secrets(runtime, tenant)
        return _post(runtime, receiver.notify_url, message, secrets)
    if receiver.notify_task:
        return _send(runtime, receiver, message)
    stream = receiver.notify_stream or ""
    entry = {"id": message.id, "type": message.type, "body": message.body.decode()}
    with tracing.message_span(stream, system="redis"):
        in_thread(runtime.ledger.follow_ups.publish, stream, {**entry, **tracing.headers()})
    return Delivery()


def _refused_url(url: str, settings: Settings, *, signs: bool) -> Iterator[Violation]:
    shown = _without_secrets(url)
    if not signs:
        yield Violation("notify_url", shown, "left out until ORCHESTRATOR_NOTIFY_SECRET is set")
    try:
        settings.guard.check(url)
    except Forbidden as error:
        yield Violation("notify_url", shown, f"an https:// URL of a public host ({error})")


def _without_secrets(url: str) -> str:
    """Return a URL, or a text that was meant as one, without user, password, query and fragment."""
    start = _SCHEME.match(url)
    begin, rest = (start[0], url[start.end() :]) if start else ("", url)
    if "@" in rest:
        rest = "***@" + rest.rpartition("@")[2]
    return begin + re.split("[?#]", rest, maxsplit=1)[0]


def _refused_task(task: str, queue: str | None, settings: Settings) -> Iterator[Violation]:
    allowed = settings.notify_tasks
    if task.startswith(OUR_PREFIX) or not any(fnmatchcase(task, pattern) for pattern in allowed):
        names = ", ".join(allowed) or "none, because it is not set"
        yield Violation("notify_task", task, f"a task of ORCHESTRATOR_NOTIFY_TASKS: {names}")
    if queue and queue.startswith(OUR_QUEUE_PREFIXES):
        reserved = " or ".join(f"{name}*" for name in OUR_QUEUE_PREFIXES)
        yield Violation("notify_queue", queue, f"a queue of your own, not {reserved}")


def _post(runtime: Runtime, url: str, message: Message, secrets: tuple[Secret, ...]) -> Delivery:
    if not secrets:
        reason = "ORCHESTRATOR_NOTIFY_SECRET is not set, so nothing can be signed"
        return Delivery(reason, host_works=None)
    body = message.body
    signed = standard_webhooks.headers(secrets, message.id, runtime.clock() // 1000, body)
    headers = {"Content-Type": "application/json", "User-Agent": "image-orchestrator", **signed}
    try:
        with tracing.call_span("POST", url) as span:
            headers |= tracing.headers()
            answer = runtime.session.post(url, body, headers, seconds=TIMEOUT_SECONDS)
            span.answered(answer.status)
    except Forbidden as error:
        return Delivery(str(error), host_works=None)
    except RequestFailed as error:
        return Delivery(error.reason, host_works=False)
    if 200 <= answer.status < 300:
        return Delivery(status=answer.status)
    return Delivery(
        f"it answered {answer.status}",
        status=answer.status,
        gone=answer.status == 410,
        retry_after=answer.retry_after if answer.status in (429, 503) else None,
        host_works=answer.status < 500,
    )


def _send(runtime: Runtime, receiver: Receiver, message: Message) -> Delivery:
    queue = receiver.notify_queue or DEFAULT_QUEUE
    try:
        with tracing.message_span(queue):
            in_thread(
                runtime.broker.publish,
                receiver.notify_task or "",
                [message.content],
                queue=queue,
                message_id=message.id,
            )
    except OperationalError as error:
        return Delivery(f"the broker is away: {error}"[:200])
    except Unroutable as error:
        return Delivery(f"{error}; start its worker, or correct notify_queue"[:200])
    return Delivery()
