"""An older version beside a newer one claims nothing that it cannot read."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files

import pytest
from redis import Redis

from orchestrator.jobs.model import Status, Step
from orchestrator.ledger import Ledger, LedgerMismatch, LedgerUnavailable, installation, keys
from orchestrator.ledger.job_transitions import UNREADABLE_WAIT_MS
from orchestrator.ledger.refusals import FORMAT, UnreadableJob
from tests.ledger import kit
from tests.ledger.kit import NEXT_DUE, NOW, SUCCESS

NEWER = str(FORMAT + 1)


def test_the_scripts_and_the_processes_have_one_format() -> None:
    prelude = files("orchestrator.ledger") / "scripts" / "_prelude.lua"

    assert f"\nlocal FORMAT = {FORMAT}\n" in prelude.read_text("utf-8")


def test_a_newer_process_raises_the_format_and_an_older_one_is_refused(
    ledger: Ledger, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.installation.join()
    assert redis.get(keys.FORMAT) == str(FORMAT)
    with monkeypatch.context() as newer:
        newer.setattr(installation, "FORMAT", FORMAT + 1)
        ledger.installation.join()
        assert ledger.installation.mismatch is None

    for refused in (ledger.installation.join, ledger.installation.check):
        with pytest.raises(LedgerMismatch, match=f"has format {NEWER}, and this version reads"):
            refused()
    assert redis.get(keys.FORMAT) == NEWER
    assert ledger.installation.mismatch is not None


def claim_queued(ledger: Ledger) -> Callable[[], object]:
    job_id = kit.create(ledger)
    return lambda: ledger.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=1000)


def claim_running(ledger: Ledger) -> Callable[[], object]:
    job_id = kit.running(ledger)
    return lambda: ledger.claim(job_id, Step.POLL, now=NEXT_DUE, lease_ms=1000)


def claim_archive(ledger: Ledger) -> Callable[[], object]:
    job_id = kit.running(ledger)
    ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)
    return lambda: ledger.follow_ups.claim(job_id, Step.ARCHIVE, now=NEXT_DUE, lease_ms=1000)


def settle(ledger: Ledger) -> Callable[[], object]:
    job_id = kit.running(ledger)
    return lambda: ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NEXT_DUE)


@pytest.mark.parametrize("prepare", [claim_queued, claim_running, claim_archive, settle])
def test_a_job_of_a_newer_version_is_refused_and_nothing_changes(
    ledger: Ledger, redis: Redis, prepare: Callable[[Ledger], Callable[[], object]]
) -> None:
    change = prepare(ledger)
    [job_id] = map(str, redis.zrange(keys.jobs(0), 0, -1))
    redis.hset(keys.job(job_id), "format", NEWER)
    before = kit.state(redis)

    with pytest.raises(LedgerMismatch, match=f"has format {NEWER}"):
        change()

    assert kit.state(redis) == before
    redis.hset(keys.job(job_id), "format", FORMAT)
    assert change()


def test_a_job_that_cannot_be_read_is_given_back_and_never_unconfirmed(
    ledger: Ledger, redis: Redis
) -> None:
    job_id = kit.create(ledger)
    request = str(redis.hget(keys.job(job_id), "request"))
    redis.hset(keys.job(job_id), "request", json.dumps({**json.loads(request), "hologram": 1}))

    with pytest.raises(UnreadableJob, match=job_id):
        ledger.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=1000)

    with pytest.raises(UnreadableJob):
        ledger.get(job_id)
    assert redis.hget(keys.job(job_id), "status") == Status.QUEUED
    assert redis.zscore(keys.agenda(0), job_id) == NOW + UNREADABLE_WAIT_MS
    redis.hset(keys.job(job_id), "request", request)
    later = NOW + UNREADABLE_WAIT_MS
    assert ledger.claim(job_id, Step.SUBMIT, now=later, lease_ms=1000)
    assert issubclass(UnreadableJob, LedgerUnavailable)


def test_a_job_of_a_newer_format_is_not_read(ledger: Ledger, redis: Redis) -> None:
    newer, known = kit.create(ledger), kit.create(ledger)
    redis.hset(keys.job(newer), "format", NEWER)

    with pytest.raises(UnreadableJob, match=newer):
        ledger.get(newer)
    jobs, unreadable = ledger.overview.readable_jobs([newer, known, newer])

    assert list(jobs) == [known]
    assert [each.job_id for each in unreadable] == [newer]
    faults = {each.job_id: each.fault for each in ledger.overview.snapshots(0)}
    assert newer in faults[newer]
    assert not faults[known]
