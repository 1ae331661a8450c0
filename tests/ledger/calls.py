"""A call of every public method of the ledger, for tests of common properties.

The methods of the parts of a ledger have the prefix of their attribute, for example
`follow_ups.claim`. Methods of the overview that only read are left out: they read many jobs, with
many round trips. test_overview tests them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestrator.jobs.model import Attempt, FollowUpStatus, Job, SettledBy, Status, Step
from orchestrator.ledger import Created, Idempotency, Lease, Ledger, Result, Room, identifiers, keys
from orchestrator.ledger.access import AccessBook
from orchestrator.ledger.admission import Admission
from orchestrator.ledger.agenda import Agenda
from orchestrator.ledger.audit import AuditTrail
from orchestrator.ledger.batches import Batches, BatchLease
from orchestrator.ledger.bulk import BulkActions
from orchestrator.ledger.changes import ChangeStreams
from orchestrator.ledger.circuit_breaker import PROBE_INTERVAL_MS, CircuitBreaker
from orchestrator.ledger.durations import Durations
from orchestrator.ledger.echoes import Echoes
from orchestrator.ledger.follow_ups import FollowUps
from orchestrator.ledger.idempotency import IdempotencyKeys
from orchestrator.ledger.installation import Installation
from orchestrator.ledger.outcomes import Outcomes
from orchestrator.ledger.overview import Overview
from orchestrator.ledger.processes import Process, Processes
from orchestrator.ledger.rejected_messages import RejectedMessages
from orchestrator.ledger.repeats import RepeatedRequests
from orchestrator.ledger.timings import TimingSums
from orchestrator.ledger.uploads import Uploads
from orchestrator.ledger.waiting_messages import WaitingMessages
from orchestrator.security.api_keys import DEFAULT_SCOPES, ApiKey, digest
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, HOST, LEASE, NEXT_DUE, NOW, REQUEST, SUCCESS

#: The id of a job that retries another one.
OTHER_JOB = identifiers.new_job_id(0, NOW)

#: The classes of the ledger, and the prefix of their methods.
CLASSES: Mapping[str, type] = {
    "": Ledger,
    "follow_ups.": FollowUps,
    "circuit_breaker.": CircuitBreaker,
    "durations.": Durations,
    "echoes.": Echoes,
    "batches.": Batches,
    "admission.": Admission,
    "overview.": Overview,
    "access.": AccessBook,
    "audit.": AuditTrail,
    "bulk.": BulkActions,
    "changes.": ChangeStreams,
    "agenda.": Agenda,
    "idempotency_keys.": IdempotencyKeys,
    "installation.": Installation,
    "outcomes.": Outcomes,
    "processes.": Processes,
    "rejected.": RejectedMessages,
    "repeats.": RepeatedRequests,
    "timings.": TimingSums,
    "uploads.": Uploads,
    "waiting_messages.": WaitingMessages,
}
PROCESS = Process("worker", HOST, 17, "0.1.0", NOW, NOW)
KEY = ApiKey("key_1", "shop", DEFAULT_SCOPES, digest("orch_0"), NOW)
#: Methods of the overview that only read.
READS_MANY_JOBS = frozenset(
    f"overview.{name}"
    for name in (
        *("counts", "created_before", "existing", "jobs", "readable_jobs", "page", "newest"),
        *("open_jobs", "rate_wait", "spent", "queued", "size", "snapshots", "tenants"),
        *("unconfirmed", "watch_totals", "with_status"),
    )
)
#: Methods of the streams of changes that read many jobs.
READS_MANY_JOBS |= {"changes.jobs", "changes.pages"}
#: Methods that send nothing themselves.
SENDS_NOTHING = {"outcomes.subscription"}
#: Every other public method. The list is read from the classes, so it is complete.
PUBLIC = sorted(
    {
        prefix + name
        for prefix, class_ in CLASSES.items()
        for name, _ in inspect.getmembers(class_, inspect.isfunction)
        if not name.startswith("_")
    }
    - READS_MANY_JOBS
    - SENDS_NOTHING
)


def batch_of(lease: Lease) -> str:
    """Return the batch of the job of a lease."""
    assert lease.job.batch
    return lease.job.batch


def batch_lease(lease: Lease) -> BatchLease:
    """Return the lease with this token on the batch of a job."""
    return BatchLease(kit.empty_batch(batch_of(lease)), lease.token)


#: A call of each method. Its arguments are the ledger and the result of `prepare`.
CALLS: Mapping[str, Callable[[Ledger, Lease], object]] = {
    "create": lambda ledger, _: ledger.create(
        REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=Idempotency("caller", "order-17")
    ),
    "idempotency_keys.find": lambda ledger, _: ledger.idempotency_keys.find(
        Idempotency("caller", "order-17")
    ),
    "repeats.latest": lambda ledger, _: ledger.repeats.latest(keys.digest("caller", "order-17")),
    "repeats.remember": lambda ledger, lease: ledger.repeats.remember(
        keys.digest("caller", "order-17"), lease.job.id
    ),
    "repeats.record_answer": lambda ledger, lease: ledger.repeats.record_answer(
        keys.digest("caller", "order-17"), lease.job.id, now=NOW
    ),
    "admission.hold": lambda ledger, _: ledger.admission.hold(
        "evolink", Step.SUBMIT, kit.THIN, now=NOW, ends_at=NEXT_DUE
    ),
    "admission.obstacle": lambda ledger, _: ledger.admission.obstacle(
        0, "evolink", is_new=True, now=NOW
    ),
    "admission.pause": lambda ledger, _: ledger.admission.pause("evolink", by="tests", now=NOW),
    "admission.resume": lambda ledger, _: ledger.admission.resume("evolink", now=NOW),
    "admission.states": lambda ledger, _: ledger.admission.states(["evolink"], now=NOW),
    "admission.waits": lambda ledger, lease: ledger.admission.waits([lease.job], now=NOW),
    "durations.of": lambda ledger, _: ledger.durations.of(["evolink"]),
    "claim": lambda ledger, lease: ledger.claim(lease.job.id, Step.SUBMIT, now=NOW, lease_ms=LEASE),
    "accepted": lambda ledger, lease: ledger.accepted(
        lease.job.id, 1, "task-1", now=NOW, due_at=NEXT_DUE
    ),
    "requeue": kit.requeue,
    "unconfirmed": kit.unconfirmed,
    "defer": kit.defer,
    "observe": lambda ledger, lease: ledger.observe(
        lease.job.id, 1, "task-1", now=NOW, due_at=NEXT_DUE, fallback=NEXT_DUE
    ),
    "settle_attempt": lambda ledger, lease: ledger.settle_attempt(
        lease.job.id, 1, "task-1", SUCCESS, now=NOW
    ),
    "settle": lambda ledger, lease: ledger.settle(lease, SUCCESS, SettledBy.POLL, now=NOW),
    "agenda.poll_now": lambda ledger, lease: ledger.agenda.poll_now(
        lease.job.id, now=NOW, interval_ms=1
    ),
    "cancel": lambda ledger, lease: ledger.cancel(lease.job.id, now=NOW),
    "extend": lambda ledger, lease: ledger.extend(lease, now=NOW, lease_ms=LEASE),
    "retried": lambda ledger, lease: ledger.retried(lease.job.id, OTHER_JOB, now=NEXT_DUE),
    "get": lambda ledger, lease: ledger.get(lease.job.id),
    "uploads.get": lambda ledger, lease: ledger.uploads.get(lease.job.id),
    "uploads.drop": lambda ledger, lease: ledger.uploads.drop(lease.job.id),
    "uploads.create_with": lambda ledger, lease: ledger.uploads.create_with(
        lease.job.id, b"a file", 1, lambda: Created(Result.CREATED, lease.job.id)
    ),
    "uploads.keep": lambda ledger, lease: ledger.uploads.keep(
        lease.job.id, b"a file", deadline_ms=1
    ),
    "events": lambda ledger, lease: ledger.events(lease.job.id),
    "agenda.due": lambda ledger, _: ledger.agenda.due(0, now=NOW, limit=10),
    "agenda.due_within": lambda ledger, _: ledger.agenda.due_within(
        0, now=NOW, limit=10, room=Room(others=10)
    ),
    "agenda.counts": lambda ledger, _: ledger.agenda.counts(now=NOW),
    "outcomes.wait_for_batch": lambda ledger, lease: ledger.outcomes.wait_for_batch(
        batch_of(lease), 0.01
    ),
    "outcomes.wait": lambda ledger, lease: ledger.outcomes.wait(lease.job.id, 0.01),
    "rejected.keep": lambda ledger, _: ledger.rejected.keep(
        "callback", now=NOW, reason="not JSON", body=b"<"
    ),
    "rejected.page": lambda ledger, _: ledger.rejected.page(9),
    "rejected.get": lambda ledger, _: ledger.rejected.get("1-1"),
    "rejected.delete": lambda ledger, _: ledger.rejected.delete(ledger.rejected.page(1)[0].id),
    "installation.mark_sweep": lambda ledger, _: ledger.installation.mark_sweep(
        now=NOW, host="here"
    ),
    "installation.last_sweep": lambda ledger, _: ledger.installation.last_sweep(),
    "installation.begin_examination": lambda ledger, _: ledger.installation.begin_examination("{}"),
    "installation.record_examination": lambda ledger, _: ledger.installation.record_examination(
        "{}"
    ),
    "installation.examination": lambda ledger, _: ledger.installation.examination(),
    "installation.check_write": lambda ledger, _: ledger.installation.check_write(),
    "installation.join": lambda ledger, _: ledger.installation.join(),
    "installation.check": lambda ledger, _: ledger.installation.check(),
    "installation.time": lambda ledger, _: ledger.installation.time(),
    "installation.servers": lambda ledger, _: ledger.installation.servers(),
    "echoes.check_channel": lambda ledger, _: ledger.echoes.check_channel(),
    "echoes.answer": lambda ledger, _: ledger.echoes.answer("token"),
    "echoes.answered": lambda ledger, _: ledger.echoes.answered(["token"]),
    "installation.server": lambda ledger, _: ledger.installation.server(),
    "follow_ups.claim": lambda ledger, lease: ledger.follow_ups.claim(
        lease.job.id, Step.ARCHIVE, now=NOW, lease_ms=LEASE
    ),
    "follow_ups.later": lambda ledger, lease: kit.retry_follow_up(ledger, lease, Step.ARCHIVE),
    "follow_ups.done": lambda ledger, lease: kit.end_follow_up(ledger, lease, Step.ARCHIVE),
    "follow_ups.notify_again": lambda ledger, lease: ledger.follow_ups.notify_again(
        lease.job.id, now=NOW
    ),
    "follow_ups.archive_again": lambda ledger, lease: ledger.follow_ups.archive_again(
        lease.job, lease.job.all_images, now=NEXT_DUE
    ),
    "follow_ups.publish": lambda ledger, lease: ledger.follow_ups.publish(
        "orders", {"job": lease.job.id}
    ),
    "follow_ups.due": lambda ledger, _: ledger.follow_ups.due(0, Step.ARCHIVE, now=NOW, limit=10),
    "follow_ups.backlog": lambda ledger, _: ledger.follow_ups.backlog(Step.NOTIFY, now=NOW),
    "follow_ups.at_risk": lambda ledger, _: ledger.follow_ups.at_risk(10, now=NOW, before=NEXT_DUE),
    "follow_ups.given_up": lambda ledger, _: ledger.follow_ups.given_up(10, now=NOW),
    "follow_ups.dead": lambda ledger, _: ledger.follow_ups.dead(10),
    "batches.open": lambda ledger, _: kit.open_batch(ledger, "order-18"),
    "batches.create_jobs": lambda ledger, lease: kit.create_in_batch(ledger, batch_of(lease)),
    "batches.seal": lambda ledger, lease: ledger.batches.seal(batch_of(lease), "[]", now=NOW),
    "batches.answer": lambda ledger, lease: ledger.batches.answer(batch_of(lease)),
    "batches.get": lambda ledger, lease: ledger.batches.get(batch_of(lease)),
    "batches.complete": lambda ledger, lease: ledger.batches.complete(
        kit.empty_batch(batch_of(lease)), now=NOW, next_check=NEXT_DUE
    ),
    "batches.claim": lambda ledger, lease: ledger.batches.claim(
        batch_of(lease), now=NOW, lease_ms=LEASE
    ),
    "batches.later": lambda ledger, lease: ledger.batches.later(
        batch_lease(lease), now=NOW, due_at=NEXT_DUE, tries=1, error="503"
    ),
    "batches.notify_again": lambda ledger, lease: ledger.batches.notify_again(
        batch_of(lease), now=NOW
    ),
    "batches.done": lambda ledger, lease: ledger.batches.done(
        batch_lease(lease), FollowUpStatus.DONE, now=NOW, tries=1
    ),
    "circuit_breaker.failing": lambda ledger, _: ledger.circuit_breaker.failing(),
    "circuit_breaker.failed": lambda ledger, _: ledger.circuit_breaker.failed(HOST, now=NOW),
    "circuit_breaker.probe": lambda ledger, _: ledger.circuit_breaker.probe(
        HOST, now=NOW + PROBE_INTERVAL_MS
    ),
    "circuit_breaker.forget": lambda ledger, _: ledger.circuit_breaker.forget(HOST),
    "changes.hold": lambda ledger, _: ledger.changes.hold("recorder-1"),
    "changes.mark": lambda ledger, _: ledger.changes.mark(0),
    "changes.after": lambda ledger, _: ledger.changes.after({0: "0-1"}, 10),
    "changes.forget": lambda ledger, _: ledger.changes.forget({0: "0-1"}),
    "access.add_key": lambda ledger, _: ledger.access.add_key(KEY),
    "access.revoke_key": lambda ledger, _: ledger.access.revoke_key(KEY.id, now=NOW),
    "access.expire_key": lambda ledger, _: ledger.access.expire_key(KEY.id, at=NOW),
    "access.forget_key": lambda ledger, _: ledger.access.forget_key(KEY.id),
    "access.set_tenant": lambda ledger, _: ledger.access.set_tenant("shop", {"max_open": "5"}),
    "access.read": lambda ledger, _: ledger.access.read(),
    "access.current": lambda ledger, _: ledger.access.current(),
    "audit.record": lambda ledger, _: ledger.audit.record(
        now=NOW, actor="cli", action="cancel", target="a job"
    ),
    "audit.entries": lambda ledger, _: ledger.audit.entries(10),
    "audit.find": lambda ledger, _: ledger.audit.find(bool, 10),
    "bulk.save": lambda ledger, _: ledger.bulk.save(kit.BULK, [identifiers.new_job_id(0, NOW)]),
    "bulk.start": lambda ledger, _: kit.start_bulk(ledger),
    "bulk.get": lambda ledger, _: ledger.bulk.get(kit.BULK.id),
    "bulk.stop": lambda ledger, _: ledger.bulk.stop(kit.BULK, actor="cli:ops", now=NOW),
    "bulk.newest": lambda ledger, _: ledger.bulk.newest(10),
    "bulk.claim": lambda ledger, _: ledger.bulk.claim(now=NOW, lease_ms=LEASE),
    "bulk.advance": lambda ledger, _: kit.advance_bulk(ledger),
    "processes.record": lambda ledger, _: ledger.processes.record(PROCESS),
    "processes.forget": lambda ledger, _: ledger.processes.forget(PROCESS),
    "processes.known": lambda ledger, _: ledger.processes.known(),
    "processes.alive": lambda ledger, _: ledger.processes.alive(now=NOW),
    "timings.add": lambda ledger, _: ledger.timings.add({"a sum": 0.5}),
    "timings.read": lambda ledger, _: ledger.timings.read(),
    "waiting_messages.add": lambda ledger, _: kit.add_waiting(ledger),
    "waiting_messages.has": lambda ledger, _: ledger.waiting_messages.has(kit.MESSAGES),
    "waiting_messages.due": lambda ledger, _: ledger.waiting_messages.due(now=NOW, limit=10),
    "waiting_messages.oldest": lambda ledger, _: ledger.waiting_messages.oldest(kit.MESSAGES),
    "waiting_messages.later": lambda ledger, _: ledger.waiting_messages.later(
        kit.MESSAGES, due_at=NEXT_DUE
    ),
    "waiting_messages.done": lambda ledger, _: ledger.waiting_messages.done(kit.MESSAGES, "{}"),
    "waiting_messages.size": lambda ledger, _: ledger.waiting_messages.size(),
    "overview.tidy": lambda ledger, _: ledger.overview.tidy(oldest=NEXT_DUE),
    "overview.forget": lambda ledger, lease: ledger.overview.forget(lease.job.id, before=NEXT_DUE),
}

#: Methods that change nothing.
READS = frozenset(
    {
        *(
            "idempotency_keys.find",
            "repeats.latest",
            "get",
            "uploads.get",
            "events",
            "agenda.counts",
            "agenda.due",
            "agenda.due_within",
            "outcomes.wait",
            "outcomes.wait_for_batch",
            "rejected.page",
            "rejected.get",
            "installation.last_sweep",
            "installation.check",
            "installation.time",
            "installation.server",
            "installation.servers",
            "echoes.answered",
            "echoes.check_channel",
            "installation.examination",
        ),
        *("follow_ups.due", "follow_ups.backlog", "follow_ups.at_risk", "follow_ups.dead"),
        "follow_ups.given_up",
        *("circuit_breaker.failing", "access.read", "access.current", "audit.entries"),
        *(
            "admission.obstacle",
            "admission.states",
            "admission.waits",
            "durations.of",
            "changes.after",
            "bulk.get",
            "bulk.newest",
        ),
        "audit.find",
        *("batches.get", "batches.answer"),
        "timings.read",
        *(f"waiting_messages.{name}" for name in ("has", "due", "oldest", "size")),
        *("processes.known", "processes.alive"),
    }
)
#: Methods that only delete. A full Redis accepts them.
FREES_MEMORY = frozenset(
    {
        "uploads.drop",
        "rejected.delete",
        "waiting_messages.done",
        "processes.forget",
        "admission.resume",
        "circuit_breaker.forget",
        "overview.tidy",
        "overview.forget",
    }
)
#: Methods for the recorder. They change no job.
RECORDS = {"changes.forget", "changes.hold", "changes.mark"}
#: Methods that change a job or a setting. `kit.state` leaves out the value of the write check.
WRITES = sorted(set(PUBLIC) - READS - RECORDS - {"installation.check_write"})

#: Methods that take no lease, and the job on which each has an effect.
CREATED: Mapping[str, Callable[[Ledger], str]] = {
    **dict.fromkeys(("claim", "cancel"), kit.create),
    "uploads.drop": lambda ledger: kit.create(ledger, upload=b"a file"),
    "retried": lambda ledger: kit.settled(ledger, FAILURE),
}


def prepare(ledger: Ledger, name: str) -> Lease:
    """Create a job on which a method has an effect."""
    if name in CREATED:
        return not_leased(ledger, CREATED[name](ledger))
    if name == "admission.resume":
        ledger.admission.pause("evolink", by="tests", now=NOW)
    if name in {"agenda.poll_now", "defer", "extend"}:
        lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)
        return not_leased(ledger, lease.job.id) if name == "agenda.poll_now" else lease
    attribute, _, method = name.partition(".")
    makers = {"follow_ups": with_follow_up, "batches": with_batch, "outcomes": with_batch}
    if attribute in makers:
        return makers[attribute](ledger, method)
    if attribute == "bulk" and method != "save":
        ledger.bulk.save(kit.BULK, [identifiers.new_job_id(0, NOW)])
        if method != "start":
            kit.start_bulk(ledger)
    if name == "processes.forget":
        ledger.processes.record(PROCESS)
    if name in {"waiting_messages.later", "waiting_messages.done"}:
        kit.add_waiting(ledger)
    if name == "rejected.delete":
        ledger.rejected.keep("callback", now=NOW, reason="not JSON", body=b"<")
    if attribute == "circuit_breaker":
        kit.pause_host(ledger, now=NOW - kit.DAY)
    if attribute == "overview":
        return deleted(ledger) if method == "tidy" else not_leased(ledger, kit.finished(ledger))
    return kit.submitting(ledger)


def with_batch(ledger: Ledger, method: str) -> Lease:
    """Create a job in a batch on which a method has an effect."""
    batch_id = kit.open_batch(ledger)
    lease = not_leased(ledger, kit.create_in_batch(ledger, batch_id).job_id)
    if method in {"open", "create_jobs", "seal"}:
        return lease
    ledger.batches.seal(batch_id, "[]", now=NOW)
    if method in {"claim", "later", "done", "notify_again"}:
        ledger.batches.complete(kit.empty_batch(batch_id), now=NOW, next_check=NEXT_DUE)
    if method in {"later", "done"}:
        return replace(lease, token=kit.claim_batch(ledger, batch_id).token)
    return lease


def with_follow_up(ledger: Ledger, method: str) -> Lease:
    """Create a settled job on which a method of the follow-ups has an effect."""
    if method == "notify_again":
        job_id = kit.settled(ledger, kit.FAILURE)
        return not_leased(
            ledger, kit.finish_follow_up(ledger, job_id, Step.NOTIFY, FollowUpStatus.DEAD)
        )
    if method == "archive_again":
        job_id = kit.settled(ledger)
        return not_leased(
            ledger, kit.finish_follow_up(ledger, job_id, Step.ARCHIVE, FollowUpStatus.DEAD)
        )
    if method in {"later", "done"}:
        return kit.claim_follow_up(ledger, kit.settled(ledger), Step.ARCHIVE)
    return not_leased(ledger, kit.settled(ledger))


def deleted(ledger: Ledger) -> Lease:
    """Create and delete a job. Only its unconfirmed attempt is left."""
    lease = kit.submitting(ledger)
    kit.unconfirmed(ledger, lease)
    again = kit.claim(ledger, lease.job.id, now=NEXT_DUE)
    ledger.settle(again, kit.FAILURE, SettledBy.DEADLINE, now=NOW)
    assert ledger.overview.forget(lease.job.id, before=NEXT_DUE) == "forgotten"
    return lease


def not_leased(ledger: Ledger, job_id: str) -> Lease:
    """Return a lease on a job that was never taken."""
    return Lease(kit.job(ledger, job_id), "not a lease", NOW)


def lease_on_unknown_job() -> Lease:
    """Return a lease on a job that does not exist."""
    job = Job(
        id=identifiers.new_job_id(0, NOW),
        status=Status.RUNNING,
        request=REQUEST,
        created_at=NOW,
        updated_at=NOW,
        deadline_at=DEADLINE,
        attempts=(Attempt(1, NOW, "task-1"),),
        batch=identifiers.new_batch_id(0, NOW),
    )
    return Lease(job, "a token", NEXT_DUE)
