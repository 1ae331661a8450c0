"""What the ledger keeps beside jobs, and how long it keeps them."""

from __future__ import annotations

from time import time

import pytest
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, SettledBy
from orchestrator.ledger import Ledger, Result, keys
from orchestrator.ledger import ledger as module
from tests.ledger import kit
from tests.ledger.kit import FAILURE, LOOK, NOW, SUCCESS

#: Redis trims a stream by whole nodes of this many entries (stream-node-max-entries).
STREAM_NODE = 100


def test_a_settled_job_is_gone_after_the_retention_time(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, retention_ms=1000)
    open_, lease = kit.create(ledger), kit.submitting(ledger)
    job_id = lease.job.id
    assert ledger.settle(lease, FAILURE, SettledBy.SUBMIT, now=NOW).result is Result.SETTLED
    assert ledger.get(job_id)

    kit.eventually(lambda: ledger.get(job_id) is None)

    assert ledger.events(job_id) == []
    assert kit.due_at(redis, job_id) is None
    assert [key for key in kit.every_key(redis) if job_id in key] == []
    assert ledger.get(open_), "an open job is kept"
    assert ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW).result is Result.MISSING


def test_a_job_from_which_something_followed_is_gone_after_the_retention_time(
    redis: Redis,
) -> None:
    ledger = Ledger(lambda: redis, retention_ms=1)
    waiting, done = kit.ended(ledger), kit.ended(ledger)
    for step in FOLLOW_UPS:
        kit.followed(ledger, done, step)

    kit.eventually(lambda: not [key for key in kit.every_key(redis) if done in key])

    kit.invariant(redis, waiting)
    assert ledger.get(waiting), "one from which something follows is kept"


def test_a_job_called_off_is_gone_after_the_retention_time(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, retention_ms=1)
    job_id = kit.create(ledger)
    ledger.cancel(job_id, now=NOW)

    kit.eventually(lambda: not [key for key in kit.every_key(redis) if job_id in key])


def test_what_comes_in_later_does_not_lengthen_a_settled_jobs_life(redis: Redis) -> None:
    brief, ledger = Ledger(lambda: redis, retention_ms=60_000), Ledger(lambda: redis)
    lease = kit.submitting(ledger)
    job_id = lease.job.id
    brief.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)

    ledger.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=LOOK)
    ledger.cancel(job_id, now=NOW)

    for key in (keys.job(job_id), keys.events(job_id)):
        assert (kit.lifetime(redis, key) or kit.DAY) <= 60_000


def test_what_was_refused_is_kept_newest_first(ledger: Ledger) -> None:
    ledger.reject("callback", now=NOW, reason="not JSON", body=b"<html>", provider="hiapi")
    ledger.reject("message", now=NOW + 1, reason="no model", body=b"{}")

    assert ledger.rejected() == [
        {"kind": "message", "at": str(NOW + 1), "reason": "no model", "body": "{}"},
        {
            "kind": "callback",
            "at": str(NOW),
            "reason": "not JSON",
            "provider": "hiapi",
            "body": "<html>",
        },
    ]
    assert len(ledger.rejected(limit=1)) == 1


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"a" * 5000, "a" * module.REJECTED_BODY_BYTES),
        (b"\xff\xfe{", "\ufffd\ufffd{"),
        (b"a" * (module.REJECTED_BODY_BYTES - 1) + "é".encode(), "a" * 2047 + "\ufffd"),
        (b"", ""),
    ],
    ids=["too long", "not UTF-8", "cut inside a letter", "empty"],
)
def test_a_refused_body_is_cut_and_always_readable(ledger: Ledger, body: bytes, kept: str) -> None:
    ledger.reject("callback", now=NOW, reason="not JSON", body=body)

    assert ledger.rejected()[0]["body"] == kept


def test_only_the_newest_of_what_was_refused_is_kept(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REJECTED_ENTRIES", 50)

    for number in range(300):
        ledger.reject("callback", now=number, reason="not JSON", body=b"")

    found = ledger.rejected(limit=1000)
    assert 50 <= len(found) <= 50 + STREAM_NODE
    assert [entry["at"] for entry in found[:50]] == [str(n) for n in range(299, 249, -1)]


def test_the_last_sweep_is_remembered(ledger: Ledger, redis: Redis) -> None:
    assert ledger.last_sweep() is None

    ledger.mark_sweep(now=NOW, host="one")
    ledger.mark_sweep(now=NOW + 1, host="two")

    assert ledger.last_sweep() == NOW + 1
    assert redis.hgetall(keys.SWEEP) == {"at": str(NOW + 1), "host": "two"}


def test_the_number_of_shards_is_fixed_by_the_first_to_ask(redis: Redis) -> None:
    four, eight = Ledger(lambda: redis, shards=4), Ledger(lambda: redis, shards=8)

    assert four.installed_shards() == 4
    assert eight.installed_shards() == 4
    assert four.installed_shards() == 4


def test_the_server_tells_of_itself(crowd: Ledger) -> None:
    told = crowd.server()

    assert told["redis_version"]
    assert told["appendfsync"] == "everysec"
    assert abs(told["now_ms"] - time() * 1000) < 5000


def test_a_server_that_keeps_its_configuration_to_itself_tells_the_rest(
    real_redis: Redis, redis_url: str
) -> None:
    real_redis.acl_setuser(
        "managed", enabled=True, passwords=["+pw"], commands=["+@all", "-config"], keys=["*"]
    )
    try:
        told = Ledger.from_url(redis_url.replace("//", "//managed:pw@")).server()
    finally:
        real_redis.acl_deluser("managed")

    assert told["redis_version"]
    assert "appendfsync" not in told
