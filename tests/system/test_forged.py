"""Thousands of forged callbacks while real jobs run: the real ones settle, and nothing else."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from benchmarks.forged import AttackTarget, attack
from benchmarks.processes import wait_for
from orchestrator.ledger import Ledger
from orchestrator.log import MAX_LINES_PER_SECOND
from tests.system.conftest import Client, UnpolledStack
from tests.system.rack import Rack, settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

FORGED, JOBS = 2000, 20
#: What the web processes may grow by. MiB.
GROWTH = 50


@pytest.fixture
def rack(unpolled: UnpolledStack, monkeypatch: pytest.MonkeyPatch) -> Rack:
    return Rack(unpolled.stack, settings(unpolled.stack.env, monkeypatch))


def test_forged_callbacks_change_nothing_and_real_ones_are_unhurt(rack: Rack) -> None:
    client, target = Client(rack.stack), AttackTarget(rack.stack, rack.settings)
    ledger = Ledger.from_url(rack.stack.env["ORCHESTRATOR_REDIS_URL"])
    victim = rack.running()
    before, untouched = ledger.events(victim), ledger.get(victim)
    forgeries = target.forgeries(victim)
    attack(rack.port, forgeries, 500)
    memory, lines = target.memory(), target.log_lines()

    with ThreadPoolExecutor(10) as pool:
        came = pool.submit(attack, rack.port, forgeries, FORGED)
        providers = ["hiapi", "evolink"] * (JOBS // 2)
        jobs = list(pool.map(lambda p: client.enqueue(p, str(uuid4())), providers))
        outcomes = list(pool.map(client.outcome, jobs))
        result = came.result()

    assert {(one["status"], one["settled_by"]) for one in outcomes} == {("succeeded", "callback")}
    assert set(result.statuses) == {404}
    assert sum(result.statuses.values()) == FORGED
    assert (ledger.events(victim), ledger.get(victim)) == (before, untouched)
    assert ledger.rejected.page(1) == []
    assert target.memory() < memory + GROWTH
    assert target.log_lines() - lines < allowed(FORGED / result.rate)
    # A second later, a line has the number of those without a line.
    wait_for("the number", lambda: "callback_refused_unlogged" in rack.stack.log("web"))


def allowed(seconds: float) -> float:
    """Lines of two processes: a few each second and a number, and one for each real callback."""
    return 2 * (MAX_LINES_PER_SECOND + 1) * (seconds + 2) + 3 * JOBS
