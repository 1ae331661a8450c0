"""What a page costs: commands of Redis, statements of SQL and renderings, never times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import render_template
from redis import Redis
from redis.client import Pipeline

from orchestrator.clock import DAY_MS
from orchestrator.dashboard import recent
from orchestrator.history.history import History
from tests.api.conftest import ADMIN_KEY, KEY
from tests.dashboard.visitor import Visitor
from tests.operations.test_usage import record
from tests.support import job_states
from tests.support.fakes import Harness

#: The commands of an unchanged live part: the session, and the newest change of each kind.
UNCHANGED = ("HGETALL", "GET", "XREVRANGE", "XREVRANGE", "XREVRANGE")
PAGES = ("/", "/jobs", "/deliveries")


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Iterator[Harness]:
    history = History(f"sqlite:///{tmp_path}/history/history.db")
    made = start()
    made = made.with_runtime(open_history=lambda: history)
    record(made)
    yield made
    history.close()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands of Redis. Those of a pipeline are written in one line."""
    sent: list[str] = []
    single: Any = Redis.execute_command
    several: Any = Pipeline.execute

    def execute_command(client: Redis, *args: Any, **options: Any) -> Any:
        sent.append(str(args[0]))
        return single(client, *args, **options)

    def execute(pipe: Pipeline, *args: Any, **options: Any) -> Any:
        sent.append(" ".join(str(call[0][0]) for call in pipe.command_stack))
        return several(pipe, *args, **options)

    monkeypatch.setattr(Redis, "execute_command", execute_command)
    monkeypatch.setattr(Pipeline, "execute", execute)
    return sent


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the templates that were rendered."""
    names: list[str] = []

    def noted(name: Any, **context: Any) -> str:
        names.append(name[0])
        return render_template(name, **context)

    monkeypatch.setattr("orchestrator.dashboard.views.render_template", noted)
    return names


@pytest.mark.parametrize("page", PAGES)
def test_an_unchanged_part_costs_one_round_trip(
    harness: Harness, commands: list[str], page: str
) -> None:
    job_states.ended(harness)
    visit = Visitor(harness, own=True).signed_in()
    tag = visit.live(page).headers["ETag"]
    commands.clear()

    assert visit.live(page, tag).status_code == 304
    assert commands == [" ".join(UNCHANGED)]


@pytest.mark.parametrize("page", PAGES)
def test_a_part_is_made_once_for_all_pages_of_a_key(
    harness: Harness, rendered: list[str], page: str
) -> None:
    job_states.ended(harness)
    first = Visitor(harness, own=True).signed_in()
    second = first.other(ADMIN_KEY)
    one, rendered[:] = first.live(page), []
    other = second.live(page)

    assert rendered == []
    assert second.live(page, one.headers["ETag"]).status_code == 200  # its forms differ
    assert second.live(page, other.headers["ETag"]).status_code == 304
    mine, others = first.csrf(), second.csrf()
    assert mine not in other.text
    assert one.text.count(mine) == other.text.count(others)
    nonce = re.search("'nonce-(.*?)'", other.headers["Content-Security-Policy"])
    assert nonce
    assert set(re.findall('hx-nonce="(.*?)"', other.text)) <= {nonce[1]}


def test_another_key_gets_a_part_of_its_own(harness: Harness, rendered: list[str]) -> None:
    job_states.ended(harness, tenant="other")
    visitor = Visitor(harness, own=True).signed_in()
    seen_by_all = visitor.live("/jobs").text
    rendered.clear()

    own = visitor.other(KEY).live("/jobs").text
    assert rendered == ["jobs.live.html"]
    assert "other" in seen_by_all
    assert "other" not in own


def test_a_change_shows_in_the_next_part(harness: Harness) -> None:
    visit = Visitor(harness, own=True).signed_in()
    visit.live("/jobs")
    job_id = job_states.running(harness)
    assert job_id in visit.live("/jobs").text


def test_the_audit_log_does_not_change_with_jobs(harness: Harness) -> None:
    visit = Visitor(harness, own=True).signed_in()
    tag = visit.live("/audit").headers["ETag"]
    job_states.running(harness)
    assert visit.live("/audit", tag).status_code == 304

    harness.runtime.audit("tester", "cancel", "job")
    assert visit.live("/audit", tag).status_code == 200


@pytest.mark.parametrize("page", ["/", "/?span=month", "/system"])
def test_the_commands_of_a_page_do_not_grow_with_the_jobs(
    harness: Harness, commands: list[str], page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "MIN_AGE_SECONDS", 0.0)
    monkeypatch.setattr(recent, "AGE_PER_COST", 0.0)
    visit = Visitor(harness, own=True).signed_in()

    def cost() -> int:
        harness.clock.now += 3_600_000
        commands.clear()
        visit.live(page)
        return len(" ".join(commands).split())

    job_states.unconfirmed(harness)
    cost()  # the first page loads scripts
    few = cost()
    for _ in range(9):
        job_states.unconfirmed(harness)
    assert cost() == few


def test_days_and_intervals_that_ended_are_read_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_states.ended(harness)
    record(harness)
    visit = Visitor(harness, own=True).signed_in()
    reads: list[tuple[str, int]] = []
    for name in ("cost_sums", "count_jobs"):
        original = getattr(History, name)

        def noted(*args: Any, name: str = name, original: Any = original) -> Any:
            query = args[1]
            reads.append((name, query.before - query.after))
            return original(*args)

        monkeypatch.setattr(History, name, noted)
    monkeypatch.setattr(recent, "MIN_AGE_SECONDS", 0.0)
    monkeypatch.setattr(recent, "AGE_PER_COST", 0.0)

    for _ in range(2):
        visit.text("/money?days=90")
        visit.text("/?span=month")
    for name, least_ms in (("cost_sums", 89 * DAY_MS), ("count_jobs", 29 * DAY_MS)):
        lengths = [length for each, length in reads if each == name]
        assert lengths[0] > least_ms
        assert max(lengths[1:]) <= DAY_MS
