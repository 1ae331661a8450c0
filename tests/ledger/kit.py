"""Shared helpers of the ledger's tests: transitions with usual arguments, and checks of Redis."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any, TypeVar

from redis import Redis

from orchestrator.jobs.batch import Batch
from orchestrator.jobs.model import (
    FOLLOW_UPS,
    Copy,
    Cost,
    ErrorCode,
    FollowUpStatus,
    Image,
    Job,
    JobError,
    Outcome,
    Status,
    Step,
)
from orchestrator.jobs.request import JobRequest, Receiver, Target
from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.ledger import (
    Created,
    Departure,
    Idempotency,
    Lease,
    Ledger,
    Moved,
    Result,
    Settlement,
    identifiers,
    keys,
)
from orchestrator.ledger.batches import BatchLease
from orchestrator.ledger.bulk import BulkAction, BulkKind, BulkResult
from orchestrator.ledger.circuit_breaker import FAILURES_TO_OPEN, MIN_FAILING_MS
from orchestrator.ledger.creation import NewJob
from tests.support.fakes import NOON

T = TypeVar("T")

#: The time of the tests, and the deadline of their jobs. ms.
NOW = NOON
DEADLINE = NOW + 3_600_000
#: The duration of a lease. ms.
LEASE = 45_000
#: The due time that the helpers plan, unless a test gives another one. ms.
NEXT_DUE = NOW + 100_000
DAY = 86_400_000
#: The duration of a pause of a provider. ms.
PAUSE_MS = 600_000
#: The retention time of the default ledger. ms.
RETENTION = 30 * DAY
#: A slow test uses up this much of a key's lifetime at most. ms.
TTL_MARGIN = 1_800_000
#: The answers of PTTL for a key that does not exist, and for one that does not expire.
NO_KEY, NO_TTL = -2, -1
#: The limit of every wait. It only ends a test that would hang. Seconds.
WAIT_SECONDS = 60.0

REQUEST = JobRequest("hiapi", "Nano-Banana-2", options={"prompt": "A red cube"})
COST = Cost(1.6, "credits")
SUCCESS = Outcome.succeeded((Image("https://images.example/0.png", NOW + DAY),), COST)
FAILURE = Outcome.failed(JobError(ErrorCode.CONTENT_POLICY, "no cubes", "content_policy_violation"))
#: The error of a success without a result.
THIN = JobError(ErrorCode.GENERATION_FAILED, "no result", retryable=True)
#: A request with a notification, and the host of the notification.
NOTIFYING = replace(REQUEST, notify_url="https://hooks.example/jobs")
HOST = "hooks.example"
#: A flow of waiting enqueue messages.
MESSAGES = "shop hiapi"
#: The refusal of an attempt whose job leaves its provider.
REFUSAL = JobError(ErrorCode.CONTENT_POLICY, "no cubes")
#: A request with two fallbacks.
MOVING = replace(NOTIFYING, fallback=(Target("evolink", "flash"), Target("uniall", "nano")))
#: Who is notified of a batch.
RECEIVER = Receiver(notify_url="https://hooks.example/batches")
COPY = Copy("job/0.png", "ab" * 32, 1000, 640, 480, "image/png", NOW, "job/0.thumb.webp")
#: The images of SUCCESS, each with its copy.
COPIED = tuple(replace(image, copy=COPY) for image in SUCCESS.images)


# Transitions with usual arguments -------------------------------------------------------------


#: A bulk action that was previewed.
BULK = BulkAction(
    "bulk_01kb5n4m0w0000000000000000",
    BulkKind.RETRY,
    "shop",
    {"status": "failed"},
    {"by_status": {"failed": 2}, "may_be_paid": 0},
    total=2,
    applies=1,
    actor="tests",
    created_at=NOW,
    refused={"it is queued": 1},
)


def start_bulk(ledger: Ledger, action: BulkAction = BULK, now: int = NOW) -> BulkResult:
    """Start a bulk action that was saved."""
    return ledger.bulk.start(action, actor="cli:ops", accept_risk=True, now=now)


def advance_bulk(ledger: Ledger) -> BulkResult:
    """Claim the next part of a bulk action, and record that all its jobs are done."""
    part = ledger.bulk.claim(now=NOW, lease_ms=LEASE)
    assert part
    return ledger.bulk.advance(part, done=len(part.job_ids), refused={}, now=NOW, due_at=NOW)


def create(
    ledger: Ledger,
    request: JobRequest = REQUEST,
    *,
    now: int = NOW,
    upload: bytes | None = None,
    tenant: str = "default",
) -> str:
    """Create a queued job. Return its id."""
    made = ledger.create(request, now=now, deadline_at=DEADLINE, upload=upload, tenant=tenant)
    return made.job_id


def claim(ledger: Ledger, job_id: str, step: Step = Step.SUBMIT, *, now: int = NOW) -> Lease:
    """Claim a job that is due."""
    lease = ledger.claim(job_id, step, now=now, lease_ms=LEASE)
    assert isinstance(lease, Lease), lease
    return lease


def submitting(ledger: Ledger) -> Lease:
    """Create a job and claim its first attempt."""
    return claim(ledger, create(ledger))


def resubmitting(ledger: Ledger) -> Lease:
    """Create a job and claim its second attempt. The provider refused the first one for now."""
    requeue(ledger, first := submitting(ledger), due_at=NOW)
    return claim(ledger, first.job.id)


def running(ledger: Ledger, *, due_at: int = NEXT_DUE, cost: Cost | None = None) -> str:
    """Create a running job. The first job of a ledger has the provider task "task-1"."""
    job_id = submitting(ledger).job.id
    task_id = f"task-{ledger.overview.size()}"
    ledger.accepted(job_id, 1, task_id, now=NOW, due_at=due_at, cost=cost)
    return job_id


def pause(ledger: Ledger, step: Step, *, provider: str = "hiapi", now: int = NOW) -> None:
    """Pause a provider for PAUSE_MS."""
    ledger.admission.hold(provider, step, THIN, now=now, ends_at=now + PAUSE_MS)


def make_old(redis: Redis, *job_ids: str) -> None:
    """Give the only jobs of a ledger the form of a version without tenants and flows."""
    for step in FOLLOW_UPS:
        make_follow_ups_old(redis, step)
    for key in every_key(redis):
        if any(f":{part}" in key for part in ("flow", "deadlines", "turns", "in_flight")):
            redis.delete(key)
    redis.delete(keys.tenant_jobs(0, "default"), keys.provider(0, "hiapi"))
    counted: Any = redis.hkeys(keys.counts(0))
    redis.hdel(keys.counts(0), *(name for name in counted if not name.isidentifier()))
    for job_id in job_ids:
        redis.hdel(keys.job(job_id), "tenant")


def make_follow_ups_old(redis: Redis, step: Step, tenant: str = DEFAULT_TENANT) -> None:
    """Give the follow-ups of a tenant the form of a version with one set for all tenants."""
    moved = {keys.follow_up(0, step, tenant): keys.old_follow_up(0, step)}
    if step is Step.ARCHIVE:
        moved[keys.expiring(0, tenant)] = keys.old_expiring(0)
    for key, old in moved.items():
        redis.zunionstore(old, [old, key])
        redis.delete(key)
    redis.zrem(keys.followed(0, step), tenant)


def tenant_of(redis: Redis, job_id: str) -> str:
    """Return the tenant of a job."""
    tenant: Any = redis.hget(keys.job(job_id), "tenant")
    return tenant or DEFAULT_TENANT


def make_due(redis: Redis, job_id: str, step: Step, time: int) -> None:
    """Make a follow-up due at a time (ms)."""
    shard, tenant = identifiers.shard_of(job_id), tenant_of(redis, job_id)
    redis.zadd(keys.follow_up(shard, step, tenant), {job_id: time})
    redis.zadd(keys.followed(shard, step), {tenant: time}, lt=True)


def requeue(ledger: Ledger, lease: Lease, *, due_at: int = NEXT_DUE) -> Result | Moved:
    detail = {"code": ErrorCode.RATE_LIMITED}
    return ledger.requeue(lease, now=NOW, due_at=due_at, tries=3, event="deferred", detail=detail)


def refuse(
    ledger: Ledger, lease: Lease, departure: Departure = Departure.MUST, *, now: int = NOW
) -> Result | Moved:
    """Record a refusal after which the job leaves its provider."""
    return ledger.requeue(
        lease, now=now, due_at=now, tries=1, event="refused", detail={}, refusal=REFUSAL,
        departure=departure,
    )  # fmt: skip


def resubmit(ledger: Ledger, lease: Lease) -> Result | Moved:
    """Plan a second submission of an unconfirmed attempt, due at once."""
    return ledger.requeue(lease, now=NOW, due_at=NOW, tries=0, event="resubmitted", detail={})


def unconfirmed(ledger: Ledger, lease: Lease, *, due_at: int = NEXT_DUE) -> Result:
    return ledger.unconfirmed(lease, now=NOW, due_at=due_at, tries=3, reason="no answer")


def defer(
    ledger: Ledger,
    lease: Lease,
    *,
    now: int = NOW,
    due_at: int = NEXT_DUE,
    running: bool = False,
) -> Result:
    detail = {"state": "handling"}
    return ledger.defer(lease, now=now, due_at=due_at, tries=3, detail=detail, running=running)


# Follow-ups -----------------------------------------------------------------------------------


def settled(
    ledger: Ledger,
    outcome: Outcome = SUCCESS,
    request: JobRequest = NOTIFYING,
    *,
    now: int = NOW,
    tenant: str = DEFAULT_TENANT,
) -> str:
    """Create a job that a callback settled. Return its id."""
    job_id = claim(ledger, create(ledger, request, now=now, tenant=tenant), now=now).job.id
    result = ledger.settle_attempt(job_id, 1, f"task-of-{job_id[4:]}", outcome, now=now).result
    assert result is Result.SETTLED
    return job_id


def confirming(ledger: Ledger) -> str:
    """Create a failed job whose task must be queried after a late callback. Return its id."""
    return late_callback(ledger, settled(ledger, FAILURE, REQUEST))


def late_callback(ledger: Ledger, job_id: str) -> str:
    """Record a callback that reports images without showing them. Return the id of the job."""
    task_id = job(ledger, job_id).attempt.task_id or ""
    settlement = ledger.observe(
        job_id, 1, task_id, now=NOW, due_at=NOW, fallback=NOW, may_have_images=True
    )
    assert settlement == Settlement(Result.UNPROVEN, (Step.CONFIRM,))
    return job_id


def claim_follow_up(ledger: Ledger, job_id: str, step: Step, *, now: int = NOW) -> Lease:
    """Claim a follow-up that is due."""
    lease = ledger.follow_ups.claim(job_id, step, now=now, lease_ms=LEASE)
    assert lease is not None
    return lease


def retry_follow_up(ledger: Ledger, lease: Lease, step: Step, *, due_at: int = NEXT_DUE) -> Result:
    """Record a failed try."""
    return ledger.follow_ups.later(
        lease, step, now=NOW, due_at=due_at, tries=1, error="503 from the host"
    )


def end_follow_up(
    ledger: Ledger,
    lease: Lease,
    step: Step,
    end: FollowUpStatus = FollowUpStatus.DONE,
    *,
    now: int = NOW,
) -> Result:
    """End a follow-up. It has an error unless it is DONE."""
    images = COPIED if (step, end) == (Step.ARCHIVE, FollowUpStatus.DONE) else ()
    error = "" if end is FollowUpStatus.DONE else "410 from the host"
    return ledger.follow_ups.done(lease, step, end, now=now, tries=2, error=error, images=images)


def finish_follow_up(
    ledger: Ledger,
    job_id: str,
    step: Step,
    end: FollowUpStatus = FollowUpStatus.DONE,
    *,
    now: int = NOW,
) -> str:
    """Claim and end a follow-up. Return the id of the job."""
    lease = claim_follow_up(ledger, job_id, step, now=now)
    assert end_follow_up(ledger, lease, step, end, now=now) is Result.RECORDED
    return job_id


def finished(ledger: Ledger, outcome: Outcome = SUCCESS) -> str:
    """Create a settled job without a pending follow-up. Return its id."""
    job_id = settled(ledger, outcome)
    if outcome.status is Status.SUCCEEDED:
        finish_follow_up(ledger, job_id, Step.ARCHIVE)
    return finish_follow_up(ledger, job_id, Step.NOTIFY)


def pause_host(ledger: Ledger, *, now: int = NOW) -> int:
    """Pause HOST with failures since `now`. Return the time of the last failure (ms)."""
    for number in range(FAILURES_TO_OPEN):
        ledger.circuit_breaker.failed(HOST, now=now + number * MIN_FAILING_MS)
    return now + (FAILURES_TO_OPEN - 1) * MIN_FAILING_MS


def add_waiting(ledger: Ledger) -> None:
    """Add an enqueue message to the flow MESSAGES."""
    ledger.waiting_messages.add(MESSAGES, "{}", now=NOW, due_at=NOW)


# Batches --------------------------------------------------------------------------------------


def open_batch(
    ledger: Ledger, key: str | None = None, receiver: Receiver = RECEIVER, *, now: int = NOW
) -> str:
    """Begin a batch. Return its id."""
    idempotency = Idempotency("caller:batch", key) if key else None
    opened = ledger.batches.open(
        "default", receiver, now=now, idempotency=idempotency, fingerprint="f"
    )
    return opened.job_id


def create_in_batch(
    ledger: Ledger, batch_id: str, *, key: str | None = None, now: int = NOW
) -> Created:
    """Create a queued job in a batch."""
    idempotency = Idempotency("caller", key) if key else None
    new = NewJob(REQUEST, DEADLINE, "default", None, {}, idempotency, batch_id)
    [created] = ledger.batches.create_jobs([new], now=now)
    return created


def batch(ledger: Ledger, batch_id: str) -> Batch:
    """Return a batch that exists."""
    stored = ledger.batches.get(batch_id)
    assert stored is not None
    return stored


def empty_batch(batch_id: str | None) -> Batch:
    """Return a sealed batch without jobs, as a value."""
    return Batch(str(batch_id), "default", NOW, {}, RECEIVER, sealed_at=NOW)


def completed_batch(ledger: Ledger) -> str:
    """Create a batch whose only job was cancelled, and whose notification is due. Return its id."""
    batch_id = open_batch(ledger)
    ledger.cancel(create_in_batch(ledger, batch_id).job_id, now=NOW)
    ledger.batches.seal(batch_id, "", now=NOW)
    result = ledger.batches.complete(batch(ledger, batch_id), now=NOW, next_check=NEXT_DUE)
    assert result is Result.RECORDED
    return batch_id


def claim_batch(ledger: Ledger, batch_id: str, *, now: int = NOW) -> BatchLease:
    """Claim the notification of a batch that is due."""
    lease = ledger.batches.claim(batch_id, now=now, lease_ms=LEASE)
    assert lease is not None
    return lease


# The state in Redis ---------------------------------------------------------------------------


def job(ledger: Ledger, job_id: str) -> Job:
    """Return a job that exists."""
    stored = ledger.get(job_id)
    assert stored is not None
    return stored


def event_names(ledger: Ledger, job_id: str) -> list[str]:
    """Return the names of the events in a timeline."""
    return [event.name for event in ledger.events(job_id)]


def fields(redis: Redis, job_id: str) -> dict[str, str]:
    """Return the hash of a job."""
    stored: Any = redis.hgetall(keys.job(job_id))
    return dict(stored)


def due_at(redis: Redis, job_id: str) -> int | None:
    """Return the score of a job in the agenda (ms). None if it is not a member."""
    score: Any = redis.zscore(keys.agenda(identifiers.shard_of(job_id)), job_id)
    return None if score is None else int(score)


def follow_up_due_at(redis: Redis, job_id: str, step: Step) -> int | None:
    """Return the score of a job in the set of a follow-up (ms). None if it is not a member."""
    shard, tenant = identifiers.shard_of(job_id), tenant_of(redis, job_id)
    score: Any = redis.zscore(keys.follow_up(shard, step, tenant), job_id)
    return None if score is None else int(score)


def ttl(redis: Redis, key: str) -> int | None:
    """Return the time to live of a key (ms). None if it does not expire."""
    left: Any = redis.pttl(key)
    assert left != NO_KEY, f"{key} does not exist"
    return None if left == NO_TTL else int(left)


def job_ttls(redis: Redis, job_id: str) -> set[int | None]:
    """Return the time to live of a job and of its timeline (ms)."""
    return {ttl(redis, key(job_id)) for key in (keys.job, keys.events)}


def every_key(redis: Redis) -> dict[str, str]:
    """Return all keys in Redis, and the type of each."""
    names: Any = list(redis.scan_iter(count=1000))
    with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.type(name)
        return dict(zip(names, map(str, pipe.execute()), strict=True))


def keys_of(redis: Redis, job_id: str) -> list[str]:
    """Return the keys in Redis that contain a job id."""
    return [key for key in every_key(redis) if job_id in key]


#: Events that are counted and change nothing.
RECORDED = frozenset({"duplicate", "conflict", "mismatch", "superseded"})


def state(redis: Redis) -> dict[str, Any]:
    """Return all values in Redis that tell about jobs.

    These are not among them: timelines, changes, the write check and the counts of RECORDED events.
    """
    kinds = {
        key: kind
        for key, kind in every_key(redis).items()
        if kind != "list" and not key.endswith((":changes", ":recorder", ":write_check"))
    }
    with redis.pipeline(transaction=False) as pipe:
        for key, kind in kinds.items():
            _read(pipe, key, kind)
        values = dict(zip(kinds, pipe.execute(), strict=True))
    for key, kind in kinds.items():
        if kind == "hash":
            values[key] = {n: v for n, v in values[key].items() if n not in RECORDED}
    return values


def timelines(redis: Redis) -> dict[str, list[str]]:
    """Return the lines of every timeline, by key."""
    lists = [key for key, kind in every_key(redis).items() if kind == "list"]
    return {key: list(map(str, redis.lrange(key, 0, -1))) for key in lists}


def _read(pipe: Any, key: str, kind: str) -> None:
    match kind:
        case "hash":
            pipe.hgetall(key)
        case "zset":
            pipe.zrange(key, 0, -1, withscores=True)
        case "stream":
            pipe.xrange(key)
        case _:
            pipe.get(key)


# Invariants -----------------------------------------------------------------------------------


def check_job(redis: Redis, job_id: str) -> None:
    """Check the invariants of a job."""
    shard, tenant = identifiers.shard_of(job_id), tenant_of(redis, job_id)
    with redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(keys.job(job_id))
        pipe.zscore(keys.agenda(shard), job_id)
        pipe.pttl(keys.job(job_id))
        pipe.pttl(keys.events(job_id))
        for step in FOLLOW_UPS:
            pipe.zscore(keys.follow_up(shard, step, tenant), job_id)
        pipe.zscore(keys.expiring(shard, tenant), job_id)
        pipe.zscore(keys.dead(shard), job_id)
        stored, due, job_ttl, events_ttl, *scores = pipe.execute()
    status = Status(stored["status"]) if stored else None
    is_open = status is not None and not status.terminal
    assert (due is not None) == is_open, "in the agenda if and only if open"
    if status is None:
        assert events_ttl == NO_KEY, "a timeline belongs to a job"
        return
    if status is Status.SUBMITTING:
        assert "lease" in stored, "a submitting job has a lease"
    is_kept = is_open or "pending" in map(stored.get, FOLLOW_UPS)
    assert NO_KEY not in (job_ttl, events_ttl), "a job has a timeline"
    for left in (job_ttl, events_ttl):
        assert (left == NO_TTL) == is_kept, "expires if and only if no step is open"
    if not is_open:
        assert "lease" not in stored, "a terminal job has no lease"
        assert stored["settled"]
        assert stored["by"]
    names = (*FOLLOW_UPS, "expiring", "dead")
    members = {name for name, score in zip(names, scores, strict=True) if score is not None}
    _check_follow_ups(stored, status, members)


def _check_follow_ups(stored: Mapping[str, str], status: Status, members: set[str]) -> None:
    """Check the follow-ups of a job. `members` are the sorted sets that contain it."""
    for step in FOLLOW_UPS:
        pending = stored.get(step) == "pending"
        assert (step in members) == pending, f"in the set {step} if and only if pending"
        assert (f"{step}.next" in stored) == pending
        assert pending or f"{step}.lease" not in stored, "only a pending follow-up has a lease"
    succeeded = status is Status.SUCCEEDED or "late_images" in stored
    assert ("archive" in stored) == succeeded, "only a success has an archive"
    assert ("confirm.attempts" in stored) == (stored.get("confirm") == "pending")
    if stored.get("late.notify"):
        assert stored["notify"] == "pending", "a late result is notified later or now"
    assert (stored.get("notify") == "waiting") == ("notify" in stored and not status.terminal)
    assert ("expiring" in members) == ("archive" in members), "in expiring while it is pending"
    assert ("dead" in members) == (stored.get("notify") == "dead"), "in dead if and only if dead"


def check_counts(ledger: Ledger, redis: Redis) -> None:
    """Check the counts: exact for open jobs, not too small for jobs that may have expired."""
    job_keys = [key for key in every_key(redis) if ":job:" in key]
    with redis.pipeline(transaction=False) as pipe:
        for key in job_keys:
            pipe.hget(key, "status")
        by_status = Counter(map(Status, pipe.execute()))
    counts = ledger.overview.counts()
    for status in Status:
        number = counts.get(status, 0)
        if status.terminal:
            assert number >= by_status[status], status
        else:
            assert number == by_status[status], status
    assert ledger.overview.size() >= len(job_keys)


# Messages -------------------------------------------------------------------------------------


def announced_outcomes(redis: Redis, listener: Any) -> Counter[str]:
    """Return the channels of outcomes that a listener received, and how often.

    The end of an archive is announced on the same channel. It is left out.
    """
    messages = received(redis, listener, "{orch:0}:settled:")
    outcomes = [each for each in messages if not each["data"].startswith("archive_")]
    return Counter(str(message["channel"]) for message in outcomes)


def received(redis: Redis, listener: Any, channel: str) -> list[dict[str, Any]]:
    """Return the messages that a listener received. `channel` is one that it listens to.

    Redis keeps the order of messages. So a last message of our own marks the end.
    """
    redis.publish(channel, "end of the test")
    messages: list[dict[str, Any]] = []
    while True:
        message = listener.get_message(timeout=WAIT_SECONDS)
        assert message, f"no message within {WAIT_SECONDS} s"
        if message["data"] == "end of the test":
            return messages
        if message["type"] in ("message", "pmessage"):
            messages.append(message)


# Waiting and threads --------------------------------------------------------------------------


def eventually(
    condition: Callable[[], object], *, within: float = WAIT_SECONDS, every: float = 0.002
) -> None:
    """Wait until a condition is true, at most `within` seconds. It is tried `every` seconds."""
    tick, end = threading.Event(), monotonic() + within
    while not condition():
        assert monotonic() < end, f"did not happen within {within} s"
        tick.wait(every)


def in_parallel(count: int, work: Callable[[], T]) -> list[T]:
    """Run `work` in `count` threads at the same time. Return the results."""
    start = threading.Barrier(count)

    def run(_: int) -> T:
        start.wait(WAIT_SECONDS)
        return work()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
