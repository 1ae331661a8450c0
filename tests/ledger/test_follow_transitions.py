"""Every action in every state of a follow-up has the effect in follow_transitions.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from redis import Redis

from orchestrator.jobs.model import FOLLOW_UPS, FollowUpStatus, Step
from orchestrator.ledger import Lease, Ledger, Result
from tests.ledger import kit
from tests.ledger.follow_transitions import (
    COLUMNS,
    EFFECTIVE,
    ROWS,
    FollowUpTransition,
    transitions,
)
from tests.ledger.kit import FAILURE, LEASE, NEXT_DUE, NOTIFYING, NOW, REQUEST, SUCCESS
from tests.ledger.recording import RecordingClient

#: The states of an archive. A notification has more.
ARCHIVE_STATES = {"none", "pending", "leased", "done", "dead"}
#: The actions that apply to a notification only.
NOTIFICATION_ACTIONS = {"notify again", "gone, own lease"}
#: The actions that apply to an archive only.
ARCHIVE_ACTIONS = {"archive again"}
#: The states of a follow-up that ended.
ENDED = {"done", "dead", "gone"}


@dataclass
class FollowUpCase:
    """A job, one of its follow-ups, and the last lease on that follow-up."""

    ledger: Ledger
    redis: Redis
    recorder: RecordingClient
    step: Step
    job_id: str
    lease: Lease
    #: When the follow-up is due (ms).
    due: int = NOW

    @property
    def wrong_lease(self) -> Lease:
        return replace(self.lease, token="wrong token")


def new_case(redis: Redis, step: Step, state: str) -> FollowUpCase:
    """Create a queued job in an empty Redis. It asks for a notification if the state needs one."""
    redis.flushdb()
    recorder = RecordingClient(redis)
    ledger = Ledger(lambda: cast(Redis, recorder))
    notifies = step is Step.NOTIFY and state != "silent"
    job_id = kit.create(ledger, NOTIFYING if notifies else REQUEST)
    lease = Lease(kit.job(ledger, job_id), "not a lease", NOW)
    return FollowUpCase(ledger, redis, recorder, step, job_id, lease)


# States ------------------------------------------------------------------------------------


def settle(case: FollowUpCase) -> None:
    """Settle the job with an outcome that has this follow-up only, if it asked for one."""
    kit.claim(case.ledger, case.job_id)
    outcome = SUCCESS if case.step is Step.ARCHIVE else FAILURE
    case.ledger.settle_attempt(case.job_id, 1, "task-1", outcome, now=NOW)


def pending(case: FollowUpCase) -> None:
    settle(case)
    if case.step is Step.CONFIRM:
        kit.late_callback(case.ledger, case.job_id)
    case.lease = kit.claim_follow_up(case.ledger, case.job_id, case.step)
    kit.retry_follow_up(case.ledger, case.lease, case.step)
    case.due = NEXT_DUE


def leased(case: FollowUpCase) -> None:
    pending(case)
    case.lease = kit.claim_follow_up(case.ledger, case.job_id, case.step, now=NEXT_DUE)
    case.due = NEXT_DUE + LEASE


def ended(status: FollowUpStatus) -> Callable[[FollowUpCase], None]:
    def end(case: FollowUpCase) -> None:
        leased(case)
        kit.end_follow_up(case.ledger, case.lease, case.step, status)

    return end


def none(case: FollowUpCase) -> None:
    leased(case)
    case.redis.delete(*kit.every_key(case.redis))


STATES: Mapping[str, Callable[[FollowUpCase], None]] = {
    "none": none,
    "silent": settle,
    "waiting": lambda case: None,
    "pending": pending,
    "leased": leased,
    "done": ended(FollowUpStatus.DONE),
    "dead": ended(FollowUpStatus.DEAD),
    "gone": ended(FollowUpStatus.GONE),
}

# Actions -----------------------------------------------------------------------------------


def claim(case: FollowUpCase, now: int) -> None:
    case.ledger.follow_ups.claim(case.job_id, case.step, now=now, lease_ms=LEASE)


def done(case: FollowUpCase, status: FollowUpStatus) -> None:
    kit.end_follow_up(case.ledger, case.lease, case.step, status)


def archive_again(case: FollowUpCase) -> None:
    job = case.ledger.get(case.job_id) or case.lease.job
    case.ledger.follow_ups.archive_again(job, job.all_images, now=NOW)


ACTIONS: Mapping[str, Callable[[FollowUpCase], object]] = {
    "claim, due": lambda s: claim(s, s.due),
    "claim, not due": lambda s: claim(s, s.due - 1),
    "later, own lease": lambda s: kit.retry_follow_up(s.ledger, s.lease, s.step),
    "later, wrong lease": lambda s: kit.retry_follow_up(s.ledger, s.wrong_lease, s.step),
    "done, own lease": lambda s: done(s, FollowUpStatus.DONE),
    "done, wrong lease": lambda s: kit.end_follow_up(s.ledger, s.wrong_lease, s.step),
    "dead, own lease": lambda s: done(s, FollowUpStatus.DEAD),
    "gone, own lease": lambda s: done(s, FollowUpStatus.GONE),
    "notify again": lambda s: s.ledger.follow_ups.notify_again(s.job_id, now=NOW),
    "archive again": archive_again,
    "forget, old": lambda s: s.ledger.overview.forget(s.job_id, before=NOW + 1),
    "forget, young": lambda s: s.ledger.overview.forget(s.job_id, before=NOW),
}


def state(case: FollowUpCase) -> str:
    stored = kit.fields(case.redis, case.job_id)
    if not stored:
        return "none"
    if f"{case.step}.lease" in stored:
        assert stored[case.step] == "pending"
        return "leased"
    return stored.get(case.step, "silent")


def outcome_of(case: FollowUpCase) -> list[Any]:
    stored = kit.fields(case.redis, case.job_id)
    names = ("status", "error", "cost", "settled", "by", "winner", "updated", "attempt", "request")
    return [stored.get(name) for name in names]


def check(case: FollowUpCase, cell: FollowUpTransition) -> None:
    """Check that an action has the effect in the table."""
    STATES[cell.state](case)
    assert state(case) == cell.state, "the case is prepared"
    before, outcome = kit.state(case.redis), outcome_of(case)

    ACTIONS[cell.action](case)

    assert Result(case.recorder.answer[0]) is cell.result
    assert state(case) == cell.after
    kit.check_job(case.redis, case.job_id)
    kit.check_counts(case.ledger, case.redis)
    if cell.after != "none":
        assert outcome_of(case) == outcome, "the outcome is unchanged"
    if cell.after == cell.state and (cell.action, cell.state) not in EFFECTIVE:
        assert kit.state(case.redis) == before, "nothing is changed"


def applies(cell: FollowUpTransition, step: Step) -> bool:
    """Return True if a follow-up of this kind can have the state and the action."""
    if step is Step.ARCHIVE:
        return cell.state in ARCHIVE_STATES and cell.action not in NOTIFICATION_ACTIONS
    if step is Step.CONFIRM:
        return cell.state in ARCHIVE_STATES and cell.action not in {
            *NOTIFICATION_ACTIONS,
            *ARCHIVE_ACTIONS,
        }
    return cell.action not in ARCHIVE_ACTIONS or cell.state in {"waiting", "silent"}


@pytest.mark.parametrize("step", FOLLOW_UPS)
@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_has_the_effect_in_the_table_in_every_state(
    redis: Redis, action: str, step: Step
) -> None:
    for cell in transitions():
        if cell.action == action and applies(cell, step):
            try:
                check(new_case(redis, step, cell.state), cell)
            except AssertionError as error:
                error.add_note(f"in the state {cell.state}")
                raise


def test_the_table_has_one_cell_for_every_state_and_action() -> None:
    assert sorted((cell.state, cell.action) for cell in transitions()) == sorted(
        (state, action) for state in STATES for action in ACTIONS
    )


def test_the_table_has_every_status_of_a_follow_up() -> None:
    # An archive that is off is no follow-up: nothing is due.
    assert set(FollowUpStatus) - {FollowUpStatus.OFF} <= {cell.state for cell in transitions()}
    assert {cell.after for cell in transitions()} == set(STATES)


def test_the_page_has_every_state_and_every_action_once() -> None:
    assert sorted(COLUMNS) == sorted(ACTIONS)
    assert sorted(ROWS) == sorted(STATES)


def test_only_the_holder_of_the_lease_ends_a_follow_up() -> None:
    ends = {c.action for c in transitions() if c.after != c.state and c.after in ENDED}

    assert ends == {"done, own lease", "dead, own lease", "gone, own lease"}
