"""What the ledger's tests share: moves with usual arguments, and looks behind the ledger's back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any, TypeVar

from redis import Redis

from orchestrator.jobs.model import (
    FOLLOW_UPS,
    Copy,
    Cost,
    ErrorCode,
    FollowUpStatus,
    Image,
    Job,
    JobError,
    JobRequest,
    Outcome,
    Status,
    Step,
)
from orchestrator.ledger import Lease, Ledger, Result, keys
from orchestrator.ledger.circuit_breaker import FAILURES_TO_OPEN, MIN_FAILING_MS
from tests.support.fakes import NOON

T = TypeVar("T")

#: When the tests take place, and when their jobs must be done. ms.
NOW = NOON
DEADLINE = NOW + 3_600_000
LEASE = 45_000
#: The next look that moves ask for unless a test says otherwise. ms.
LOOK = NOW + 100_000
#: How long the default ledger keeps settled jobs, and idempotency keys. ms.
RETENTION = 30 * 86_400_000
DAY = 86_400_000

REQUEST = JobRequest("hiapi", "Nano-Banana-2", options={"prompt": "A red cube"})
COST = Cost(1.6, "credits")
SUCCESS = Outcome.succeeded((Image("https://images.example/0.png", NOW + DAY),), COST)
FAILURE = Outcome.failed(JobError(ErrorCode.CONTENT_POLICY, "no cubes", "content_policy_violation"))
#: A request whose caller wants to be told, and the host where.
NOTIFYING = replace(REQUEST, notify_url="https://hooks.example/jobs")
HOST = "hooks.example"
COPY = Copy("job/0.png", "ab" * 32, 1000, 640, 480, "image/png", NOW, "job/0.thumb.webp")
#: The images of a success, each with its copy.
COPIED = tuple(replace(image, copy=COPY) for image in SUCCESS.images)


class Wire:
    """A client that remembers the last script it ran, so that it can be run again as it was.

    That is what redis-py does with a call whose answer got lost.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        #: Runs the last script once more, with the same arguments.
        self.again: Callable[[], Any] = lambda: None
        self.answer: Any = None
        #: Called after each script.
        self.watch: Callable[[], None] = lambda: None
        #: Every call so far: the script's digest or source, the number of keys, keys and arguments.
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def evalsha(self, *call: Any) -> Any:
        return self._run(lambda: self._client.evalsha(*call), call)

    def eval(self, *call: Any) -> Any:
        return self._run(lambda: self._client.eval(*call), call)

    def _run(self, command: Callable[[], Any], call: tuple[Any, ...]) -> Any:
        self.answer = command()
        self.again = lambda: self._run(command, call)
        self.calls.append(call)
        self.watch()
        return self.answer


# Moves, with usual arguments ---------------------------------------------------------------


def create(
    ledger: Ledger, request: JobRequest = REQUEST, *, now: int = NOW, upload: bytes | None = None
) -> str:
    """A queued job; its id."""
    return ledger.create(request, now=now, deadline_at=DEADLINE, upload=upload).job_id


def claim(ledger: Ledger, job_id: str, step: Step = Step.SUBMIT, *, now: int = NOW) -> Lease:
    """A lease that must be there to take."""
    lease = ledger.claim(job_id, step, now=now, lease_ms=LEASE)
    assert lease is not None
    return lease


def submitting(ledger: Ledger) -> Lease:
    """A fresh job whose first attempt is on its way."""
    return claim(ledger, create(ledger))


def resubmitting(ledger: Ledger) -> Lease:
    """A job whose first attempt was given up and whose second is on its way."""
    requeue(ledger, first := submitting(ledger), due_at=NOW)
    return claim(ledger, first.job.id)


def running(ledger: Ledger, *, due_at: int = LOOK, cost: Cost | None = None) -> str:
    """A job whose first attempt is the provider task "task-1"; its id."""
    job_id = submitting(ledger).job.id
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=due_at, cost=cost)
    return job_id


def requeue(ledger: Ledger, lease: Lease, *, due_at: int = LOOK) -> Result:
    detail = {"code": ErrorCode.RATE_LIMITED}
    return ledger.requeue(lease, now=NOW, due_at=due_at, tries=3, event="deferred", detail=detail)


def resubmit(ledger: Ledger, lease: Lease) -> Result:
    """The job buys a second attempt, due at once."""
    return ledger.requeue(lease, now=NOW, due_at=NOW, tries=0, event="resubmitted", detail={})


