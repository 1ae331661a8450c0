"""Checks the broker: a message through it, and one through each queue to its reader."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from time import monotonic

from kombu.exceptions import OperationalError

from orchestrator.ledger import Ledger
from orchestrator.messages import ARCHIVE_QUEUE, ECHO, ENQUEUE_QUEUE, QUEUE, Broker
from orchestrator.operations.check_result import CheckResult
from orchestrator.settings.environment import redacted
from orchestrator.settings.settings import Settings

#: With more waiting messages, workers are missing or too few.
MAX_WAITING_MESSAGES = 100
#: The process that reads each queue.
READERS = {QUEUE: "worker", ARCHIVE_QUEUE: "worker", ENQUEUE_QUEUE: "intake"}
#: A process answers a message within this time. Seconds.
ANSWER_SECONDS = 10.0
#: The time between two looks for answers. Seconds.
LOOK_SECONDS = 0.1


def check_broker(settings: Settings, broker: Broker) -> Iterator[CheckResult]:
    """Send a message through a queue of its own, and count the waiting messages."""
    try:
        came_back = broker.echo(secrets.token_hex(8))
        waiting = broker.waiting([QUEUE, ARCHIVE_QUEUE])
    except (OSError, OperationalError) as error:
        detail = f"no answer at {redacted(settings.broker_url)}: {error}"
        fix = "start the broker, or correct ORCHESTRATOR_BROKER_URL or the rights of its user"
        yield CheckResult("broker", "wrong", detail, fix)
        return
    if not came_back:
        fix = "look at the broker's log"
        yield CheckResult("broker", "wrong", "a message did not come back", fix)
        return
    queue = max(waiting, key=lambda each: waiting[each])
    if waiting[queue] > MAX_WAITING_MESSAGES:
        fix = "start a worker that reads this queue, or more workers; see WORKER_QUEUES"
        found = f"{waiting[queue]} messages are waiting in {queue}"
        yield CheckResult("broker", "warning", found, fix)
    else:
        found = f"a message came back; {sum(waiting.values())} messages are waiting"
        yield CheckResult("broker", "ok", found)


def check_queues(ledger: Ledger, broker: Broker) -> Iterator[CheckResult]:
    """Send a message through each queue whose reader lives, and wait until it is answered."""
    now = ledger.installation.time()
    alive = {each.kind for each in ledger.processes.alive(now=now) if not each.is_silent(now)}
    tokens = {queue: secrets.token_hex(8) for queue, kind in READERS.items() if kind in alive}
    for queue, token in tokens.items():
        broker.publish(ECHO, [token], queue=queue, message_id=token)
    answered = _answers(ledger, list(tokens.values()))
    for queue, token in tokens.items():
        kind = READERS[queue]
        if token in answered:
            yield CheckResult("queues", "ok", f"{queue}: a message was answered by {kind}")
            continue
        found = f"{queue}: a message was not answered by {kind} in {ANSWER_SECONDS:g} s"
        fix = "give all processes one ORCHESTRATOR_BROKER_URL; see WORKER_QUEUES of the workers"
        yield CheckResult("queues", "wrong", found, fix)


def _answers(ledger: Ledger, tokens: list[str]) -> set[str]:
    ends, tick = monotonic() + ANSWER_SECONDS, threading.Event()
    while (answered := ledger.echoes.answered(tokens)) != set(tokens) and monotonic() < ends:
        tick.wait(LOOK_SECONDS)
    return answered
