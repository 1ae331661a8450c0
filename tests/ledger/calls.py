"""Every public method of the ledger, called with usual arguments: to test what holds for all."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from orchestrator.jobs import Attempt, Job, SettledBy, Status, Step
from orchestrator.ledger import Idempotency, Lease, Ledger, keys
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, LEASE, LOOK, NOW, REQUEST, SUCCESS

#: Found in the class itself, so that a new method cannot be forgotten here.
PUBLIC = sorted(
    name for name, _ in inspect.getmembers(Ledger, inspect.isfunction) if not name.startswith("_")
)

Call = Callable[[Ledger, Lease], object]

#: Each method, made with a job that is in the state that `prepared` brings it to.
CALLS: Mapping[str, Call] = {
    "create": lambda ledger, _: ledger.create(
        REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=Idempotency("caller", "order-17")
    ),
    "claim": lambda ledger, lease: ledger.claim(lease.job.id, Step.SUBMIT, now=NOW, lease_ms=LEASE),
    "accepted": lambda ledger, lease: ledger.accepted(
        lease.job.id, 1, "task-1", now=NOW, next_look=LOOK
    ),
    "requeue": kit.requeue,
    "unconfirmed": kit.unconfirmed,
    "defer": kit.defer,
    "observe": lambda ledger, lease: ledger.observe(
        lease.job.id, 1, "task-1", now=NOW, next_look=LOOK, fallback=LOOK
    ),
    "settle_attempt": lambda ledger, lease: ledger.settle_attempt(
        lease.job.id, 1, "task-1", SUCCESS, now=NOW
    ),
    "settle": lambda ledger, lease: ledger.settle(lease, SUCCESS, SettledBy.POLL, now=NOW),
    "cancel": lambda ledger, lease: ledger.cancel(lease.job.id, now=NOW),
    "get": lambda ledger, lease: ledger.get(lease.job.id),
    "upload": lambda ledger, lease: ledger.upload(lease.job.id),
    "drop_upload": lambda ledger, lease: ledger.drop_upload(lease.job.id),
    "events": lambda ledger, lease: ledger.events(lease.job.id),
    "due": lambda ledger, _: ledger.due(0, now=NOW, limit=10),
    "wait": lambda ledger, lease: ledger.wait(lease.job.id, 0.01),
    "reject": lambda ledger, _: ledger.reject("callback", now=NOW, reason="not JSON", body=b"<"),
    "rejected": lambda ledger, _: ledger.rejected(),
    "mark_sweep": lambda ledger, _: ledger.mark_sweep(now=NOW, host="here"),
    "last_sweep": lambda ledger, _: ledger.last_sweep(),
    "installed_shards": lambda ledger, _: ledger.installed_shards(),
    "time": lambda ledger, _: ledger.time(),
    "server": lambda ledger, _: ledger.server(),
}

#: Those that change nothing.
READING = frozenset(
    {"get", "upload", "events", "due", "wait", "rejected", "last_sweep", "time", "server"}
)
#: Those that a full Redis is glad of.
FREEING = frozenset({"drop_upload"})
WRITING = sorted(set(PUBLIC) - READING)


def prepared(ledger: Ledger, name: str) -> Lease:
    """A job with which the method `name` has something to do."""
    if name == "drop_upload":
        return Lease(kit.job(ledger, kit.create(ledger, upload=b"a file")), "nobody's", NOW)
    if name in {"claim", "cancel"}:
        return Lease(kit.job(ledger, kit.create(ledger)), "nobody's", NOW)
    if name == "defer":
        return kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)
    return kit.submitting(ledger)


def unheard_of() -> Lease:
    """A lease on a job that no ledger knows."""
    job = Job(
        id=keys.new_job_id(0),
        status=Status.RUNNING,
        request=REQUEST,
        created_at=NOW,
        updated_at=NOW,
        deadline_at=DEADLINE,
        attempts=(Attempt(1, NOW, "task-1"),),
    )
    return Lease(job, "a token", LOOK)
