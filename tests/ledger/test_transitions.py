"""Every move in every state does what the table in transitions.py says, illegal ones included."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from redis import Redis

from orchestrator.jobs.model import Attempt, SettledBy, Status, Step
from orchestrator.ledger import Idempotency, Lease, Ledger, Result, keys
from tests.ledger import kit
from tests.ledger.kit import DEADLINE, FAILURE, LEASE, LOOK, NOW, REQUEST, SUCCESS, Wire
from tests.ledger.transitions import COLUMNS, ROWS, Cell, cells

ROOT = Path(__file__).resolve().parents[2]
OLDER, CURRENT, NEVER_SENT = 1, 2, 3
KEY = Idempotency("caller", "order-17")
#: What a move that is turned away may still leave: evidence, and when it came.
EVIDENCE = {"updated", "cost", "task.1", "task.2"}
#: Moves that were made, though the status stays: these change the job.
MADE = {Result.CLAIMED, Result.RUNNING, Result.UNCONFIRMED, Result.DEFERRED}


@dataclass
class Scene:
    """One job, and whoever held it last."""

    ledger: Ledger
    redis: Redis
    wire: Wire
    job_id: str
    create_again: Callable[[], object]
    lease: Lease
    #: When the next look is due (ms).
    due: int = NOW

    @property
    def wrong_lease(self) -> Lease:
        return replace(self.lease, token="another's")

    def claim(self, step: Step, now: int) -> None:
        """Take the job as it must be possible here."""
        self.lease = kit.claim(self.ledger, self.job_id, step, now=now)
        self.due = self.lease.ends_at

    def refuse(self) -> None:
        """An attempt is made, and refused for now."""
        self.claim(Step.SUBMIT, NOW)
        kit.requeue(self.ledger, self.lease, due_at=NOW)
        self.due = NOW


@pytest.fixture
def scene(wired: Ledger, redis: Redis, wire: Wire) -> Scene:
    made = wired.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=KEY)
    nobodys = replace(kit.job(wired, made.job_id), attempts=(Attempt(1, NOW),))
    create_again = wire.again
    return Scene(wired, redis, wire, made.job_id, create_again, Lease(nobodys, "nobody's", NOW))


# States ------------------------------------------------------------------------------------


def queued(scene: Scene) -> None:
    scene.refuse()
    scene.refuse()


def overdue(scene: Scene) -> None:
    queued(scene)
    scene.claim(Step.SUBMIT, DEADLINE)


def submitting(scene: Scene) -> None:
    scene.refuse()
    scene.claim(Step.SUBMIT, NOW)


def unconfirmed(scene: Scene) -> None:
    submitting(scene)
    kit.unconfirmed(scene.ledger, scene.lease)
    scene.claim(Step.SUBMIT, LOOK)


def running(scene: Scene) -> None:
    submitting(scene)
    scene.ledger.accepted(scene.job_id, CURRENT, "task-2", now=NOW, due_at=LOOK)
    scene.claim(Step.POLL, LOOK)


def succeeded(scene: Scene) -> None:
    running(scene)
    scene.ledger.settle_attempt(scene.job_id, CURRENT, "task-2", SUCCESS, now=NOW)


def failed(scene: Scene) -> None:
    running(scene)
    scene.ledger.settle_attempt(scene.job_id, CURRENT, "task-2", FAILURE, now=NOW)


def cancelled(scene: Scene) -> None:
    queued(scene)
    scene.ledger.cancel(scene.job_id, now=NOW)


def none(scene: Scene) -> None:
    submitting(scene)
    scene.redis.delete(*kit.every_key(scene.redis))


STATES: Mapping[str, Callable[[Scene], None]] = {
    "none": none,
    "new": lambda scene: None,
    "queued": queued,
    "overdue": overdue,
    "submitting": submitting,
    "unconfirmed": unconfirmed,
    "running": running,
    "succeeded": succeeded,
    "failed": failed,
    "cancelled": cancelled,
}

# Moves -------------------------------------------------------------------------------------


def create_same_key(scene: Scene) -> None:
    made = scene.ledger.create(REQUEST, now=NOW, deadline_at=DEADLINE, idempotency=KEY)
    if made.result is Result.CREATED:
        scene.job_id = made.job_id
    assert made.job_id == scene.job_id


def claim(scene: Scene, step: Step, now: int) -> None:
    scene.ledger.claim(scene.job_id, step, now=now, lease_ms=LEASE)


def accepted(scene: Scene, attempt: int, task_id: str) -> None:
    scene.ledger.accepted(scene.job_id, attempt, task_id, now=NOW, due_at=LOOK)


def observe(scene: Scene, attempt: int, task_id: str, look: int | None) -> None:
    scene.ledger.observe(scene.job_id, attempt, task_id, now=NOW, due_at=look, fallback=LOOK + 1)


MOVES: Mapping[str, Callable[[Scene], object]] = {
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
    "unconfirmed, own lease": lambda s: kit.unconfirmed(s.ledger, s.lease),
    "unconfirmed, wrong lease": lambda s: kit.unconfirmed(s.ledger, s.wrong_lease),
    "defer, own lease": lambda s: kit.defer(s.ledger, s.lease),
    "defer, wrong lease": lambda s: kit.defer(s.ledger, s.wrong_lease),
    "observe, look moved": lambda s: observe(s, CURRENT, "task-2", LOOK),
    "observe, look left": lambda s: observe(s, CURRENT, "task-2", None),
    "observe, older": lambda s: observe(s, OLDER, "task-1", LOOK),
    "observe, other task": lambda s: observe(s, CURRENT, "task-x", LOOK),
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
}


def test_the_table_has_one_cell_for_every_state_and_move() -> None:
    assert sorted((cell.state, cell.move) for cell in cells()) == sorted(
        (state, move) for state in STATES for move in MOVES
    )


def test_the_table_has_every_status() -> None:
    assert {cell.before for cell in cells()} == {None, *Status}
    assert {cell.after for cell in cells()} == {None, *Status}


def test_the_page_of_states_is_made_from_the_table() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "tests.ledger.transitions"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert (ROOT / "docs" / "states.md").read_text("utf-8") == made.stdout


def test_the_page_has_every_state_and_every_move_once() -> None:
    moves = [move for columns in COLUMNS.values() for move in columns]

    assert sorted(moves) == sorted(MOVES)
    assert sorted(ROWS) == sorted(STATES)


def test_no_move_leads_out_of_a_terminal_status() -> None:
    ended = [cell for cell in cells() if cell.before and cell.before.terminal]

    assert all(cell.after is cell.before for cell in ended)


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: f"{cell.state}: {cell.move}")
def test_a_move_has_the_result_and_leads_to_the_status_of_the_table(
    scene: Scene, cell: Cell
) -> None:
    STATES[cell.state](scene)
    assert status(scene) == cell.before, "the scene is set"
    before, look = kit.fields(scene.redis, scene.job_id), kit.due_at(scene.redis, scene.job_id)

    MOVES[cell.move](scene)

    assert Result(scene.wire.answer[0]) is cell.result
    assert status(scene) == cell.after
    kit.invariant(scene.redis, scene.job_id)
    kit.count_right(scene.ledger, scene.redis)
    if cell.after == cell.before and cell.result not in MADE:
        assert kit.due_at(scene.redis, scene.job_id) == look, "turned away: the plan stands"
        after = kit.fields(scene.redis, scene.job_id)
        changed = {k for k in {*before, *after} if before.get(k) != after.get(k)}
        assert changed <= EVIDENCE, "turned away: the job stands"


def status(scene: Scene) -> Status | None:
    stored = scene.redis.hget(keys.job(scene.job_id), "status")
    return Status(str(stored)) if stored else None
