"""The file of a job: it is stored unchanged, until it is not needed any more."""

from __future__ import annotations

from redis import Redis

from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.uploads import Upload
from orchestrator.ledger import Idempotency, Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, NOW

#: Bytes that are no text in any encoding.
FILE = bytes(range(256)) * 40
UPLOAD = Upload("cat.png", "image/png", len(FILE), "ab" * 32)
REQUEST = JobRequest("mill", "mill-1", options={"prompt": "A cat"}, upload=UPLOAD)
KEY = Idempotency("caller", "order-17")


def test_a_file_is_stored_unchanged(ledger: Ledger) -> None:
    job_id = kit.create(ledger, upload=FILE)

    assert ledger.uploads.get(job_id) == FILE


def test_an_empty_file_is_not_a_missing_one(ledger: Ledger) -> None:
    assert ledger.uploads.get(kit.create(ledger, upload=b"")) == b""


def test_the_metadata_of_the_file_is_part_of_the_request(ledger: Ledger) -> None:
    job_id = kit.create(ledger, REQUEST, upload=FILE)

    assert kit.job(ledger, job_id).request == REQUEST


def test_a_job_without_a_file_has_none(ledger: Ledger) -> None:
    assert ledger.uploads.get(kit.create(ledger)) is None


def test_a_file_can_be_deleted_twice(ledger: Ledger) -> None:
    job_id = kit.create(ledger, upload=FILE)

    ledger.uploads.drop(job_id)
    ledger.uploads.drop(job_id)

    assert ledger.uploads.get(job_id) is None


def test_a_replayed_request_keeps_the_first_file_only(ledger: Ledger, redis: Redis) -> None:
    first, again = (
        ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=KEY, upload=FILE)
        for _ in range(2)
    )

    assert (again.result, again.job_id) == (Result.REPLAYED, first.job_id)
    assert [k for k in kit.every_key(redis) if ":upload:" in k] == [keys.upload(first.job_id)]
    assert ledger.uploads.get(first.job_id) == FILE


def test_another_file_under_the_same_key_is_another_request(ledger: Ledger, redis: Redis) -> None:
    ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=KEY, upload=FILE)
    other = JobRequest(
        "mill",
        "mill-1",
        options={"prompt": "A cat"},
        upload=Upload("cat.png", "image/png", len(FILE), "cd" * 32),
    )

    created = ledger.create(other, now=NOW, deadline_at=DEADLINE, idempotency=KEY, upload=FILE)

    assert created.result is Result.MISMATCH
    assert len([k for k in kit.every_key(redis) if ":upload:" in k]) == 1
