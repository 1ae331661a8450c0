"""The plan is the seed's, and nothing else's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.providers import BUILT_IN
from sandbox.catalogue import CATALOGUE
from sandbox.inbox_faults import read_inbox_fault
from sandbox.script import read_script
from tests.chaos.__main__ import main
from tests.chaos.faults import FAULTS
from tests.chaos.plan import (
    AIMS,
    INBOX,
    REDIS,
    REQUESTS,
    TROUBLES,
    VICTIMS,
    plan,
    write_faults,
)
from tests.support.cases import for_each


def test_the_same_seed_draws_the_same_plan() -> None:
    assert plan(seed=7, jobs=50, minutes=1) == plan(seed=7, jobs=50, minutes=1)


def test_another_seed_draws_other_jobs_and_other_kills() -> None:
    one, other = (plan(seed=seed, jobs=50, minutes=1) for seed in (7, 8))
    assert one.orders != other.orders
    assert one.blows != other.blows


def test_every_provider_gets_its_share() -> None:
    orders = plan(seed=7, jobs=20 * len(BUILT_IN), minutes=1).orders
    assert Counter(order.provider for order in orders) == dict.fromkeys(BUILT_IN, 20)
    assert REQUESTS.keys() == BUILT_IN.keys()


def test_keys_and_prompts_are_each_job_s_own() -> None:
    orders = plan(seed=7, jobs=80, minutes=1).orders
    assert len({order.key for order in orders}) == len({order.prompt for order in orders}) == 80


@for_each("seed", range(20))
def test_everybody_is_killed_in_turn_and_redis_as_often_as_asked(seed: int) -> None:
    kills = Counter(blow.victim for blow in plan(seed=seed, jobs=1, minutes=1).blows)
    assert kills[REDIS] == 2
    assert kills.keys() == {*VICTIMS, REDIS}
    assert max(kills[name] for name in VICTIMS) - min(kills[name] for name in VICTIMS) <= 1


def test_workers_die_at_each_of_their_tasks_in_turn() -> None:
    blows = plan(seed=7, jobs=1, minutes=2).blows
    aimed = [blow for blow in blows if blow.victim == "worker"]
    assert [blow.aim for blow in aimed[:6]] == [*AIMS, *AIMS]
    assert all(0 <= blow.linger <= AIMS[blow.aim] for blow in aimed)
    assert {blow.aim for blow in blows if blow.victim != "worker"} == {""}


def test_callers_with_trouble_have_it_for_themselves() -> None:
    orders = plan(seed=7, jobs=500, minutes=1).orders
    troubled = [order for order in orders if order.trouble]
    assert {order.inbox for order in orders if not order.trouble} == {INBOX}
    assert len({order.inbox for order in troubled} - {INBOX}) == len(troubled)
    share = sum(share for share, _ in TROUBLES)
    assert len(troubled) == pytest.approx(share * len(orders), rel=0.5)


@pytest.mark.parametrize("trouble", [trouble for _, trouble in TROUBLES])
def test_the_sandbox_takes_each_trouble(trouble: dict[str, object]) -> None:
    fault = read_inbox_fault({**trouble, "times": 1})
    assert fault.times == 1
    drawn = [order.trouble for order in plan(seed=7, jobs=500, minutes=1).orders]
    assert trouble in drawn


def test_redis_alone_can_be_killed() -> None:
    blows = plan(seed=7, jobs=1, minutes=1, redis_kills=3, victims=()).blows
    assert [blow.victim for blow in blows] == [REDIS] * 3


def test_the_sandbox_takes_the_fault_script(tmp_path: Path) -> None:
    rules = read_script(write_faults(tmp_path))
    assert [f"{rule.share:g}%" for rule in rules] == [share for share, _ in FAULTS]


def test_the_fault_script_has_every_kind_of_fault() -> None:
    drawn = {name for _, faults in FAULTS for name in faults}
    #: They refuse whole accounts, or hide tasks for ever. Other tests hold the product to these.
    left_out = {"400", "401", "402", "403", "late", "cancelled", "forget", "placeholder_image"}
    assert drawn == CATALOGUE.keys() - left_out


def test_the_command_that_repeats_a_run_is_one_that_it_takes() -> None:
    drawn = plan(seed=7, jobs=50, minutes=0.5, every=2, redis_kills=3, deadline=20)
    words = drawn.command.split()
    assert words[:3] == ["python", "-m", "tests.chaos"]
    with main.make_context("chaos", words[3:]) as context:
        given = {**context.params}
    assert {given.pop("keep"), given.pop("json_")} == {False}
    assert plan(**given) == drawn


def test_help_says_how_to_repeat_a_run() -> None:
    told = CliRunner().invoke(main, ["--help"])
    assert told.exit_code == 0
    assert "seed 7 again" in told.output
