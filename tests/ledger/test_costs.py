"""The cost of a job: its round trips to Redis, and its memory in Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.connection import AbstractConnection

from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.jobs.model import OUTCOME_STEPS, FollowUpStatus, Status, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Ledger, codec, identifiers, keys
from tests.ledger import kit
from tests.ledger.calls import CALLS, PUBLIC, prepare
from tests.ledger.kit import NEXT_DUE, NOW

pytestmark = pytest.mark.one_server

#: Methods with several round trips. No step of a job needs them.
SEVERAL_ROUND_TRIPS = {
    *("installation.server", "installation.servers", "echoes.check_channel"),
    *("outcomes.wait", "outcomes.wait_for_batch"),
}
#: Methods that read the tenants of a shard first, and then all their follow-ups.
TENANTS_FIRST = {"follow_ups.at_risk", "follow_ups.backlog"}
#: The commands of the methods that send several in one round trip. The other methods send one.
PIPELINED = {
    # MULTI and EXEC are commands too.
    **dict.fromkeys(("access.add_key", "access.forget_key", "access.set_tenant"), 4),
    **dict.fromkeys(("access.revoke_key", "access.expire_key"), 4),
    "events": 2,
    "timings.add": 3,
    "repeats.remember": 3,
    "repeats.record_answer": 2,
    "access.read": 5,
    # The view of the process is fresh.
    "access.current": 0,
    "admission.resume": 2,
    "admission.states": 2,
    # The tenants, the sets of the only tenant, and those of an older version.
    "follow_ups.at_risk": 7,
    "follow_ups.backlog": 7,
    "follow_ups.dead": 2,
    "follow_ups.given_up": 2,
    "follow_ups.publish": 2,
    # The jobs, with MULTI and EXEC, and the action.
    "bulk.save": 5,
    # With the claim before it.
    "bulk.advance": 2,
    # The list, and the only action.
    "bulk.newest": 2,
    # With the page that lists the message.
    "rejected.delete": 2,
}
#: The methods that read every shard.
PER_SHARD = (
    "agenda.counts",
    "follow_ups.at_risk",
    "follow_ups.backlog",
    "follow_ups.dead",
    "follow_ups.given_up",
    "overview.tidy",
)
#: The limits of a job's memory in Redis, without its request. Tables that grow make it vary by
#: about 150. Bytes.
MAX_JOB_BYTES = {Status.RUNNING: 1400, Status.SUCCEEDED: 1700}


def commands_of(redis: Redis, work: Callable[[], object]) -> list[str]:
    """Return the commands that the server receives during `work`. Scripts count as one command."""
    commands: list[str] = []
    with redis.client() as marker, redis.monitor() as monitor:
        work()
        marker.echo("end of the test")
        for command in monitor.listen():
            if "end of the test" in command["command"]:
                return commands
            if command["client_type"] != "lua":
                commands.append(command["command"].split(" ")[0].upper())
    raise AssertionError("the monitor ended")


def test_a_method_sends_one_command(shared_ledger: Ledger, real_redis: Redis) -> None:
    numbers = {}
    for name in sorted(set(PUBLIC) - SEVERAL_ROUND_TRIPS):
        CALLS[name](shared_ledger, prepare(shared_ledger, name))  # loads the script
        real_redis.flushdb()
        lease = prepare(shared_ledger, name)
        numbers[name] = len(commands_of(real_redis, partial(CALLS[name], shared_ledger, lease)))

    assert numbers == {name: PIPELINED.get(name, 1) for name in numbers}


@pytest.mark.parametrize("name", PER_SHARD)
def test_a_method_about_all_shards_is_one_round_trip_per_shard(
    real_redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sharded = Ledger.from_url(redis_url, shards=3)
    lease = prepare(sharded, name)
    CALLS[name](sharded, lease)  # loads the script
    round_trips: list[object] = []
    send: Any = AbstractConnection.send_packed_command

    def record(self: AbstractConnection, *args: Any, **options: Any) -> Any:
        round_trips.append(self)
        return send(self, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", record)
    CALLS[name](sharded, lease)

    assert len(round_trips) == 3 * (2 if name in TENANTS_FIRST else 1)


def test_the_due_follow_ups_of_each_kind_are_one_round_trip(
    shared_ledger: Ledger, real_redis: Redis
) -> None:
    def due() -> None:
        for step in OUTCOME_STEPS:
            shared_ledger.follow_ups.due(0, step, now=NOW, limit=10)

    due()

    assert commands_of(real_redis, due) == ["EVALSHA", "EVALSHA"]


def test_the_round_trips_of_a_job_from_enqueue_to_callback(
    shared_ledger: Ledger, real_redis: Redis
) -> None:
    def life(task_id: str = "task-1") -> None:
        job_id = kit.submitting(shared_ledger).job.id
        shared_ledger.accepted(job_id, 1, task_id, now=NOW, due_at=NEXT_DUE)
        shared_ledger.settle_attempt(job_id, 1, task_id, kit.SUCCESS, now=NOW)

    life("task-0")

    assert commands_of(real_redis, life) == ["EVALSHA"] * 4


def test_the_round_trips_of_the_follow_ups(shared_ledger: Ledger, real_redis: Redis) -> None:
    kit.finished(shared_ledger)
    job_id = kit.settled(shared_ledger)

    def life() -> None:
        for step in OUTCOME_STEPS:
            kit.finish_follow_up(shared_ledger, job_id, step)

    assert commands_of(real_redis, life) == ["EVALSHA"] * 4


def test_the_text_of_a_script_is_sent_once_after_a_restart(
    shared_ledger: Ledger, real_redis: Redis
) -> None:
    kit.create(shared_ledger)
    real_redis.script_flush()

    assert commands_of(real_redis, lambda: kit.create(shared_ledger)) == ["EVALSHA", "EVAL"]
    assert commands_of(real_redis, lambda: kit.create(shared_ledger)) == ["EVALSHA"]


TASK = "task-unified-1757165031-uyujaw3d"


def run(ledger: Ledger, request: JobRequest) -> str:
    """Create a running job. Return its id."""
    job_id = kit.create(ledger, request)
    kit.claim(ledger, job_id)
    task_id = f"{TASK}{job_id[-14:]}"
    ledger.accepted(job_id, 1, task_id, now=NOW, due_at=NEXT_DUE, cost=kit.COST)
    return job_id


def archive(ledger: Ledger, request: JobRequest) -> str:
    """Create a job with an archived image. Return its id."""
    job_id = run(ledger, request)
    ledger.settle_attempt(job_id, 1, f"{TASK}{job_id[-14:]}", kit.SUCCESS, now=NOW)
    lease = kit.claim_follow_up(ledger, job_id, Step.ARCHIVE)
    stem = f"{identifiers.folder(job_id)}/0"
    copy = replace(kit.COPY, path=f"{stem}.png", thumbnail=f"{stem}.thumb.webp")
    images = tuple(replace(image, copy=copy) for image in lease.job.images)
    done = FollowUpStatus.DONE
    ledger.follow_ups.done(lease, Step.ARCHIVE, done, now=NOW, tries=1, images=images)
    return job_id


@pytest.mark.parametrize(("make", "status"), [(run, Status.RUNNING), (archive, Status.SUCCEEDED)])
def test_a_job_costs_little_memory_beyond_its_request(
    tmp_path: Path, make: Callable[[Ledger, JobRequest], str], status: Status
) -> None:
    request = JobRequest("evolink", "nano-banana-2-lite", options={"prompt": "x" * 300})
    jobs = 1000

    with embedded_redis(tmp_path) as url, Redis.from_url(url, decode_responses=True) as redis:
        ledger = Ledger.from_url(url)
        for _ in range(10):
            make(ledger, request)
        before = used(redis)

        for _ in range(jobs):
            last = make(ledger, request)

        each = (used(redis) - before) / jobs - len(codec.dumps(request.stored()))
        assert redis.hget(keys.job(last), "status") == status
    print(f"a {status} job costs {each:.0f} bytes beyond its request")  # noqa: T201
    assert 0 < each <= MAX_JOB_BYTES[status]


def used(redis: Redis) -> int:
    """Return the memory of the data, without what a busy machine frees late. Bytes."""
    memory: Any = redis.info("memory")
    late = ("mem_aof_buffer", "mem_clients_normal", "mem_overhead_db_hashtable_rehashing")
    return int(memory["used_memory"]) - sum(int(memory.get(name, 0)) for name in late)
