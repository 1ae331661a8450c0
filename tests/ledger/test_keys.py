"""The table of keys in keys.py is true: of the builders, and of what really is in Redis."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, Cost, FollowUpStatus, Job, SettledBy, Step
from orchestrator.ledger import Idempotency, Ledger, keys
from orchestrator.ledger.ledger import UPLOAD_MARGIN_MS
from tests.ledger import kit
from tests.ledger.kit import DAY, DEADLINE, FAILURE, LOOK, NOW, REQUEST, RETENTION, SUCCESS, Wire
from tests.ledger.test_timeline import MAX_EVENTS

DOCUMENTED = keys.__doc__ or ""
JOB = keys.new_job_id(1)
DIGEST = keys.digest("caller", "order-17")

#: What stands in angle brackets, as a pattern.
PARTS: Mapping[str, str] = {
    "<s>": r"\d+",
    "<job id>": keys.JOB_ID.pattern,
    "<digest>": "[0-9a-f]{64}",
    "<name>": "[a-z]+",
}
#: The words of the table for Redis' own names of types.
TYPES = {"sorted set": "zset"}
#: Each builder, with keys of every kind that it makes.
BUILT: Mapping[str, list[str]] = {
    "job": [keys.job(JOB)],
    "events": [keys.events(JOB)],
    "agenda": [keys.agenda(1)],
    "idempotency": [keys.idempotency(1, DIGEST)],
    "jobs": [keys.jobs(1)],
    "unconfirmed": [keys.unconfirmed(1)],
    "follow_up": [keys.follow_up(1, step) for step in FOLLOW_UPS],
    "expiring": [keys.expiring(1)],
    "dead": [keys.dead(1)],
    "counts": [keys.counts(1)],
    "upload": [keys.upload(JOB)],
    "settled": [keys.settled(JOB)],
    "stream": [keys.stream("orders")],
    "REJECTED": [keys.REJECTED],
    "HOSTS": [keys.HOSTS],
    "SWEEP": [keys.SWEEP],
    "SHARDS": [keys.SHARDS],
}


class Row(NamedTuple):
    """One line of the table."""

    key: str
    type: str
    expires: str

    def fits(self, key: str) -> bool:
        pattern = re.escape(self.key)
        for part, expression in PARTS.items():
            pattern = pattern.replace(re.escape(part), expression)
        return re.fullmatch(pattern, key) is not None


def rows() -> list[Row]:
    lines = [line for line in DOCUMENTED.splitlines() if line.startswith("| `")]
    found = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [Row(key, TYPES.get(kind, kind), expires) for key, kind, _, expires in found]


ROWS = rows()
CHANNEL = "channel"


def row_of(key: str) -> Row:
    """The one row that a key fits."""
    fitting = [row for row in ROWS if row.fits(key)]
    assert len(fitting) == 1, f"{key} fits {len(fitting)} rows of the table"
    return fitting[0]


def documented_fields() -> set[str]:
    paragraph = DOCUMENTED.partition("Fields of a job:")[2]
    return set(re.findall(r"`([^`]+)`", paragraph))


def test_each_row_has_one_builder() -> None:
    built = [key for made in BUILT.values() for key in made]

    assert sorted(row_of(key) for key in built) == sorted(ROWS)


def test_there_is_no_builder_that_is_not_in_the_table() -> None:
    helpers = {"new_job_id", "created_at", "is_job_id", "shard_of", "pick_shard", "digest", "root"}
    public = {
        name
        for name, value in vars(keys).items()
        if not name.startswith("_")
        and (
            (callable(value) and getattr(value, "__module__", "") == keys.__name__)
            or (isinstance(value, str) and "{orch" in value)
        )
    }

    assert public - helpers - {"of"} == set(BUILT)


# The life of jobs, while somebody looks on --------------------------------------------------


class Seen(NamedTuple):
    """What was in Redis at any time."""

    kinds: dict[str, str]
    fields: set[str]
    channels: list[str]


@pytest.fixture
def seen(wired: Ledger, wire: Wire, redis: Redis) -> Seen:
    """Lives of jobs in which everything happens that can happen."""
    found = Seen({}, set(), [])

    def look() -> None:
        for key, kind in kit.every_key(redis).items():
            found.kinds[key] = kind
            if ":job:" in key:
                stored: Any = redis.hkeys(key)
                found.fields.update(re.sub(r"\d+$", "<n>", name) for name in stored)

    listener = redis.pubsub()  # type: ignore[no-untyped-call]
    with listener:
        listener.psubscribe("{orch*")
        listener.get_message(timeout=2)
        wire.watch = look
        live(wired, wire)
        look()
        while message := listener.get_message(timeout=0.05):
            found.channels.append(message["channel"])
    return found


def live(ledger: Ledger, wire: Wire) -> None:
    ledger.installed_shards()
    key = Idempotency("caller", "order-17")
    ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=key)
    lease = kit.resubmitting(ledger)
    job_id = lease.job.id
    kit.unconfirmed(ledger, lease, due_at=NOW)
    kit.resubmit(ledger, kit.claim(ledger, job_id))
    kit.claim(ledger, job_id)
    ledger.observe(job_id, 3, "task-3", now=NOW, due_at=None, fallback=LOOK)
    ledger.accepted(job_id, 3, "task-3", now=NOW, due_at=LOOK, cost=Cost(1, "credits"))
    kit.defer(ledger, kit.claim(ledger, job_id, Step.POLL, now=LOOK), due_at=LOOK)
    poll = kit.claim(ledger, job_id, Step.POLL, now=LOOK)
    ledger.settle(poll, SUCCESS, SettledBy.POLL, now=LOOK)
    ledger.settle_attempt(job_id, 3, "task-3", FAILURE, now=LOOK)
    crowded, look = kit.running(ledger), wire.watch
    wire.watch = lambda: None
    for _ in range(MAX_EVENTS):
        ledger.settle_attempt(crowded, 1, "task-x", FAILURE, now=NOW)
    wire.watch = look
    ledger.settle_attempt(crowded, 1, "task-1", FAILURE, now=NOW)
    ledger.cancel(kit.create(ledger), now=NOW)
    kit.create(ledger, upload=b"\x89PNG")
    follow(ledger)
    ledger.due(0, now=NOW, limit=10)
    ledger.reject("callback", now=NOW, reason="not JSON", body=b"<")
    ledger.mark_sweep(now=NOW, host="here")


def follow(ledger: Ledger) -> None:
    """All that can follow from outcomes: done, given up, and still to be done."""
    told = kit.ended(ledger)
    for step in FOLLOW_UPS:
        kit.later(ledger, kit.follow(ledger, told, step), step, due_at=NOW)
        kit.followed(ledger, told, step)
    kit.followed(ledger, kit.ended(ledger, FAILURE), Step.NOTIFY, FollowUpStatus.DEAD)
    kit.ended(ledger)
    ledger.follow_ups.publish("orders", {"job": told})
    ledger.circuit_breaker.failed(kit.HOST, now=NOW)


def test_what_is_in_redis_is_what_the_table_lists(seen: Seen) -> None:
    found = {(row_of(key).key, kind) for key, kind in seen.kinds.items()}

    assert found == {(row.key, row.type) for row in ROWS if row.type != CHANNEL}


def test_a_settlement_is_announced_once_on_the_channel_of_the_table(seen: Seen) -> None:
    assert [row_of(channel).type for channel in seen.channels] == [CHANNEL] * 6
    assert len(set(seen.channels)) == 6


def test_the_fields_of_a_job_are_those_that_are_listed(seen: Seen) -> None:
    assert seen.fields == documented_fields()


def test_keys_expire_as_the_table_says(seen: Seen, ledger: Ledger, redis: Redis) -> None:
    promised: Mapping[str, Callable[[bool], int | None]] = {
        "never": lambda over: None,
        "24 h": lambda over: DAY,
        "retention, from the newest": lambda over: RETENTION,
        "deadline + 1 h": lambda over: DEADLINE - NOW + UPLOAD_MARGIN_MS,
        "retention, after the last follow-up": lambda over: RETENTION if over else None,
        "with the job": lambda over: RETENTION if over else None,
    }
    ends: Counter[str] = Counter()

    for key in seen.kinds:
        whose = keys.JOB_ID.search(key)
        over = whose is not None and nothing_follows(kit.job(ledger, whose[0]))
        expires = row_of(key).expires
        expected, left = promised[expires](over), kit.lifetime(redis, key)
        assert (left is None) == (expected is None), key
        assert left is None or expected is None or expected - 60_000 < left <= expected, key
        ends[expires] += over
    assert ends["with the job"] == ends["retention, after the last follow-up"] == 4


def nothing_follows(job: Job) -> bool:
    """Whether it has its outcome, and what follows from that is over."""
    follow_ups = [found.status for found in (job.archive, job.notification) if found]
    return job.status.terminal and FollowUpStatus.PENDING not in follow_ups