def unconfirmed(ledger: Ledger, lease: Lease, *, due_at: int = LOOK) -> Result:
    return ledger.unconfirmed(lease, now=NOW, due_at=due_at, tries=3, reason="no answer")


def defer(ledger: Ledger, lease: Lease, *, due_at: int = LOOK) -> Result:
    return ledger.defer(lease, now=NOW, due_at=due_at, tries=3, detail={"state": "handling"})


# What follows from an outcome --------------------------------------------------------------


def ended(
    ledger: Ledger, outcome: Outcome = SUCCESS, request: JobRequest = NOTIFYING, *, now: int = NOW
) -> str:
    """A job whose outcome a callback brought; its id."""
    job_id = claim(ledger, create(ledger, request, now=now), now=now).job.id
    result = ledger.settle_attempt(job_id, 1, f"task-{job_id}", outcome, now=now).result
    assert result is Result.SETTLED
    return job_id


def follow(ledger: Ledger, job_id: str, step: Step, *, now: int = NOW) -> Lease:
    """A lease on a follow-up that must be there to take."""
    lease = ledger.follow_ups.claim(job_id, step, now=now, lease_ms=LEASE)
    assert lease is not None
    return lease


def later(ledger: Ledger, lease: Lease, step: Step, *, due_at: int = LOOK) -> Result:
    return ledger.follow_ups.later(
        lease, step, now=NOW, due_at=due_at, tries=1, error="503 from the host"
    )


def done(
    ledger: Ledger,
    lease: Lease,
    step: Step,
    end: FollowUpStatus = FollowUpStatus.DONE,
    *,
    now: int = NOW,
) -> Result:
    """It is done; or given up, with the reason."""
    images = COPIED if (step, end) == (Step.ARCHIVE, FollowUpStatus.DONE) else ()
    error = "" if end is FollowUpStatus.DONE else "410 from the host"
    return ledger.follow_ups.done(lease, step, end, now=now, tries=2, error=error, images=images)


def followed(
    ledger: Ledger,
    job_id: str,
    step: Step,
    end: FollowUpStatus = FollowUpStatus.DONE,
    *,
    now: int = NOW,
) -> str:
    """The job, one of whose follow-ups came to an end at once; its id."""
    assert done(ledger, follow(ledger, job_id, step, now=now), step, end, now=now) == "recorded"
    return job_id


def quiet(ledger: Ledger, outcome: Outcome = SUCCESS) -> str:
    """A settled job from which nothing follows any more; its id."""
    job_id = ended(ledger, outcome)
    if outcome.status is Status.SUCCEEDED:
        followed(ledger, job_id, Step.ARCHIVE)
    return followed(ledger, job_id, Step.NOTIFY)


def pause(ledger: Ledger, host: str = HOST, *, now: int = NOW) -> int:
    """Pause a host by failures since `now`; when the last one was (ms)."""
    for number in range(FAILURES_TO_OPEN):
        ledger.circuit_breaker.failed(host, now=now + number * MIN_FAILING_MS)
    return now + (FAILURES_TO_OPEN - 1) * MIN_FAILING_MS


# Looks -------------------------------------------------------------------------------------


def job(ledger: Ledger, job_id: str) -> Job:
    found = ledger.get(job_id)
    assert found is not None
    return found


def names(ledger: Ledger, job_id: str) -> list[str]:
    """The names of a job's events."""
    return [event.name for event in ledger.events(job_id)]


def fields(redis: Redis, job_id: str) -> dict[str, str]:
    """The job's hash as it is stored."""
    stored: Any = redis.hgetall(keys.job(job_id))
    return dict(stored)


def due_at(redis: Redis, job_id: str) -> int | None:
    """The job's score in the agenda (ms), or None if it is not in there."""
    score: Any = redis.zscore(keys.agenda(keys.shard_of(job_id)), job_id)
    return None if score is None else int(score)


def follow_look(redis: Redis, job_id: str, step: Step) -> int | None:
    """The job's score among those with this follow-up (ms), or None if it is not in there."""
    score: Any = redis.zscore(keys.follow_up(keys.shard_of(job_id), step), job_id)
    return None if score is None else int(score)


def lifetime(redis: Redis, key: str) -> int | None:
    """How long a key has to live (ms); None for ever."""
    left: Any = redis.pttl(key)
    assert left != -2, f"{key} does not exist"
    return None if left == -1 else int(left)


