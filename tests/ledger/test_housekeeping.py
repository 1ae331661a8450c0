"""Retention, rejected messages, sweeps, shards, and information about the server."""

from __future__ import annotations

from time import time

import pytest
from redis import Redis

from orchestrator.jobs.model import OUTCOME_STEPS, SettledBy
from orchestrator.ledger import Ledger, LedgerMismatch, Result, keys
from orchestrator.ledger import rejected_messages as module
from orchestrator.ledger.rejected_messages import RejectedMessage
from tests.ledger import kit
from tests.ledger.kit import FAILURE, NEXT_DUE, NOW, SUCCESS

#: Redis removes entries of a stream in whole nodes of this size (stream-node-max-entries).
STREAM_NODE = 100


def test_a_settled_job_expires_after_the_retention_time(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, retention_ms=1)
    open_, lease = kit.create(ledger), kit.submitting(ledger)
    job_id = lease.job.id
    assert ledger.settle(lease, FAILURE, SettledBy.SUBMIT, now=NOW).result is Result.SETTLED

    kit.eventually(lambda: ledger.get(job_id) is None)

    assert ledger.events(job_id) == []
    assert kit.due_at(redis, job_id) is None
    assert kit.keys_of(redis, job_id) == []
    assert ledger.get(open_), "an open job does not expire"
    assert ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW).result is Result.MISSING


def test_a_job_with_follow_ups_expires_after_the_retention_time(
    redis: Redis,
) -> None:
    ledger = Ledger(lambda: redis, retention_ms=1)
    waiting, done = kit.settled(ledger), kit.settled(ledger)
    for step in OUTCOME_STEPS:
        kit.finish_follow_up(ledger, done, step)

    kit.eventually(lambda: not kit.keys_of(redis, done))

    kit.check_job(redis, waiting)
    assert ledger.get(waiting), "a job with a pending follow-up does not expire"


def test_a_cancelled_job_expires_after_the_retention_time(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, retention_ms=1)
    job_id = kit.create(ledger)
    ledger.cancel(job_id, now=NOW)

    kit.eventually(lambda: not kit.keys_of(redis, job_id))


def test_a_later_event_does_not_extend_the_retention_time(redis: Redis) -> None:
    short, ledger = Ledger(lambda: redis, retention_ms=60_000), Ledger(lambda: redis)
    lease = kit.submitting(ledger)
    job_id = lease.job.id
    short.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)

    ledger.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NEXT_DUE)
    ledger.cancel(job_id, now=NOW)

    for key in (keys.job(job_id), keys.events(job_id)):
        assert (kit.ttl(redis, key) or kit.DAY) <= 60_000


def test_rejected_messages_are_listed_newest_first(ledger: Ledger) -> None:
    ledger.rejected.keep("callback", now=NOW, reason="not JSON", body=b"<html>", provider="hiapi")
    ledger.rejected.keep("message", now=NOW + 1, reason="no model", body=b"{}")

    newest, oldest = ledger.rejected.page(9)
    assert newest == RejectedMessage(newest.id, "message", NOW + 1, "no model", "{}", {})
    provider = {"provider": "hiapi"}
    assert oldest == RejectedMessage(oldest.id, "callback", NOW, "not JSON", "<html>", provider)
    assert ledger.rejected.page(1) == [newest]


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"a" * 5000, "a" * module.MAX_BODY_BYTES),
        (b"\xff\xfe{", "\ufffd\ufffd{"),
        (b"a" * (module.MAX_BODY_BYTES - 1) + "é".encode(), "a" * 2047 + "\ufffd"),
        (b"", ""),
    ],
    ids=["too long", "not UTF-8", "cut inside a character", "empty"],
)
def test_a_rejected_body_is_cut_and_always_readable(ledger: Ledger, body: bytes, kept: str) -> None:
    ledger.rejected.keep("callback", now=NOW, reason="not JSON", body=body)

    assert ledger.rejected.page(1)[0].body == kept


def test_only_the_newest_rejected_messages_are_kept(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MESSAGES", 50)

    for number in range(300):
        ledger.rejected.keep("callback", now=number, reason="not JSON", body=b"")

    rejected = ledger.rejected.page(1000)
    assert 50 <= len(rejected) <= 50 + STREAM_NODE
    assert [entry.at for entry in rejected[:50]] == [*range(299, 249, -1)]


def test_the_last_sweep_is_recorded(ledger: Ledger, redis: Redis) -> None:
    assert ledger.installation.last_sweep() is None

    ledger.installation.mark_sweep(now=NOW, host="one")
    ledger.installation.mark_sweep(now=NOW + 1, host="two")

    assert ledger.installation.last_sweep() == NOW + 1
    assert redis.hgetall(keys.SWEEP) == {"at": str(NOW + 1), "host": "two"}


def test_the_first_process_sets_the_number_of_shards_and_others_are_refused(redis: Redis) -> None:
    four, eight = Ledger(lambda: redis, shards=4), Ledger(lambda: redis, shards=8)
    eight.installation.check()

    four.installation.join()
    four.installation.join()

    with pytest.raises(LedgerMismatch, match="SHARDS=4, not with 8; set ORCHESTRATOR_SHARDS=4"):
        eight.installation.join()
    with pytest.raises(LedgerMismatch):
        eight.installation.check()
    assert (four.installation.mismatch, eight.installation.mismatch is None) == (None, False)


def test_the_information_about_the_server(shared_ledger: Ledger) -> None:
    before = int(time() * 1000)
    server = shared_ledger.installation.server()

    assert server["redis_version"]
    assert server["appendfsync"] == "everysec"
    assert before <= server["now_ms"] <= time() * 1000


@pytest.mark.one_server
def test_a_server_that_forbids_config_returns_the_other_information(
    real_redis: Redis, redis_url: str
) -> None:
    real_redis.acl_setuser(
        "managed", enabled=True, passwords=["+pw"], commands=["+@all", "-config"], keys=["*"]
    )
    try:
        server = Ledger.from_url(redis_url.replace("//", "//managed:pw@")).installation.server()
    finally:
        real_redis.acl_deluser("managed")

    assert server["redis_version"]
    assert "appendfsync" not in server
