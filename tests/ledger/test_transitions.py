"""Every action in every state has the effect in the table of transitions.py."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from orchestrator.jobs.model import Attempt, SettledBy, Status, Step
from orchestrator.jobs.request import JobRequest
from orchestrator.ledger import Idempotency, Lease, Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, LEASE, MOVING, NEXT_DUE, NOW, REQUEST, SUCCESS
from tests.ledger.recording import RecordingClient
from tests.ledger.transitions import COLUMNS, ROWS, Transition, transitions

ROOT = Path(__file__).resolve().parents[2]
OLDER, CURRENT, NEVER_SENT = 1, 2, 3
KEY = Idempotency("caller", "order-17")
#: Fields that a recorded action may change: evidence, and its time.
EVIDENCE = {"updated", "cost", "task.1", "task.2"}
#: Results of actions that change the job although its status stays the same.
EFFECTIVE = {
    *(Result.CLAIMED, Result.RUNNING, Result.UNCONFIRMED),
    *(Result.DEFERRED, Result.LATE, Result.UNPROVEN, Result.MOVED),
}


@dataclass
class TransitionCase:
    """A job, and the last lease on it."""

    ledger: Ledger
    redis: Redis
    recorder: RecordingClient
    job_id: str
    create_again: Callable[[], object]
    lease: Lease
    #: When the job is due (ms).
    due: int = NOW

    @property
    def wrong_lease(self) -> Lease:
        return replace(self.lease, token="wrong token")

    def claim(self, step: Step, now: int) -> None:
        self.lease = kit.claim(self.ledger, self.job_id, step, now=now)
        self.due = self.lease.ends_at

    def refuse(self) -> None:
        """Make an attempt that the provider refuses for now."""
        self.claim(Step.SUBMIT, NOW)
        kit.requeue(self.ledger, self.lease, due_at=NOW)
        self.due = NOW


def new_case(redis: Redis, request: JobRequest = REQUEST) -> TransitionCase:
    """Create a queued job in an empty Redis."""
    redis.flushdb()
    recorder = RecordingClient(redis)
    ledger = Ledger(lambda: cast(Redis, recorder))
    created = ledger.create(request, now=NOW, deadline_at=DEADLINE, idempotency=KEY)
    job = replace(kit.job(ledger, created.job_id), attempts=(Attempt(1, NOW),))
    lease = Lease(job, "not a lease", NOW)
    return TransitionCase(ledger, redis, recorder, created.job_id, recorder.repeat, lease)


# States ------------------------------------------------------------------------------------


def queued(case: TransitionCase) -> None:
    case.refuse()
    case.refuse()


def overdue(case: TransitionCase) -> None:
    queued(case)
    case.claim(Step.SUBMIT, DEADLINE)


def submitting(case: TransitionCase) -> None:
    case.refuse()
    case.claim(Step.SUBMIT, NOW)


def unconfirmed(case: TransitionCase) -> None:
    submitting(case)
    kit.unconfirmed(case.ledger, case.lease)
    case.claim(Step.SUBMIT, NEXT_DUE)


def running(case: TransitionCase) -> None:
    submitting(case)
    case.ledger.accepted(case.job_id, CURRENT, "task-2", now=NOW, due_at=NEXT_DUE)
    case.claim(Step.POLL, NEXT_DUE)


def succeeded(case: TransitionCase) -> None:
    running(case)
    case.ledger.settle_attempt(case.job_id, CURRENT, "task-2", SUCCESS, now=NOW)


def failed(case: TransitionCase) -> None:
    running(case)
    case.ledger.settle_attempt(case.job_id, CURRENT, "task-2", FAILURE, now=NOW)


def cancelled(case: TransitionCase) -> None:
    queued(case)
    case.ledger.cancel(case.job_id, now=NOW)


def none(case: TransitionCase) -> None:
    submitting(case)
    case.redis.delete(*kit.every_key(case.redis))


STATES: Mapping[str, Callable[[TransitionCase], None]] = {
    "none": none,
    "new": lambda case: None,
    "queued": queued,
    "overdue": overdue,
    "submitting": submitting,
    "unconfirmed": unconfirmed,
    "running": running,
    "succeeded": succeeded,
    "failed": failed,
    "cancelled": cancelled,
}

# Actions -----------------------------------------------------------------------------------


def create_same_key(case: TransitionCase) -> None:
    created = case.ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=KEY)
    if created.result is Result.CREATED:
        case.job_id = created.job_id
    assert created.job_id == case.job_id


def claim(case: TransitionCase, step: Step, now: int) -> None:
    case.ledger.claim(case.job_id, step, now=now, lease_ms=LEASE)


def accepted(case: TransitionCase, attempt: int, task_id: str) -> None:
    case.ledger.accepted(case.job_id, attempt, task_id, now=NOW, due_at=NEXT_DUE)


def observe(
    case: TransitionCase,
    attempt: int,
    task_id: str,
    due_at: int | None,
    *,
    may_have_images: bool = False,
) -> None:
    case.ledger.observe(
        case.job_id,
        attempt,
        task_id,
        now=NOW,
        due_at=due_at,
        fallback=NEXT_DUE + 1,
        may_have_images=may_have_images,
    )


def move_from_paused(case: TransitionCase) -> None:
    case.ledger.admission.pause("hiapi", by="cli", now=NOW)
    claim(case, Step.SUBMIT, case.due)


ACTIONS: Mapping[str, Callable[[TransitionCase], object]] = {
    "create, call repeated": lambda s: s.create_again(),
    "create, same key": create_same_key,
    "claim submit, due": lambda s: claim(s, Step.SUBMIT, s.due),
    "claim submit, not due": lambda s: claim(s, Step.SUBMIT, s.due - 1),
    "claim poll, due": lambda s: claim(s, Step.POLL, s.due),
    "claim poll, not due": lambda s: claim(s, Step.POLL, s.due - 1),
    "accepted, current": lambda s: accepted(s, CURRENT, "task-2"),
    "accepted, older": lambda s: accepted(s, OLDER, "task-1"),
    "accepted, other task": lambda s: accepted(s, CURRENT, "task-x"),
    "accepted, never sent": lambda s: accepted(s, NEVER_SENT, "task-3"),
    "requeue, own lease": lambda s: kit.requeue(s.ledger, s.lease),
    "requeue, wrong lease": lambda s: kit.requeue(s.ledger, s.wrong_lease),
    "move, refused": lambda s: kit.refuse(s.ledger, s.lease),
    "move, provider paused": move_from_paused,
    "unconfirmed, own lease": lambda s: kit.unconfirmed(s.ledger, s.lease),
    "unconfirmed, wrong lease": lambda s: kit.unconfirmed(s.ledger, s.wrong_lease),
    "defer, own lease": lambda s: kit.defer(s.ledger, s.lease),
    "defer, wrong lease": lambda s: kit.defer(s.ledger, s.wrong_lease),
    "observe, due changed": lambda s: observe(s, CURRENT, "task-2", NEXT_DUE),
    "observe, due unchanged": lambda s: observe(s, CURRENT, "task-2", None),
    "observe, older": lambda s: observe(s, OLDER, "task-1", NEXT_DUE),
    "observe, other task": lambda s: observe(s, CURRENT, "task-x", NEXT_DUE),
    "observe, images": lambda s: observe(s, CURRENT, "task-2", NEXT_DUE, may_have_images=True),
    "observe, images, older": lambda s: observe(s, OLDER, "task-1", NEXT_DUE, may_have_images=True),
    "callback success": lambda s: s.ledger.settle_attempt(
        s.job_id, CURRENT, "task-2", SUCCESS, now=NOW
    ),
    "callback failure": lambda s: s.ledger.settle_attempt(
        s.job_id, CURRENT, "task-2", FAILURE, now=NOW
    ),
    "callback success, older": lambda s: s.ledger.settle_attempt(
        s.job_id, OLDER, "task-1", SUCCESS, now=NOW
    ),
    "callback failure, older": lambda s: s.ledger.settle_attempt(
        s.job_id, OLDER, "task-1", FAILURE, now=NOW
    ),
    "callback, other task": lambda s: s.ledger.settle_attempt(
        s.job_id, CURRENT, "task-x", SUCCESS, now=NOW
    ),
    "settle success, own lease": lambda s: s.ledger.settle(
        s.lease, SUCCESS, SettledBy.POLL, now=NOW
    ),
    "settle success, wrong lease": lambda s: s.ledger.settle(
        s.wrong_lease, SUCCESS, SettledBy.POLL, now=NOW
    ),
    "settle failure, own lease": lambda s: s.ledger.settle(
        s.lease, FAILURE, SettledBy.POLL, now=NOW
    ),
    "settle failure, wrong lease": lambda s: s.ledger.settle(
        s.wrong_lease, FAILURE, SettledBy.POLL, now=NOW
    ),
    "cancel": lambda s: s.ledger.cancel(s.job_id, now=NOW),
    "poll now": lambda s: s.ledger.agenda.poll_now(s.job_id, now=NOW, interval_ms=1),
}


def status(case: TransitionCase) -> Status | None:
    stored = case.redis.hget(keys.job(case.job_id), "status")
    return Status(str(stored)) if stored else None


def check(case: TransitionCase, cell: Transition) -> None:
    """Check that an action has the effect in the table."""
    STATES[cell.state](case)
    assert status(case) == cell.before, "the case is prepared"
    before, due_at = kit.fields(case.redis, case.job_id), kit.due_at(case.redis, case.job_id)

    ACTIONS[cell.action](case)

    assert Result(case.recorder.answer[0]) is cell.result
    assert status(case) == cell.after
    kit.check_job(case.redis, case.job_id)
    kit.check_counts(case.ledger, case.redis)
    if cell.after == cell.before and cell.result not in EFFECTIVE:
        assert kit.due_at(case.redis, case.job_id) == due_at, "the due time is unchanged"
        after = kit.fields(case.redis, case.job_id)
        changed = {k for k in {*before, *after} if before.get(k) != after.get(k)}
        assert changed <= EVIDENCE, "the job is unchanged"


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_has_the_effect_in_the_table_in_every_state(redis: Redis, action: str) -> None:
    for cell in transitions():
        if cell.action == action:
            try:
                check(new_case(redis, MOVING if "move" in action else REQUEST), cell)
            except AssertionError as error:
                error.add_note(f"in the state {cell.state}")
                raise


def test_the_table_has_one_cell_for_every_state_and_action() -> None:
    assert sorted((cell.state, cell.action) for cell in transitions()) == sorted(
        (state, action) for state in STATES for action in ACTIONS
    )


def test_the_table_has_every_status() -> None:
    assert {cell.before for cell in transitions()} == {None, *Status}
    assert {cell.after for cell in transitions()} == {None, *Status}


def test_no_action_changes_a_terminal_status() -> None:
    terminal = [cell for cell in transitions() if cell.before and cell.before.terminal]

    assert all(cell.after is cell.before for cell in terminal)


def test_the_page_of_states_is_generated_from_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "tests" / "ledger" / "transitions.py"), run_name="__main__")

    assert (ROOT / "docs" / "states.md").read_text("utf-8") == capsys.readouterr().out


def test_the_page_has_every_state_and_every_action_once() -> None:
    columns = [action for section in COLUMNS.values() for action in section]

    assert sorted(columns) == sorted(ACTIONS)
    assert sorted(ROWS) == sorted(STATES)
