"""What a job costs: round trips to Redis, and memory in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.connection import AbstractConnection

from orchestrator.cli.stack import embedded_redis
from orchestrator.jobs.model import FOLLOW_UPS, JobRequest
from orchestrator.ledger import Ledger, codec, keys
from tests.ledger import kit
from tests.ledger.calls import CALLS, PUBLIC, prepared
from tests.ledger.kit import LOOK, NOW

#: Two of the ledger's methods talk more than once to Redis; neither is on a job's way.
TALKATIVE = {"server", "wait"}
#: These ask for several things in one round trip.
PIPELINED = {"follow_ups.backlog": 3, "follow_ups.dead": 2, "follow_ups.publish": 2}
#: Bytes in Redis that a running job may cost beyond its stored request.
OVERHEAD = 1536


def sent(redis: Redis, work: Callable[[], object]) -> list[str]:
    """The commands that reach the server while `work` is done, without those inside scripts."""
    commands: list[str] = []
    with redis.client() as marker, redis.monitor() as monitor:  # type: ignore[no-untyped-call]
        work()
        marker.echo("that was all")
        for seen in monitor.listen():
            if "that was all" in seen["command"]:
                return commands
            if seen["client_type"] != "lua":
                commands.append(seen["command"].split(" ")[0].upper())
    raise AssertionError("the monitor ended")


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - TALKATIVE))
def test_a_method_is_one_round_trip(crowd: Ledger, real_redis: Redis, name: str) -> None:
    CALLS[name](crowd, prepared(crowd, name))  # the script is loaded
    lease = prepared(crowd, name)

    commands = sent(real_redis, lambda: CALLS[name](crowd, lease))

    assert len(commands) == PIPELINED.get(name, 1), commands


PER_SHARD = ("follow_ups.at_risk", "follow_ups.backlog", "follow_ups.dead", "overview.tidy")


@pytest.mark.parametrize("name", PER_SHARD)
def test_a_method_about_all_shards_is_one_round_trip_for_each(
    real_redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sharded = Ledger.from_url(redis_url, shards=3)
    lease = prepared(sharded, name)
    CALLS[name](sharded, lease)  # the script is loaded
    trips: list[object] = []
    send: Any = AbstractConnection.send_packed_command

    def seen(self: AbstractConnection, *args: Any, **options: Any) -> Any:
        trips.append(self)
        return send(self, *args, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", seen)
    CALLS[name](sharded, lease)

    assert len(trips) == 3


def test_what_is_due_of_either_kind_is_one_round_trip(crowd: Ledger, real_redis: Redis) -> None:
    def due() -> None:
        for step in FOLLOW_UPS:
            crowd.follow_ups.due(0, step, now=NOW, limit=10)

    due()

    assert sent(real_redis, due) == ["EVALSHA", "ZRANGEBYSCORE"]


def test_the_round_trips_of_a_job_from_enqueue_to_callback(
    crowd: Ledger, real_redis: Redis
) -> None:
    def life() -> None:
        job_id = kit.running(crowd)
        crowd.settle_attempt(job_id, 1, "task-1", kit.SUCCESS, now=NOW)

    life()

    assert sent(real_redis, life) == ["EVALSHA"] * 4


def test_the_round_trips_of_what_follows(crowd: Ledger, real_redis: Redis) -> None:
    kit.quiet(crowd)
    job_id = kit.ended(crowd)

    def life() -> None:
        for step in FOLLOW_UPS:
            kit.followed(crowd, job_id, step)

    assert sent(real_redis, life) == ["EVALSHA"] * 4


def test_a_script_is_sent_whole_once_after_a_restart(crowd: Ledger, real_redis: Redis) -> None:
    kit.create(crowd)
    real_redis.script_flush()

    assert sent(real_redis, lambda: kit.create(crowd)) == ["EVALSHA", "EVAL"]
    assert sent(real_redis, lambda: kit.create(crowd)) == ["EVALSHA"]


def test_a_running_job_costs_little_memory_beyond_its_request(tmp_path: Path) -> None:
    request = JobRequest("evolink", "nano-banana-2-lite", options={"prompt": "x" * 300})
    task, jobs = "task-unified-1757165031-uyujaw3d", 1000

    def run(ledger: Ledger) -> str:
        job_id = kit.create(ledger, request)
        kit.claim(ledger, job_id)
        ledger.accepted(job_id, 1, task, now=NOW, due_at=LOOK, cost=kit.COST)
        return job_id

    with embedded_redis(tmp_path) as url, Redis.from_url(url, decode_responses=True) as redis:
        ledger = Ledger.from_url(url)
        for _ in range(10):
            run(ledger)
        before = used(redis)

        for _ in range(jobs):
            last = run(ledger)

        each = (used(redis) - before) / jobs - len(codec.dumps(request.stored()))
        assert redis.hget(keys.job(last), "status") == "running"
    print(f"a running job costs {each:.0f} bytes beyond its request")  # noqa: T201
    assert 0 < each <= OVERHEAD


def used(redis: Redis) -> int:
    memory: Any = redis.info("memory")
    return int(memory["used_memory"])
