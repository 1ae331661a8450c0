"""Every move in every state of a follow-up does what the table in follow_transitions.py says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import Lease, Ledger, Result
from tests.ledger import kit
from tests.ledger.follow_transitions import COLUMNS, MADE, ROWS, Cell, cells
from tests.ledger.kit import FAILURE, LEASE, LOOK, NOTIFYING, NOW, REQUEST, SUCCESS, Wire

#: The states that an archive can be in too, and the moves that are made with it.
OF_BOTH = {"none", "pending", "leased", "done", "dead"}
NOT_OF_ARCHIVES = {"notify again", "refused, own lease"}


@dataclass
class Scene:
    """A job, one of its follow-ups, and whoever held that last."""

    ledger: Ledger
    redis: Redis
    wire: Wire
    step: Step
    job_id: str
    lease: Lease
    #: When it is due (ms).
    due: int = NOW

    @property
    def wrong_lease(self) -> Lease:
        return replace(self.lease, token="another's")


def begun(ledger: Ledger, redis: Redis, wire: Wire, step: Step, job_id: str) -> Scene:
    return Scene(ledger, redis, wire, step, job_id, Lease(kit.job(ledger, job_id), "nobody's", NOW))


# States ------------------------------------------------------------------------------------


def settle(scene: Scene) -> None:
    """Only the follow-up that is looked at is left to do."""
    kit.claim(scene.ledger, scene.job_id)
    outcome = SUCCESS if scene.step is Step.ARCHIVE else FAILURE
    scene.ledger.settle_attempt(scene.job_id, 1, "task-1", outcome, now=NOW)


def pending(scene: Scene) -> None:
    settle(scene)
    scene.lease = kit.follow(scene.ledger, scene.job_id, scene.step)
    kit.later(scene.ledger, scene.lease, scene.step)
    scene.due = LOOK


def leased(scene: Scene) -> None:
    pending(scene)
    scene.lease = kit.follow(scene.ledger, scene.job_id, scene.step, now=LOOK)
    scene.due = LOOK + LEASE


def ended(status: FollowUpStatus) -> Callable[[Scene], None]:
    def end(scene: Scene) -> None:
        leased(scene)
        kit.done(scene.ledger, scene.lease, scene.step, status)

    return end


def none(scene: Scene) -> None:
    leased(scene)
    scene.redis.delete(*kit.every_key(scene.redis))


STATES: Mapping[str, Callable[[Scene], None]] = {
    "none": none,
    "silent": settle,
    "waiting": lambda scene: None,
    "pending": pending,
    "leased": leased,
    "done": ended(FollowUpStatus.DONE),
    "dead": ended(FollowUpStatus.DEAD),
    "gone": ended(FollowUpStatus.GONE),
}

# Moves -------------------------------------------------------------------------------------


def claim(scene: Scene, now: int) -> None:
    scene.ledger.follow_ups.claim(scene.job_id, scene.step, now=now, lease_ms=LEASE)


def done(scene: Scene, status: FollowUpStatus) -> None:
    kit.done(scene.ledger, scene.lease, scene.step, status)


MOVES: Mapping[str, Callable[[Scene], object]] = {
    "claim, due": lambda s: claim(s, s.due),
    "claim, not due": lambda s: claim(s, s.due - 1),
    "later, own lease": lambda s: kit.later(s.ledger, s.lease, s.step),
    "later, wrong lease": lambda s: kit.later(s.ledger, s.wrong_lease, s.step),
    "done, own lease": lambda s: done(s, FollowUpStatus.DONE),
    "done, wrong lease": lambda s: kit.done(s.ledger, s.wrong_lease, s.step),
    "given up, own lease": lambda s: done(s, FollowUpStatus.DEAD),
    "refused, own lease": lambda s: done(s, FollowUpStatus.GONE),
    "notify again": lambda s: s.ledger.follow_ups.notify_again(s.job_id, now=NOW),
    "forget, old": lambda s: s.ledger.overview.forget(s.job_id, before=NOW + 1),
    "forget, young": lambda s: s.ledger.overview.forget(s.job_id, before=NOW),
}


def test_the_table_has_one_cell_for_every_state_and_move() -> None:
    assert sorted((cell.state, cell.move) for cell in cells()) == sorted(
        (state, move) for state in STATES for move in MOVES
    )


def test_the_table_has_every_status_of_a_follow_up() -> None:
    assert set(FollowUpStatus) <= {cell.state for cell in cells()}
    assert {cell.after for cell in cells()} == set(STATES)


def test_the_page_has_every_state_and_every_move_once() -> None:
    assert sorted(COLUMNS) == sorted(MOVES)
    assert sorted(ROWS) == sorted(STATES)


def test_only_a_worker_that_holds_it_ends_a_follow_up() -> None:
    ends = {cell.move for cell in cells() if cell.after != cell.state and cell.after in OVER}

    assert ends == {"done, own lease", "given up, own lease", "refused, own lease"}


OVER = {"done", "dead", "gone"}
ARCHIVES = [c for c in cells() if c.state in OF_BOTH and c.move not in NOT_OF_ARCHIVES]


def named(cell: Cell) -> str:
    return f"{cell.state}: {cell.move}"


@pytest.mark.parametrize("cell", cells(), ids=named)
def test_a_move_on_a_notification_has_the_result_and_leads_to_the_state_of_the_table(
    wired: Ledger, redis: Redis, wire: Wire, cell: Cell
) -> None:
    job_id = kit.create(wired, REQUEST if cell.state == "silent" else NOTIFYING)

    moved(begun(wired, redis, wire, Step.NOTIFY, job_id), cell)


@pytest.mark.parametrize("cell", ARCHIVES, ids=named)
def test_a_move_on_an_archive_has_the_result_and_leads_to_the_state_of_the_table(
    wired: Ledger, redis: Redis, wire: Wire, cell: Cell
) -> None:
    moved(begun(wired, redis, wire, Step.ARCHIVE, kit.create(wired)), cell)


def moved(scene: Scene, cell: Cell) -> None:
    STATES[cell.state](scene)
    assert state(scene) == cell.state, "the scene is set"
    before, outcome = kit.everything(scene.redis), outcome_of(scene)

    MOVES[cell.move](scene)

    assert Result(scene.wire.answer[0]) is cell.result
    assert state(scene) == cell.after
    kit.invariant(scene.redis, scene.job_id)
    kit.count_right(scene.ledger, scene.redis)
    if cell.after != "none":
        assert outcome_of(scene) == outcome, "what follows leaves the outcome alone"
    if cell.after == cell.state and (cell.move, cell.state) not in MADE:
        assert kit.everything(scene.redis) == before, "turned away: nothing is changed"


def state(scene: Scene) -> str:
    stored = kit.fields(scene.redis, scene.job_id)
    if not stored:
        return "none"
    if f"{scene.step}.lease" in stored:
        assert stored[scene.step] == "pending"
        return "leased"
    return stored.get(scene.step, "silent")


def outcome_of(scene: Scene) -> list[Any]:
    stored = kit.fields(scene.redis, scene.job_id)
    names = ("status", "error", "cost", "settled", "by", "winner", "updated", "attempt", "request")
    return [stored.get(name) for name in names]
