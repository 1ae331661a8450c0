"""Every script can run twice with the same arguments: the second run leaves the state unchanged.

redis-py repeats a call when its connection broke. It does not know whether the first call arrived.
The table below has the answer of the second run, and the event that it lists again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest
from redis import Redis

from orchestrator.jobs.model import FollowUpStatus, SettledBy, Step
from orchestrator.ledger import Idempotency, Ledger, identifiers, keys
from orchestrator.ledger.circuit_breaker import FAILURES_TO_OPEN, MIN_FAILING_MS, PROBE_INTERVAL_MS
from tests.ledger import kit
from tests.ledger.kit import COST, DEADLINE, FAILURE, HOST, MOVING, NEXT_DUE, NOW, REQUEST, SUCCESS
from tests.ledger.recording import RecordingClient, comparable
from tests.ledger.test_scripts import SCRIPTS, WITHOUT_PRELUDE


class Repeat(NamedTuple):
    """A script that runs twice. Its first run is the last script of `run`."""

    script: str
    case: str
    run: Callable[[Ledger], object]
    first: str
    second: str
    #: The event that the second run lists again.
    event: str | None = None


def create_with_key(ledger: Ledger) -> None:
    key = Idempotency("caller", "order-17")
    ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=key)


def claim_of_dead_worker(ledger: Ledger) -> None:
    dead = kit.submitting(ledger)
    kit.claim(ledger, dead.job.id, now=dead.ends_at)


def claim_to_poll(ledger: Ledger) -> None:
    kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)


def accepted_after_callback(ledger: Ledger) -> None:
    job_id = kit.submitting(ledger).job.id
    ledger.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)
    ledger.accepted(job_id, 1, "task-1", now=NOW, due_at=NEXT_DUE, cost=COST)


def observe(ledger: Ledger, due_at: int | None) -> None:
    job_id = kit.submitting(ledger).job.id
    ledger.observe(job_id, 1, "task-1", now=NOW, due_at=due_at, fallback=NEXT_DUE)


def claim_at_paused_provider(ledger: Ledger) -> None:
    ledger.admission.pause("hiapi", by="cli", now=NOW)
    ledger.claim(kit.create(ledger, MOVING), Step.SUBMIT, now=NOW, lease_ms=1)


def refuse(ledger: Ledger) -> None:
    kit.refuse(ledger, kit.claim(ledger, kit.create(ledger, MOVING)))


def callback(ledger: Ledger) -> None:
    job_id = kit.running(ledger)
    ledger.settle_attempt(job_id, 1, "task-1", SUCCESS, now=NOW)


def late_failure(ledger: Ledger) -> None:
    job_id = kit.resubmitting(ledger).job.id
    ledger.settle_attempt(job_id, 1, "task-1", FAILURE, now=NOW)


def poll(ledger: Ledger) -> None:
    lease = kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE)
    ledger.settle(lease, FAILURE, SettledBy.POLL, now=NEXT_DUE)


def poll_without_outcome(ledger: Ledger) -> None:
    kit.defer(ledger, kit.claim(ledger, kit.running(ledger), Step.POLL, now=NEXT_DUE))


def follow(ledger: Ledger, step: Step) -> None:
    kit.claim_follow_up(ledger, kit.settled(ledger), step)


def follow_later(ledger: Ledger, step: Step) -> None:
    kit.retry_follow_up(ledger, kit.claim_follow_up(ledger, kit.settled(ledger), step), step)


def fail_notification(ledger: Ledger) -> str:
    return kit.finish_follow_up(
        ledger, kit.settled(ledger, FAILURE), Step.NOTIFY, FollowUpStatus.DEAD
    )


def again(ledger: Ledger, job_id: str) -> None:
    ledger.follow_ups.notify_again(job_id, now=NEXT_DUE)


def archive_again(ledger: Ledger) -> None:
    job_id = kit.finish_follow_up(ledger, kit.settled(ledger), Step.ARCHIVE, FollowUpStatus.DEAD)
    job = kit.job(ledger, job_id)
    ledger.follow_ups.archive_again(job, job.all_images, now=NEXT_DUE)


def retried(ledger: Ledger) -> None:
    ledger.retried(kit.settled(ledger, FAILURE), identifiers.new_job_id(0, NOW), now=NEXT_DUE)


def forget(ledger: Ledger) -> None:
    ledger.overview.forget(kit.finished(ledger), before=NEXT_DUE)


REPEATS = [
    Repeat("create", "without a key", kit.create, "created", "created"),
    Repeat("create", "with a key", create_with_key, "created", "created"),
    Repeat("claim", "queued", kit.submitting, "claimed", "claimed"),
    Repeat("claim", "lease ran out", claim_of_dead_worker, "claimed", "claimed"),
    Repeat("claim_poll", "", claim_to_poll, "claimed", "claimed"),
    Repeat("claim", "to a fallback", claim_at_paused_provider, "moved", "moved"),
    Repeat("requeue", "to a fallback", refuse, "moved", "stale"),
    Repeat("accepted", "submitting", kit.running, "running", "running", "accepted"),
    Repeat("accepted", "settled", accepted_after_callback, "settled", "settled", "accepted"),
    Repeat("requeue", "", lambda x: kit.requeue(x, kit.submitting(x)), "queued", "stale"),
    Repeat(
        "unconfirmed", "", lambda x: kit.unconfirmed(x, kit.submitting(x)), "unconfirmed", "stale"
    ),
    Repeat("defer", "", poll_without_outcome, "deferred", "stale"),
    Repeat("observe", "to confirm", lambda x: observe(x, NOW), "running", "running", "callback"),
    Repeat("observe", "not terminal", lambda x: observe(x, None), "running", "running", "callback"),
    Repeat("settle", "by callback", callback, "settled", "duplicate", "duplicate"),
    Repeat("settle", "by poll", poll, "settled", "duplicate", "duplicate"),
    Repeat("settle", "older attempt", late_failure, "superseded", "superseded", "superseded"),
    Repeat(
        "poll_now",
        "",
        lambda x: x.agenda.poll_now(kit.running(x), now=NOW, interval_ms=1),
        "running",
        "running",
    ),
    Repeat("retried", "", retried, "recorded", "duplicate"),
    Repeat("cancel", "", lambda x: x.cancel(kit.create(x), now=NOW), "cancelled", "duplicate"),
    Repeat("settle", "with a notification", kit.settled, "settled", "duplicate", "duplicate"),
    Repeat("follow_claim", "archive", lambda x: follow(x, Step.ARCHIVE), "claimed", "claimed"),
    Repeat("follow_claim", "notify", lambda x: follow(x, Step.NOTIFY), "claimed", "claimed"),
    Repeat("follow_later", "archive", lambda x: follow_later(x, Step.ARCHIVE), "recorded", "stale"),
    Repeat("follow_later", "notify", lambda x: follow_later(x, Step.NOTIFY), "recorded", "stale"),
    Repeat("follow_done", "both", kit.finished, "recorded", "stale"),
    Repeat("follow_done", "failed", fail_notification, "recorded", "stale"),
    Repeat(
        "notify_again",
        "failed",
        lambda x: again(x, fail_notification(x)),
        "recorded",
        "recorded",
        "notify_again",
    ),
    Repeat("archive_again", "dead", archive_again, "recorded", "recorded"),
    Repeat("forget", "", forget, "forgotten", "missing"),
]


#: The scripts with their own tests below.
ELSEWHERE = {*WITHOUT_PRELUDE, "waits"}


def test_every_script_is_tested_here() -> None:
    assert {repeat.script for repeat in REPEATS} | ELSEWHERE == set(SCRIPTS)


@pytest.mark.parametrize("repeat", REPEATS, ids=lambda r: f"{r.script} {r.case}".strip())
def test_the_second_run_leaves_the_state_unchanged(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis, repeat: Repeat
) -> None:
    repeat.run(recorded_ledger)
    first, state, lines = recorder.answer, kit.state(redis), kit.timelines(redis)
    kept = {key: kit.ttl(redis, key) is None for key in state}
    assert first[0] == repeat.first

    second = recorder.repeat()

    assert second[0] == repeat.second
    if repeat.second == repeat.first:
        assert comparable(second) == comparable(first)
    assert kit.state(redis) == state
    assert {key: kit.ttl(redis, key) is None for key in state} == kept
    added = [repeat.event] if repeat.event else []
    after = kit.timelines(redis)
    assert set(after) == set(lines)
    for key, before in lines.items():
        assert after[key][: len(before)] == before
        assert [line.split(" ")[1] for line in after[key][len(before) :]] == added


LISTINGS: Mapping[str, Callable[[Ledger], object]] = {
    "agenda_counts": lambda ledger: ledger.agenda.counts(now=NOW),
    "due": lambda ledger: ledger.agenda.due(0, now=NOW, limit=2),
    "due_follow_ups": lambda ledger: ledger.follow_ups.due(0, Step.ARCHIVE, now=NOW, limit=4),
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_the_second_run_of_a_list_returns_the_same(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis, listing: str
) -> None:
    for _ in range(4):
        kit.create(recorded_ledger)
        kit.settled(recorded_ledger)
    LISTINGS[listing](recorded_ledger)
    first, state = recorder.answer, kit.state(redis)

    assert recorder.repeat() == first
    assert first
    assert kit.state(redis) == state


def test_the_second_run_of_tidy_removes_nothing(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis
) -> None:
    for job_id in (kit.create(recorded_ledger), fail_notification(recorded_ledger)):
        redis.delete(keys.job(job_id), keys.events(job_id))
    kept = kit.create(recorded_ledger)
    recorded_ledger.overview.tidy(oldest=NEXT_DUE)
    first, state = recorder.answer, kit.state(redis)

    assert (first, recorder.repeat()) == ([3], [0])
    assert kit.state(redis) == state
    assert recorded_ledger.overview.size() == 1
    assert kit.job(recorded_ledger, kept)


def test_the_second_run_of_a_probe_is_refused(
    recorded_ledger: Ledger, recorder: RecordingClient, redis: Redis
) -> None:
    """A caller that lost the answer loses the probe. The next probe is one interval later."""
    now = kit.pause_host(recorded_ledger) + PROBE_INTERVAL_MS
    recorded_ledger.circuit_breaker.probe(HOST, now=now)
    first, state = recorder.answer, kit.state(redis)

    assert (first, recorder.repeat()) == (["probe"], ["paused"])
    assert kit.state(redis) == state


def test_a_repeated_failure_of_a_host_is_counted_twice_but_does_not_pause_it_too_early(
    recorded_ledger: Ledger, recorder: RecordingClient
) -> None:
    """Only this script changes the state in its second run. This is accepted.

    An additional failure does not pause a host before MIN_FAILING_MS. A pause loses no
    notification. A token per failure would cost more than it is worth.
    """
    for number in range(FAILURES_TO_OPEN // 2):
        recorded_ledger.circuit_breaker.failed(HOST, now=NOW + number)
        recorder.repeat()
    assert recorded_ledger.circuit_breaker.failing()[HOST].failures == FAILURES_TO_OPEN
    assert recorded_ledger.circuit_breaker.failing()[HOST].next_probe is None

    recorded_ledger.circuit_breaker.failed(HOST, now=NOW + MIN_FAILING_MS)
    assert (recorder.answer, recorder.repeat()) == (["paused"], ["still_paused"])

    host = recorded_ledger.circuit_breaker.failing()[HOST]
    assert (host.failures, host.since) == (FAILURES_TO_OPEN + 2, NOW)
    assert host.next_probe == NOW + MIN_FAILING_MS + PROBE_INTERVAL_MS, (
        "the second run does not delay the probe"
    )
