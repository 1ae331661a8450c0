"""How long tasks took lately: what results teach, and when jobs are polled first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from redis import Redis

from orchestrator.jobs.model import ErrorCode, JobError, Outcome, SettledBy, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import FirstPoll, LearnedWait, Ledger, keys
from orchestrator.ledger.durations import ModelDurations
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, NEXT_DUE, NOW, REQUEST, SUCCESS

#: The only model of these tests, unless a test needs another one.
MODEL = REQUEST.model
EARLY, LATE = LearnedWait.EARLY, LearnedWait.LATE
#: Twenty results that take 11 to 30 seconds.
TWENTY = range(11, 31)


def request_for(model: str) -> JobRequest:
    return JobRequest("hiapi", model, options={"prompt": "A red cube"})


def submitted(ledger: Ledger, model: str = MODEL) -> str:
    return kit.claim(ledger, kit.create(ledger, request_for(model))).job.id


def called_back(ledger: Ledger, seconds: float, model: str = MODEL) -> None:
    """Settle a new job by a callback that comes this long after the submission."""
    job_id, now = submitted(ledger, model), NOW + int(seconds * 1000)
    ledger.settle_attempt(job_id, 1, f"task-{job_id}", SUCCESS, now=now)


def polled(
    ledger: Ledger,
    *seconds: float,
    running: bool = True,
    outcome: Outcome = SUCCESS,
    by: SettledBy = SettledBy.POLL,
) -> None:
    """Poll a new job at these times. The last poll settles it."""
    times = [NOW + int(each * 1000) for each in seconds]
    job_id = submitted(ledger)
    ledger.accepted(job_id, 1, f"task-{job_id}", now=NOW, due_at=times[0])
    for now, due_at in pairwise(times):
        lease = kit.claim(ledger, job_id, Step.POLL, now=now)
        kit.defer(ledger, lease, now=now, due_at=due_at, running=running)
    lease = kit.claim(ledger, job_id, Step.POLL, now=times[-1])
    ledger.settle(lease, outcome, by, now=times[-1])


def learned(ledger: Ledger, model: str = MODEL) -> Sequence[float]:
    """Return the durations of a model; with an empty name those of the provider. Seconds."""
    return next(
        (d.seconds for d in ledger.durations.of(["hiapi"])["hiapi"] if d.model == model), ()
    )


def first_poll(
    ledger: Ledger, wait: LearnedWait, *, model: str = MODEL, now: int = NOW, earliest: int = NOW
) -> float:
    """Return when a job is polled first, in seconds after its submission."""
    job_id = submitted(ledger, model)
    ledger.accepted(
        job_id, 1, f"t-{job_id}", now=now, due_at=NEXT_DUE, first_poll=FirstPoll(wait, earliest)
    )
    with ledger._redis() as client:
        due_at = client.zscore(keys.agenda(0), job_id)
    assert due_at is not None
    return (float(due_at) - NOW) / 1000


def test_a_job_is_polled_first_when_few_results_come_before_that(ledger: Ledger) -> None:
    for seconds in TWENTY:
        called_back(ledger, seconds)

    assert first_poll(ledger, EARLY) == 14  # 3 of 20 came before
    assert first_poll(ledger, LATE) == 29  # 18 of 20 came before
    assert first_poll(ledger, LearnedWait.NONE) == 100


def test_the_first_poll_is_neither_too_early_nor_after_the_deadline(ledger: Ledger) -> None:
    for seconds in TWENTY:
        called_back(ledger, seconds)

    assert first_poll(ledger, EARLY, now=NOW + 13_000, earliest=NOW + 15_000) == 15
    assert first_poll(ledger, LATE, earliest=NOW + 60_000) == 60
    late = DEADLINE - 1
    assert first_poll(ledger, LATE, now=late, earliest=late + 60_000) == (DEADLINE - NOW) / 1000


@pytest.mark.parametrize("wait", [EARLY, LATE])
def test_a_first_poll_leaves_time_for_another_one(ledger: Ledger, wait: LearnedWait) -> None:
    for _ in TWENTY:
        called_back(ledger, (DEADLINE - NOW) / 1000)

    assert first_poll(ledger, wait) == 0.75 * (DEADLINE - NOW) / 1000


def test_an_unknown_model_uses_the_results_of_its_provider(ledger: Ledger) -> None:
    for seconds in TWENTY[:4]:
        called_back(ledger, seconds)
    assert first_poll(ledger, EARLY, model="another") == 100  # too few

    called_back(ledger, 15, model="third")

    assert first_poll(ledger, EARLY, model="another") == 11
    assert (learned(ledger, ""), learned(ledger, "third")) == ((11, 12, 13, 14, 15), (15,))


def test_few_slow_results_delay_no_poll(ledger: Ledger) -> None:
    for seconds in (10, 10, 10, 10, 10, 10, 3000, 3000, 3000):
        called_back(ledger, seconds)

    assert first_poll(ledger, EARLY) == 10
    assert first_poll(ledger, LATE) == 30


def test_the_latest_twenty_results_count(ledger: Ledger) -> None:
    for seconds in [500] * 20 + [*TWENTY]:
        called_back(ledger, seconds)

    assert learned(ledger) == tuple(TWENTY)
    assert first_poll(ledger, EARLY) == 14


def test_a_poll_shows_the_time_between_two_polls(ledger: Ledger) -> None:
    polled(ledger, 10, 12)
    polled(ledger, 10, 12, 13)
    polled(ledger, 40)
    polled(ledger, 30, 40, running=False)

    assert learned(ledger) == (11, 12.5, 34, 34)


def test_a_learned_time_that_is_too_long_falls(ledger: Ledger) -> None:
    for seconds in [40] * 20:
        called_back(ledger, seconds)
    waits = [first_poll(ledger, EARLY)]

    for _ in range(40):  # every first poll finds the result
        waits.append(first_poll(ledger, EARLY))
        polled(ledger, waits[-1])

    assert waits == sorted(waits, reverse=True)
    assert waits[-1] < 12


@pytest.mark.parametrize(
    ("code", "by"),
    [
        (ErrorCode.DEADLINE_EXCEEDED, SettledBy.DEADLINE),
        (ErrorCode.TIMEOUT, SettledBy.DEADLINE),
        (ErrorCode.NOT_FOUND, SettledBy.POLL),
        (ErrorCode.UNKNOWN, SettledBy.POLL),
    ],
)
def test_outcomes_of_ours_teach_nothing(ledger: Ledger, code: ErrorCode, by: SettledBy) -> None:
    polled(ledger, 60, outcome=Outcome.failed(JobError(code, "no")), by=by)

    assert learned(ledger) == ()


def test_only_the_first_outcome_of_the_last_attempt_teaches(ledger: Ledger) -> None:
    job_id = submitted(ledger)
    ledger.settle_attempt(job_id, 1, "task", FAILURE, now=NOW + 2000)
    for outcome in (FAILURE, SUCCESS):  # repeated, and late
        ledger.settle_attempt(job_id, 1, "task", outcome, now=NOW + 5000)
    done = submitted(ledger)
    ledger.settle_attempt(done, 1, "done", SUCCESS, now=NOW + 9000, by=SettledBy.SUBMIT)
    lease = kit.resubmitting(ledger)
    ledger.settle_attempt(lease.job.id, 1, "old", SUCCESS, now=NOW + 9000)

    assert learned(ledger) == (2,)


def test_a_job_that_moved_teaches_where_it_is_now_and_names_no_model(ledger: Ledger) -> None:
    job_id = kit.create(ledger, kit.MOVING)
    kit.refuse(ledger, kit.claim(ledger, job_id))
    lease = kit.claim(ledger, job_id)
    ledger.settle_attempt(job_id, lease.job.attempt.number, "task", SUCCESS, now=NOW + 5000)

    known = ledger.durations.of(["hiapi", lease.job.provider])
    assert known == {"hiapi": [], "evolink": [ModelDurations("", (5,))]}


def test_names_of_models_take_bounded_memory(ledger: Ledger, redis: Redis) -> None:
    hostile = ["model", "é" * 50, "a b", "all", "x" * 101, "ü" * 90, 'a"', "a\nb", "\x1b[31m"]
    for model in hostile:
        called_back(ledger, 1, model)
    known = {each.model for each in ledger.durations.of(["hiapi"])["hiapi"]}
    # Others are cut off where JSON escapes a character, or have no durations of their own.
    assert known == {"", "model", "é" * 50, "a b", "all", "a\\", "a\\nb", "\\u001b[31m"}

    for number in range(2, 102):
        called_back(ledger, number, f"m{number}")
        if number % 20 == 0:
            called_back(ledger, number + 0.5)

    known = {each.model for each in ledger.durations.of(["hiapi"])["hiapi"]}
    assert known == {"", MODEL, *(f"m{number}" for number in range(3, 102))}
    assert redis.hstrlen(keys.durations(0, "hiapi"), "all") < 250


@pytest.mark.one_server
def test_an_ended_job_does_not_keep_when_it_was_seen_running(ledger: Ledger, redis: Redis) -> None:
    polled(ledger, 10, 12)

    [key] = redis.keys("*:job:*")
    assert not redis.hexists(key, "seen_running")
