"""Creating a job: the stored values, and idempotency keys that prevent a second charge."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from redis import Redis

from orchestrator.jobs.model import Job, Status, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Created, Idempotency, Ledger, Result, Waiting, WaitReason, keys
from tests.ledger import kit
from tests.ledger.kit import DAY, DEADLINE, NOW, REQUEST, TTL_MARGIN
from tests.ledger.recording import RecordingClient

KEY = Idempotency("caller", "order-17")
OTHER_REQUEST = replace(REQUEST, options={"prompt": "A blue cube"})


def create(ledger: Ledger, request: JobRequest = REQUEST, key: Idempotency | None = KEY) -> Created:
    return ledger.create(request, now=NOW, deadline_at=DEADLINE, idempotency=key)


def jobs(redis: Redis) -> list[str]:
    return [key for key in kit.every_key(redis) if ":job:" in key]


def key_of(idempotency: Idempotency) -> str:
    return keys.idempotency(0, keys.digest(idempotency.scope, idempotency.key))


def test_a_new_job_is_queued_and_due_at_once(ledger: Ledger, redis: Redis) -> None:
    created = create(ledger, key=None)

    assert created.result is Result.CREATED
    assert ledger.get(created.job_id) == Job(
        id=created.job_id,
        status=Status.QUEUED,
        request=REQUEST,
        created_at=NOW,
        updated_at=NOW,
        deadline_at=DEADLINE,
    )
    assert ledger.agenda.due(0, now=NOW, limit=10) == [(created.job_id, Step.SUBMIT)]
    assert kit.due_at(redis, created.job_id) == NOW
    assert [(e.at, e.name, e.detail) for e in ledger.events(created.job_id)] == [
        (NOW, "created", {})
    ]


def test_a_new_job_says_what_it_waits_for(ledger: Ledger) -> None:
    assert create(ledger, key=None).wait == Waiting(WaitReason.WORKER, None)
    ledger.admission.pause(REQUEST.provider, by="ops", now=NOW)
    created = create(ledger, key=None)
    assert created.wait == Waiting(WaitReason.PAUSED, None)
    assert created.wait == ledger.admission.waits([kit.job(ledger, created.job_id)], now=NOW).get(
        created.job_id
    )


@pytest.mark.parametrize(
    "request_",
    [
        JobRequest("evolink", "m", native={"prompt": "x", "n": 1, "deep": {"list": [1, None]}}),
        JobRequest("hiapi", "m", options={"prompt": "a 'quote' \"and\" \\ \n \0 \u2028 🟥"}),
        JobRequest(
            "hiapi",
            "m",
            options={"prompt": "x", "images": ["https://a.example/1.png"]},
            metadata={"order": 17},
            deadline_seconds=90.5,
            on_unconfirmed="resubmit",
        ),
    ],
    ids=["native", "odd characters", "every field"],
)
def test_a_request_is_stored_unchanged(ledger: Ledger, request_: JobRequest) -> None:
    assert kit.job(ledger, kit.create(ledger, request_)).request == request_


def test_a_repeated_key_returns_the_same_job(ledger: Ledger, redis: Redis) -> None:
    first = create(ledger)

    again = create(ledger)

    assert first.result is Result.CREATED
    assert again == Created(Result.REPLAYED, first.job_id)
    assert jobs(redis) == [keys.job(first.job_id)]
    assert kit.event_names(ledger, first.job_id) == ["created"]


def test_a_repeated_key_returns_the_same_job_after_its_settlement(ledger: Ledger) -> None:
    first = create(ledger)
    ledger.cancel(first.job_id, now=NOW)

    assert create(ledger) == Created(Result.REPLAYED, first.job_id)


def test_the_order_of_a_requests_fields_does_not_matter(ledger: Ledger) -> None:
    first = create(ledger, replace(REQUEST, options={"prompt": "x", "resolution": "2K"}))

    again = create(ledger, replace(REQUEST, options={"resolution": "2K", "prompt": "x"}))

    assert again == Created(Result.REPLAYED, first.job_id)


@pytest.mark.parametrize(
    "other",
    [
        OTHER_REQUEST,
        replace(REQUEST, model="Nano-Banana-Pro"),
        replace(REQUEST, provider="evolink"),
        replace(REQUEST, metadata={"order": 18}),
        replace(REQUEST, deadline_seconds=5),
        replace(REQUEST, on_unconfirmed="resubmit"),
        replace(REQUEST, options={}, native={"prompt": "A red cube"}),
    ],
)
def test_a_key_with_another_request_is_a_mismatch_and_creates_nothing(
    ledger: Ledger, redis: Redis, other: JobRequest
) -> None:
    first = create(ledger)
    before = kit.state(redis)

    assert create(ledger, other) == Created(Result.MISMATCH, first.job_id)
    assert kit.state(redis) == before


def test_two_callers_may_use_the_same_key(ledger: Ledger) -> None:
    mine = create(ledger, key=Idempotency("mine", "1"))
    yours = create(ledger, OTHER_REQUEST, key=Idempotency("yours", "1"))

    assert (mine.result, yours.result) == (Result.CREATED, Result.CREATED)
    assert mine.job_id != yours.job_id


def test_scope_and_key_are_separated(ledger: Ledger) -> None:
    assert create(ledger, key=Idempotency("ab", "c")).result is Result.CREATED
    assert create(ledger, key=Idempotency("a", "bc")).result is Result.CREATED


def test_without_a_key_equal_requests_are_two_jobs(ledger: Ledger, redis: Redis) -> None:
    assert create(ledger, key=None).job_id != create(ledger, key=None).job_id
    assert len(jobs(redis)) == 2
    assert not [key for key in kit.every_key(redis) if "idempotency" in key]


def test_an_idempotency_key_is_not_stored_as_text(ledger: Ledger, redis: Redis) -> None:
    create(ledger, key=Idempotency("caller", "sk-secret-in-a-key"))

    assert "sk-secret" not in repr((kit.state(redis), kit.every_key(redis)))


def test_a_key_is_kept_for_a_day(ledger: Ledger, redis: Redis) -> None:
    create(ledger)

    left = kit.ttl(redis, key_of(KEY))
    assert left is not None
    assert DAY - TTL_MARGIN < left <= DAY


def test_a_replay_does_not_extend_the_lifetime_of_a_key(redis: Redis) -> None:
    create(Ledger(lambda: redis, idempotency_ms=60_000))
    create(Ledger(lambda: redis))

    assert (kit.ttl(redis, key_of(KEY)) or DAY) <= 60_000


def test_an_expired_key_creates_a_new_job(redis: Redis) -> None:
    ledger = Ledger(lambda: redis, idempotency_ms=1)
    first = create(ledger)
    kit.eventually(lambda: not redis.exists(key_of(KEY)))

    again = create(ledger, OTHER_REQUEST)

    assert again.result is Result.CREATED
    assert again.job_id != first.job_id


def test_a_key_of_an_expired_job_creates_no_second_job(redis: Redis) -> None:
    brief, ledger = Ledger(lambda: redis, retention_ms=1), Ledger(lambda: redis)
    first = create(brief)
    brief.cancel(first.job_id, now=NOW)
    kit.eventually(lambda: ledger.get(first.job_id) is None)

    assert create(ledger) == Created(Result.GONE, first.job_id)
    assert create(ledger, OTHER_REQUEST) == Created(Result.GONE, first.job_id)
    assert ledger.overview.size() == 1


def test_twenty_concurrent_calls_with_one_key_create_one_job(
    shared_ledger: Ledger, real_redis: Redis
) -> None:
    created = kit.in_parallel(20, lambda: create(shared_ledger))

    assert len({one.job_id for one in created}) == 1
    assert Counter(one.result for one in created) == {Result.CREATED: 1, Result.REPLAYED: 19}
    assert jobs(real_redis) == [keys.job(created[0].job_id)]
    assert kit.event_names(shared_ledger, created[0].job_id) == ["created"]


def test_a_repeated_call_after_a_lost_answer_changes_nothing(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis
) -> None:
    created = create(recorded_ledger)
    create_again = recorder.repeat
    kit.claim(recorded_ledger, created.job_id)
    before = kit.state(redis)

    assert create_again() == ["created", "", ""]
    assert kit.state(redis) == before
    assert kit.event_names(recorded_ledger, created.job_id) == ["created", "submitting"]