def every_key(redis: Redis) -> dict[str, str]:
    """All that is in Redis: key and type."""
    found: Any = redis.scan_iter(count=1000)
    return {key: str(redis.type(key)) for key in found}


#: Events that are counted and change nothing.
RECORDED = frozenset({"duplicate", "conflict", "mismatch", "superseded"})


def everything(redis: Redis) -> dict[str, Any]:
    """All that is in Redis; timelines, and counts of what is only recorded, left out."""
    fields_of: Callable[[str], dict[str, str]] = redis.hgetall  # type: ignore[assignment]
    read: dict[str, Callable[[str], Any]] = {
        "hash": lambda key: {n: v for n, v in fields_of(key).items() if n not in RECORDED},
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "string": redis.get,
        "stream": redis.xrange,
    }
    return {key: read[kind](key) for key, kind in every_key(redis).items() if kind in read}


def invariant(redis: Redis, job_id: str) -> None:
    """What holds for a job at any time."""
    stored = fields(redis, job_id)
    status = Status(stored["status"]) if stored else None
    is_open = status is not None and not status.terminal
    kept = is_open or "pending" in (stored.get("archive"), stored.get("notify"))
    assert (due_at(redis, job_id) is not None) == is_open, "in the agenda if and only if open"
    if status is Status.SUBMITTING:
        assert "lease" in stored, "somebody is submitting"
    if status is None:
        assert not redis.exists(keys.events(job_id)), "no timeline without a job"
        return
    for key in (keys.job(job_id), keys.events(job_id)):
        expires = lifetime(redis, key) is not None
        assert expires != kept, f"{key} expires if and only if terminal with nothing to follow"
    following(redis, job_id, stored, status)
    if not is_open:
        assert "lease" not in stored, "a terminal job is nobody's"
        assert stored["settled"]
        assert stored["by"]


def following(redis: Redis, job_id: str, stored: Mapping[str, str], status: Status) -> None:
    """What holds for what follows from a job's outcome, at any time."""
    shard = keys.shard_of(job_id)
    for step in FOLLOW_UPS:
        pending, look = stored.get(step) == "pending", follow_look(redis, job_id, step)
        assert (look is not None) == pending, f"in {step} if and only if that is pending"
        assert (f"{step}.next" in stored) == pending
        assert pending or f"{step}.lease" not in stored, "nobody holds what is done"
    assert ("archive" in stored) == (status is Status.SUCCEEDED), "only images are archived"
    assert (stored.get("notify") == "waiting") == ("notify" in stored and not status.terminal)
    for name, key in {"archive": keys.expiring(shard), "notify": keys.dead(shard)}.items():
        stands = redis.zscore(key, job_id) is not None
        wanted = "pending" if name == "archive" else "dead"
        assert stands == (stored.get(name) == wanted), f"in {key} if and only if {name} {wanted}"


def count_right(ledger: Ledger, redis: Redis) -> None:
    """The counts of open statuses are those of the jobs themselves, each of which is listed."""
    there = [fields(redis, key.rpartition(":")[2]) for key in every_key(redis) if ":job:" in key]
    counted_ = {s: n for s, n in ledger.overview.counts().items() if s in list(Status) and n}
    ended = {s: n for s, n in counted_.items() if Status(s).terminal}
    assert {s: n for s, n in counted_.items() if s not in ended} == counted(
        job["status"] for job in there if not Status(job["status"]).terminal
    )
    for status, number in counted(j["status"] for j in there if "settled" in j).items():
        assert ended[status] >= number, "those that expired are counted too"
    assert ledger.overview.size() >= len(there)


# Time and threads --------------------------------------------------------------------------


def eventually(condition: Callable[[], object], *, within: float = 5.0) -> None:
    """Wait until `condition` holds."""
    tick, ends = threading.Event(), monotonic() + within
    while not condition():
        assert monotonic() < ends, f"did not happen within {within} s"
        tick.wait(0.002)


def together(count: int, work: Callable[[], T]) -> list[T]:
    """What `count` threads get that do the same thing at the same moment."""
    start = threading.Barrier(count)

    def run(_: int) -> T:
        start.wait(10)
        return work()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def counted(found: Iterable[T]) -> dict[T, int]:
    """How often each was found."""
    seen: dict[T, int] = {}
    for one in found:
        seen[one] = seen.get(one, 0) + 1
    return seen
