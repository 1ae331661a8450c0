"""Counts what an installation still has to do, and stops its submissions."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from kombu.exceptions import OperationalError

from orchestrator.clock import DAY_MS
from orchestrator.jobs.model import Status, Step
from orchestrator.ledger.admission import CircuitState
from orchestrator.ledger.bulk import BulkState
from orchestrator.messages import ENQUEUE_QUEUE
from orchestrator.operations.admission import pause_provider
from orchestrator.runtime import Runtime

#: The most batches of a shard that are counted.
MAX_BATCHES = 500
#: The most bulk actions that are looked at.
MAX_BULK_ACTIONS = 200


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left to do. A count is None when it is not known.

    Attributes:
        queued: jobs that were not submitted.
        in_flight: jobs that are submitted, or may be.
        archives, notifications, confirmations: pending follow-ups of jobs.
        batches: complete requests whose jobs or notification have not ended.
        bulk_actions: actions that run.
        messages: enqueue messages that wait at the broker, or for a limit of their tenant.
    """

    queued: int
    in_flight: int
    archives: int
    notifications: int
    confirmations: int
    batches: int
    bulk_actions: int
    messages: int | None

    def left(self, *, paused: bool) -> dict[str, int | None]:
        """Return the counts that are not 0. While submissions are paused, some may stay."""
        waits = {"queued", "messages", "batches"} if paused else set()
        counts = asdict(self).items()
        return {name: count for name, count in counts if count != 0 and name not in waits}


def remaining(runtime: Runtime) -> Remaining:
    """Return what is left to do.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    now, ledger = runtime.clock(), runtime.ledger
    jobs = ledger.overview.counts()
    follow_ups = {
        step: ledger.follow_ups.backlog(step, now=now).pending
        for step in (Step.ARCHIVE, Step.NOTIFY, Step.CONFIRM)
    }
    started = (Status.SUBMITTING, Status.UNCONFIRMED, Status.RUNNING)
    actions = ledger.bulk.newest(MAX_BULK_ACTIONS)
    return Remaining(
        queued=jobs.get(Status.QUEUED, 0),
        in_flight=sum(jobs.get(status, 0) for status in started),
        archives=follow_ups[Step.ARCHIVE],
        notifications=follow_ups[Step.NOTIFY],
        confirmations=follow_ups[Step.CONFIRM],
        batches=_batches(runtime, now),
        bulk_actions=sum(action.state is BulkState.RUNNING for action in actions),
        messages=_messages(runtime),
    )


def pause_all(runtime: Runtime, *, actor: str) -> list[str]:
    """Pause the enabled providers that are not paused. Return their names.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    states = runtime.ledger.admission.states(runtime.settings.providers, now=runtime.clock())
    names = [name for name, state in states.items() if state.circuit is not CircuitState.PAUSED]
    for name in names:
        pause_provider(runtime, name, actor=actor, reason="orchestrator drain --pause")
    return names


def _batches(runtime: Runtime, now: int) -> int:
    """Return the number of batches that are not done. An incomplete request does not count."""
    ledger, later = runtime.ledger, now + 3650 * DAY_MS
    ids = [
        batch_id
        for shard in range(ledger.shards)
        for batch_id in ledger.follow_ups.due(shard, Step.BATCH, now=later, limit=MAX_BATCHES)
    ]
    known = map(ledger.batches.get, ids)
    return sum(batch is not None and batch.sealed_at is not None for batch in known)


def _messages(runtime: Runtime) -> int | None:
    try:
        at_broker = runtime.broker.waiting([ENQUEUE_QUEUE])[ENQUEUE_QUEUE]
    except (OSError, OperationalError):
        return None
    return at_broker + runtime.ledger.waiting_messages.size()
