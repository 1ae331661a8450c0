"""The short form of the chaos test; `make chaos` has the long one. See docs/chaos.md."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.chaos.judge import PROMISES
from tests.chaos.plan import REDIS, VICTIMS, plan
from tests.chaos.report import report
from tests.chaos.run import ChaosRun, RunResult

#: With it each provider has submissions that nobody answers, and each fault hits somebody. Another
#: one by the environment, to look for trouble or to repeat it.
SEED = int(os.environ.get("CHAOS_SEED", "39"))


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """web, worker, beat and Redis die in turn while jobs come in."""
    wanted = plan(seed=SEED, jobs=105, minutes=0.15, every=1.5, deadline=20)
    return ChaosRun(wanted, tmp_path_factory.mktemp("chaos"), hurried=True).play()


def breaches(result: RunResult, promise: str) -> list[dict[str, Any]]:
    """Whose promise was not kept, with its timeline and its provider's view."""
    return [breach for breach in report(result)["breaches"] if breach["promise"] == promise]


@pytest.mark.parametrize("promise", PROMISES)
def test_whatever_dies_and_errs_the_promise_is_kept(chaos: RunResult, promise: str) -> None:
    assert breaches(chaos, promise) == [], PROMISES[promise]


def test_everything_was_killed(chaos: RunResult) -> None:
    assert chaos.kills.keys() == {*VICTIMS, REDIS}
    assert chaos.kills[REDIS] == 2
