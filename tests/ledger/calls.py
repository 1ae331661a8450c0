"""Every public method of the ledger, called with usual arguments: to test what holds for all.

Those of its parts go by the part's name: `follow_ups.claim`. Of the overview only those that write
are here; the others go through many jobs, in as many round trips as that takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from orchestrator.jobs.model import Attempt, FollowUpStatus, Job, SettledBy, Status, Step
from orchestrator.ledger import Idempotency, Lease, Ledger, keys
from orchestrator.ledger.circuit_breaker import PROBE_INTERVAL_MS, CircuitBreaker
from orchestrator.ledger.follow_ups import FollowUps
from orchestrator.ledger.overview import Overview
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, HOST, LEASE, LOOK, NOW, REQUEST, SUCCESS

#: The ledger's own methods, and those of its parts.
PARTS: Mapping[str, type] = {
    "": Ledger,
    "follow_ups.": FollowUps,
    "hosts.": CircuitBreaker,
    "overview.": Overview,
}
#: Looks over many jobs: not on a job's way, and tested in test_overview.
OVERVIEW = frozenset(
    f"overview.{name}"
    for name in (
        *(
            "agenda",
            "counts",
            "jobs",
            "created_before",
            "page",
            "size",
            "snapshots",
            "watch_counts",
        ),
        "unconfirmed",
    )
)
#: Found in the classes themselves, so that a new method cannot be forgotten here.
PUBLIC = sorted(
    {
        prefix + name
        for prefix, part in PARTS.items()
        for name, _ in inspect.getmembers(part, inspect.isfunction)
        if not name.startswith("_")
    }
    - OVERVIEW
)

Call = Callable[[Ledger, Lease], object]

#: Each method, made with a job that is in the state that `prepared` brings it to.
CALLS: Mapping[str, Call] = {
    "create": lambda ledger, _: ledger.create(
        REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=Idempotency("caller", "order-17")
    ),
    "claim": lambda ledger, lease: ledger.claim(lease.job.id, Step.SUBMIT, now=NOW, lease_ms=LEASE),
    "accepted": lambda ledger, lease: ledger.accepted(
        lease.job.id, 1, "task-1", now=NOW, due_at=LOOK
    ),
    "requeue": kit.requeue,
    "unconfirmed": kit.unconfirmed,
    "defer": kit.defer,
    "observe": lambda ledger, lease: ledger.observe(
        lease.job.id, 1, "task-1", now=NOW, due_at=LOOK, fallback=LOOK
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
    "follow_ups.claim": lambda ledger, lease: ledger.follow_ups.claim(
        lease.job.id, Step.ARCHIVE, now=NOW, lease_ms=LEASE
    ),
    "follow_ups.later": lambda ledger, lease: kit.later(ledger, lease, Step.ARCHIVE),
    "follow_ups.done": lambda ledger, lease: kit.done(ledger, lease, Step.ARCHIVE),
    "follow_ups.notify_again": lambda ledger, lease: ledger.follow_ups.notify_again(
        lease.job.id, now=NOW
    ),
    "follow_ups.publish": lambda ledger, lease: ledger.follow_ups.publish(
        "orders", {"job": lease.job.id}
    ),
    "follow_ups.due": lambda ledger, _: ledger.follow_ups.due(0, Step.ARCHIVE, now=NOW, limit=10),
    "follow_ups.backlog": lambda ledger, _: ledger.follow_ups.backlog(Step.NOTIFY, now=NOW),
    "follow_ups.at_risk": lambda ledger, _: ledger.follow_ups.at_risk(before=LOOK),
    "follow_ups.dead": lambda ledger, _: ledger.follow_ups.dead(10),
    "hosts.failing": lambda ledger, _: ledger.circuit_breaker.failing(),
    "hosts.failed": lambda ledger, _: ledger.circuit_breaker.failed(HOST, now=NOW),
    "hosts.probe": lambda ledger, _: ledger.circuit_breaker.probe(
        HOST, now=NOW + PROBE_INTERVAL_MS
    ),
    "hosts.forget": lambda ledger, _: ledger.circuit_breaker.forget(HOST),
    "overview.tidy": lambda ledger, _: ledger.overview.tidy(oldest=LOOK),
    "overview.forget": lambda ledger, lease: ledger.overview.forget(lease.job.id, before=LOOK),
}

#: Those that change nothing.
READING = frozenset(
    {
        *("get", "upload", "events", "due", "wait", "rejected", "last_sweep", "time", "server"),
        *("follow_ups.due", "follow_ups.backlog", "follow_ups.at_risk", "follow_ups.dead"),
        "hosts.failing",
    }
)
#: Those that a full Redis is glad of.
FREEING = frozenset({"drop_upload", "hosts.forget", "overview.tidy", "overview.forget"})
WRITING = sorted(set(PUBLIC) - READING)


def prepared(ledger: Ledger, name: str) -> Lease:
    """A job with which the method `name` has something to do."""
    if name == "drop_upload":
        return held(ledger, kit.create(ledger, upload=b"a file"))
    if name in {"claim", "cancel"}:
        return held(ledger, kit.create(ledger))
    if name == "defer":
        return kit.claim(ledger, kit.running(ledger), Step.POLL, now=LOOK)
    part, _, method = name.partition(".")
    if part == "follow_ups":
        return followed(ledger, method)
    if part == "hosts":
        kit.pause(ledger, now=NOW - kit.DAY)
    if part == "overview":
        return leftover(ledger) if method == "tidy" else held(ledger, kit.quiet(ledger))
    return kit.submitting(ledger)


def followed(ledger: Ledger, method: str) -> Lease:
    """A job with something to follow for that method; both follow-ups, most often."""
    if method == "notify_again":
        job_id = kit.ended(ledger, kit.FAILURE)
        return held(ledger, kit.followed(ledger, job_id, Step.NOTIFY, FollowUpStatus.DEAD))
    if method in {"later", "done"}:
        return kit.follow(ledger, kit.ended(ledger), Step.ARCHIVE)
    return held(ledger, kit.ended(ledger))


def leftover(ledger: Ledger) -> Lease:
    """A job that is gone, but for an attempt of unknown fate."""
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease)
    again = kit.claim(ledger, lease.job.id, now=LOOK)
    ledger.settle(again, kit.FAILURE, SettledBy.DEADLINE, now=NOW)
    assert ledger.overview.forget(lease.job.id, before=LOOK) == "forgotten"
    return lease


def held(ledger: Ledger, job_id: str) -> Lease:
    """The job, with a lease that is nobody's."""
    return Lease(kit.job(ledger, job_id), "nobody's", NOW)


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
