"""The table in keys.py agrees with the functions of that module and with a live server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import pytest
from redis import Redis

from orchestrator.jobs.model import (
    FOLLOW_UPS,
    Cost,
    FollowUpStatus,
    Job,
    PendingFailure,
    SettledBy,
    Status,
    Step,
)
from orchestrator.jobs.tenant import Budget, Tenant
from orchestrator.ledger import Idempotency, Ledger, batches, identifiers, keys
from orchestrator.ledger.bulk import KEPT_MS
from orchestrator.ledger.changes import RECORDER_LEASE_MS
from orchestrator.ledger.installation import WRITE_CHECK_TTL_MS
from orchestrator.ledger.uploads import UPLOAD_MARGIN_MS
from tests.ledger import kit
from tests.ledger.calls import KEY, PROCESS
from tests.ledger.kit import (
    DAY,
    DEADLINE,
    FAILURE,
    MOVING,
    NEXT_DUE,
    NOW,
    REQUEST,
    RETENTION,
    SUCCESS,
    TTL_MARGIN,
)
from tests.ledger.recording import RecordingClient
from tests.ledger.test_timeline import MAX_EVENTS

pytestmark = pytest.mark.one_server

DOCUMENTED = keys.__doc__ or ""
JOB = identifiers.new_job_id(1, NOW)
BATCH = identifiers.new_batch_id(1, NOW)
DIGEST = keys.digest("caller", "order-17")
TOKEN = "0123456789abcdef"

#: The pattern of each placeholder in the table.
PLACEHOLDERS: Mapping[str, str] = {
    "<s>": r"\d+",
    "<job id>": identifiers.JOB_ID.pattern,
    "<batch id>": identifiers.BATCH_ID.pattern,
    "<digest>": "[0-9a-f]{64}",
    "<token>": "[0-9a-f]{16}",
    "<name>": "[a-z]+",
    "<tenant>": "[A-Za-z0-9_.-]+",
    "<day>": r"\d+",
    "<provider>": "[a-z]+",
    "<task id>": "[!-~]+",
    "<flow>": "[a-z]+:[a-z]+:[a-z]+",
    "<step>": "(?:archive|notify|confirm)",
    "<bulk id>": identifiers.BULK_ID.pattern,
    "<tenant or *>": r"(?:[A-Za-z0-9_.-]+|\*)",
}
#: The lifetime of a session of the dashboard. ms.
SESSION_MS = DAY // 2
#: The name of a type in Redis, if the table has another one.
TYPES = {"sorted set": "zset"}
#: Each function or constant of keys.py, with one key of every kind that it makes.
BUILT: Mapping[str, list[str]] = {
    "job": [keys.job(JOB)],
    "events": [keys.events(JOB)],
    "agenda": [keys.agenda(1)],
    "idempotency": [keys.idempotency(1, DIGEST)],
    "repeat": [keys.repeat(1, DIGEST)],
    "jobs": [keys.jobs(1)],
    "tenant_jobs": [keys.tenant_jobs(1, "shop")],
    "spend": [keys.spend(1, "shop", 20_000)],
    "unconfirmed": [keys.unconfirmed(1)],
    "batches": [keys.batches(1)],
    "batch": [keys.batch(1, BATCH)],
    "batch_answer": [keys.batch_answer(BATCH)],
    "open_batches": [keys.open_batches(1)],
    "follow_up": [keys.follow_up(1, Step.NOTIFY)],
    "followed": [keys.followed(1, Step.NOTIFY)],
    "expiring": [keys.expiring(1)],
    "given_up": [keys.given_up(1)],
    "dead": [keys.dead(1)],
    "counts": [keys.counts(1)],
    "upload": [keys.upload(JOB)],
    "task": [keys.task(JOB, "hiapi", "task-1")],
    "task_owner": [keys.task_owner("hiapi", "task-1")],
    "flow": [keys.flow(1, "queued", "hiapi", "default")],
    "flows": [keys.flows(1)],
    "deadlines": [keys.deadlines(1)],
    "turns": [keys.turns(1, "hiapi")],
    "movable": [keys.movable(1, "hiapi")],
    "in_flight": [keys.in_flight(1, "hiapi")],
    "provider": [keys.provider(1, "hiapi")],
    "durations": [keys.durations(1, "hiapi")],
    "settled": [keys.settled(JOB), keys.settled(BATCH)],
    "changes": [keys.changes(1)],
    "recorder": [keys.recorder(1)],
    "stream": [keys.stream("orders")],
    "bulk": [keys.bulk(kit.BULK.id)],
    "bulk_parts": [keys.bulk_parts(kit.BULK.id)],
    "bulk_of": [keys.bulk_of(None)],
    "BULK_LIST": [keys.BULK_LIST],
    "BULK_STARTED": [keys.BULK_STARTED],
    "REJECTED": [keys.REJECTED],
    "HOSTS": [keys.HOSTS],
    "SWEEP": [keys.SWEEP],
    "SHARDS": [keys.SHARDS],
    "FORMAT": [keys.FORMAT],
    "WRITE_CHECK": [keys.WRITE_CHECK],
    "EXAMINATION": [keys.EXAMINATION],
    "answered": [keys.answered(TOKEN)],
    "echo_channel": [keys.echo_channel(TOKEN)],
    "API_KEYS": [keys.API_KEYS],
    "TENANT_SETTINGS": [keys.TENANT_SETTINGS],
    "ACCESS": [keys.ACCESS],
    "AUDIT": [keys.AUDIT],
    "PROCESSES": [keys.PROCESSES],
    "WAITING": [keys.WAITING],
    "waiting": [keys.waiting(kit.MESSAGES)],
    "TIMINGS": [keys.TIMINGS],
    "sign_in": [keys.sign_in(DIGEST)],
    "sign_ins": [keys.sign_ins(DIGEST)],
}


class Row(NamedTuple):
    """A row of the table."""

    key: str
    type: str
    expires: str

    def matches(self, key: str) -> bool:
        pattern = re.escape(self.key)
        for part, expression in PLACEHOLDERS.items():
            pattern = pattern.replace(re.escape(part), expression)
        return re.fullmatch(pattern, key) is not None


def rows() -> list[Row]:
    lines = [line for line in DOCUMENTED.splitlines() if line.startswith("| `")]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [Row(key, TYPES.get(kind, kind), expires) for key, kind, _, expires in cells]


ROWS = rows()
CHANNEL = "channel"


def row_of(key: str) -> Row:
    """Return the only row that a key matches."""
    matches = [row for row in ROWS if row.matches(key)]
    assert len(matches) == 1, f"{key} matches {len(matches)} rows of the table"
    return matches[0]


def placeholder(name: str) -> str:
    """Return a field of a job as the table writes it."""
    return re.sub(r":\w+$", ":<provider>", re.sub(r"\d+$", "<n>", name))


def documented_fields() -> set[str]:
    paragraph = DOCUMENTED.partition("Fields of a job:")[2].partition("A flow is")[0]
    return set(re.findall(r"`([^`]+)`", paragraph))


def test_each_row_has_one_function() -> None:
    built = [key for made in BUILT.values() for key in made]

    assert sorted(row_of(key) for key in built) == sorted(ROWS)


def test_every_function_has_a_row() -> None:
    helpers = {"digest", "searchable", "root", "old_follow_up", "old_expiring"}
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


# A live server -----------------------------------------------------------------------------


class ObservedKeys(NamedTuple):
    """All keys, fields and channels that were in Redis at any time."""

    kinds: dict[str, str]
    fields: set[str]
    channels: list[str]
    batch_fields: set[str]


@pytest.fixture
def observed(recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis) -> ObservedKeys:
    """Run jobs through every transition. Record the keys after each script."""
    observed = ObservedKeys({}, set(), [], set())

    def record() -> None:
        for key, kind in kit.every_key(redis).items():
            observed.kinds[key] = kind
            if ":job:" in key:
                stored: Any = redis.hkeys(key)
                observed.fields.update(map(placeholder, stored))
            if ":batch:" in key:
                stored = redis.hkeys(key)
                observed.batch_fields.update(stored)

    listener = redis.pubsub()
    with listener:
        listener.psubscribe("{orch*")
        listener.get_message(timeout=kit.WAIT_SECONDS)
        recorder.after_script = record
        run_every_transition(recorded_ledger, recorder)
        kit.running(Ledger(lambda: cast(Redis, recorder), shards=2))
        record()
        messages = kit.received(redis, listener, "{orch:0}")
        observed.channels.extend(message["channel"] for message in messages)
    return observed


def run_every_transition(ledger: Ledger, recorder: RecordingClient) -> None:
    ledger.installation.join()
    key = Idempotency("caller", "order-17")
    ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=key)
    lease = kit.resubmitting(ledger)
    job_id = lease.job.id
    kit.unconfirmed(ledger, lease, due_at=NOW)
    kit.resubmit(ledger, kit.claim(ledger, job_id))
    kit.claim(ledger, job_id)
    ledger.observe(job_id, 3, "task-a", now=NOW, due_at=None, fallback=NEXT_DUE)
    ledger.accepted(job_id, 3, "task-a", now=NOW, due_at=NEXT_DUE, cost=Cost(1, "credits"))
    lease = kit.claim(ledger, job_id, Step.POLL, now=NEXT_DUE)
    kit.defer(ledger, lease, due_at=NEXT_DUE, running=True)
    lease = kit.claim(ledger, job_id, Step.POLL, now=NEXT_DUE)
    ledger.settle(lease, SUCCESS, SettledBy.POLL, now=NEXT_DUE)
    ledger.settle_attempt(job_id, 3, "task-a", FAILURE, now=NEXT_DUE)
    ledger.settle_attempt(job_id, 1, "task-of-1", SUCCESS, now=NEXT_DUE)
    kit.pause(ledger, Step.POLL)
    paused = kit.running(ledger, due_at=NOW)
    assert ledger.claim(paused, Step.POLL, now=NOW, lease_ms=1) is None
    ledger.observe(
        paused,
        1,
        str(kit.job(ledger, paused).attempt.task_id),
        now=NOW,
        due_at=None,
        fallback=NOW,
        pending_failure=PendingFailure(kit.THIN, NOW),
    )
    full, record = kit.running(ledger), recorder.after_script
    full_task = str(kit.job(ledger, full).attempt.task_id)
    recorder.after_script = lambda: None
    for _ in range(MAX_EVENTS):
        ledger.settle_attempt(full, 1, "task-x", FAILURE, now=NOW)
    recorder.after_script = record
    ledger.settle_attempt(full, 1, full_task, FAILURE, now=NOW)
    ledger.cancel(kit.create(ledger), now=NOW)
    kit.create(ledger, upload=b"\x89PNG")
    with patch("orchestrator.tracing.context", return_value="00-trace-span-01"):
        kit.create(ledger)
    run_follow_ups(ledger)
    kit.claim(ledger, kit.create(ledger, tenant="often"))
    kit.create(ledger, tenant="seldom")
    kit.claim(ledger, kit.create(ledger, tenant="often"))
    ledger.agenda.due(0, now=NOW, limit=10)
    ledger.rejected.keep("callback", now=NOW, reason="not JSON", body=b"<")
    ledger.installation.mark_sweep(now=NOW, host="here")
    ledger.installation.check_write()
    budget = Tenant("shop", daily_budgets={"hiapi": Budget(10, "credits")})
    spending: dict[str, Any] = {"tenant": "shop", "limits": budget, "reserve": {"hiapi": kit.COST}}
    ledger.cancel(ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, **spending).job_id, now=NOW)
    run_fallback(ledger, spending)
    ledger.bulk.save(kit.BULK, [job_id])
    kit.start_bulk(ledger)
    run_batches(ledger)
    ledger.access.add_key(KEY)
    ledger.changes.hold("recorder-1")
    ledger.access.set_tenant("shop", {"max_open": "5"})
    ledger.audit.record(now=NOW, actor="cli", action="cancel", target=job_id)
    run_processes(ledger)


def run_processes(ledger: Ledger) -> None:
    """Record what processes tell about themselves and their visitors."""
    ledger.repeats.remember(DIGEST, JOB)
    ledger.repeats.record_answer(DIGEST, JOB, now=NOW)
    ledger.timings.add({"a sum": 0.5})
    kit.add_waiting(ledger)
    ledger.processes.record(PROCESS)
    ledger.installation.begin_examination("{}")
    ledger.echoes.check_channel()
    ledger.echoes.answer(TOKEN)
    ledger.sessions.start("a token", {"kind": "key"}, owner="a key", lifetime_ms=SESSION_MS)


def run_fallback(ledger: Ledger, spending: Mapping[str, Any]) -> None:
    """Move jobs, and let an attempt that its provider refused have a result nevertheless."""
    made = ledger.create(MOVING, now=NOW, deadline_at=DEADLINE, **spending)
    kit.refuse(ledger, kit.claim(ledger, made.job_id))
    kit.claim(ledger, made.job_id)
    ledger.settle_attempt(made.job_id, 1, "task-refused", SUCCESS, now=NOW)


def run_batches(ledger: Ledger) -> None:
    """Complete a batch and notify its caller. Leave another one open."""
    done = kit.completed_batch(ledger)
    lease = kit.claim_batch(ledger, done)
    ledger.batches.later(lease, now=NOW, due_at=NOW, tries=1, error="503")
    ledger.batches.done(
        kit.claim_batch(ledger, done), FollowUpStatus.DEAD, now=NOW, tries=2, error="503"
    )
    batch_id = kit.open_batch(ledger, "order-18")
    kit.create_in_batch(ledger, batch_id)
    ledger.batches.seal(batch_id, "[]", now=NOW)


def run_follow_ups(ledger: Ledger) -> None:
    """Run follow-ups that end, fail for good, and stay pending."""
    ledger.agenda.poll_now(kit.running(ledger), now=NOW, interval_ms=1)
    job_id = kit.settled(ledger)
    new = ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, retry_of=job_id)
    ledger.retried(job_id, new.job_id, now=NOW)
    confirming = kit.confirming(ledger)
    for step in FOLLOW_UPS:
        followed = confirming if step is Step.CONFIRM else job_id
        kit.retry_follow_up(ledger, kit.claim_follow_up(ledger, followed, step), step, due_at=NOW)
        kit.finish_follow_up(ledger, followed, step)
    kit.confirming(ledger)
    again = kit.settled(ledger, FAILURE)
    kit.finish_follow_up(ledger, again, Step.NOTIFY, FollowUpStatus.DEAD)
    ledger.follow_ups.notify_again(again, now=NOW)
    kit.finish_follow_up(ledger, again, Step.NOTIFY, FollowUpStatus.DEAD)
    kit.finish_follow_up(ledger, kit.settled(ledger), Step.ARCHIVE, FollowUpStatus.DEAD)
    late = kit.settled(ledger, FAILURE)
    task_id = str(kit.job(ledger, late).attempt.task_id)
    ledger.settle_attempt(late, 1, task_id, SUCCESS, now=NOW)
    kit.settled(ledger)
    ledger.follow_ups.publish("orders", {"job": job_id})
    ledger.circuit_breaker.failed(kit.HOST, now=NOW)


def test_the_keys_in_redis_are_those_in_the_table(observed: ObservedKeys) -> None:
    stored = {(row_of(key).key, kind) for key, kind in observed.kinds.items()}

    assert stored == {(row.key, row.type) for row in ROWS if row.type != CHANNEL}


def test_outcomes_and_ended_archives_are_published_on_the_channel_in_the_table(
    observed: ObservedKeys,
) -> None:
    assert [row_of(channel).type for channel in observed.channels] == [CHANNEL] * 17
    assert len(set(observed.channels)) == 15, "two jobs were archived, one message is of a check"


def test_the_fields_of_a_job_are_those_in_the_documentation(observed: ObservedKeys) -> None:
    assert observed.fields == documented_fields()


def test_the_fields_of_a_batch_are_those_in_the_documentation(observed: ObservedKeys) -> None:
    paragraph = str(batches.__doc__).partition("Fields of a batch:")[2]
    named = set(re.findall(r"`([^`]+)`", paragraph))
    of_notification = {field for field in documented_fields() if field.startswith("notify")}

    statuses = {status.value for status in Status}
    assert observed.batch_fields - statuses <= named | of_notification
    assert named <= observed.batch_fields


def test_keys_expire_as_the_table_says(
    observed: ObservedKeys, ledger: Ledger, redis: Redis
) -> None:
    lifetimes: Mapping[str, Callable[[bool], int | None]] = {
        "never": lambda ended: None,
        "retention, after its completion": lambda ended: RETENTION if ended else None,
        "24 h": lambda ended: DAY,
        "retention, from the newest": lambda ended: RETENTION,
        "1 h, started 7 days": lambda ended: KEPT_MS,
        "7 days": lambda ended: KEPT_MS,
        "10 days": lambda ended: 10 * DAY,
        "30 days": lambda ended: RETENTION,
        "deadline + 1 h": lambda ended: DEADLINE - NOW + UPLOAD_MARGIN_MS,
        "retention, after the last follow-up": lambda ended: RETENTION if ended else None,
        "with the job": lambda ended: RETENTION if ended else None,
        "1 minute": lambda ended: WRITE_CHECK_TTL_MS,
        "12 h": lambda ended: SESSION_MS,
        "2 s": lambda ended: RECORDER_LEASE_MS,
    }
    expiring: Counter[str] = Counter()

    for key in observed.kinds:
        job_id = identifiers.JOB_ID.search(key)
        batch_id = identifiers.BATCH_ID.search(key)
        ended = job_id is not None and has_ended(kit.job(ledger, job_id[0]))
        ended = ended or (batch_id is not None and kit.batch(ledger, batch_id[0]).complete)
        expires = row_of(key).expires
        # An empty set does not exist. A lease has gone on a busy machine.
        if expires in ("never", "2 s") and not redis.exists(key):
            continue
        expected, ttl = lifetimes[expires](ended), kit.ttl(redis, key)
        assert (ttl is None) == (expected is None), key
        assert ttl is None or expected is None or expected - TTL_MARGIN < ttl <= expected, key
        expiring[expires] += ended
    assert expiring["with the job"] == expiring["retention, after the last follow-up"] == 7


def has_ended(job: Job) -> bool:
    """Return True if a job is terminal and no follow-up is pending."""
    return job.done
