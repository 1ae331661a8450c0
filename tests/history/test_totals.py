"""The totals of the history: each fact of a job counts once, and nothing lowers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from orchestrator.history import writer as writer_module
from orchestrator.history.entry import read_entries
from orchestrator.history.history import History
from orchestrator.history.increments import COUNTED_COLUMNS, add_increments
from orchestrator.history.recorder import fill_shard
from orchestrator.history.writer import Writer
from orchestrator.jobs.model import OUTCOME_STEPS
from orchestrator.ledger import Ledger
from orchestrator.metrics import Series, Sums
from orchestrator.metrics import definitions as metrics
from tests.history.kit import catch_up, random_run, recorder, started
from tests.ledger import kit
from tests.ledger.kit import NOW

MODEL = ("hiapi", "nano-banana-2")
#: A notification that is sent again ends again, so these depend on what the recorder has seen.
REPEATABLE = {metrics.ARCHIVE_DELAY.name, metrics.NOTIFICATION_DELAY.name}


@pytest.fixture
def sqlite(open_history: Callable[[str], History], history_url: str) -> History:
    return open_history(history_url)


def facts(history: History) -> dict[Series, object]:
    """Return the totals that depend only on the jobs."""
    totals = history.totals()
    return {s: pytest.approx(n) for s, n in totals.items() if s.metric not in REPEATABLE}


def fill(ledger: Ledger, history: History) -> None:
    for shard in range(ledger.shards):
        for _ in fill_shard(ledger, history, shard, Writer()):
            pass


def finish(ledger: Ledger) -> str:
    """Make a job with an archive and a notification that took 3 seconds."""
    job_id = kit.settled(ledger)
    for step in OUTCOME_STEPS:
        kit.finish_follow_up(ledger, job_id, step, now=NOW + 3000)
    return job_id


def test_after_any_run_the_totals_equal_those_of_the_jobs(
    shared_ledger: Ledger,
    history: History,
    open_history: Callable[[str], History],
    history_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorders = [started(shared_ledger, history), recorder(shared_ledger, history)]
    ids = [kit.create(shared_ledger, kit.NOTIFYING) for _ in range(8)]
    run = random_run(shared_ledger, ids, seed=16, steps=30)
    real = writer_module._upsert

    def broken(*_: object) -> None:
        raise KeyError("killed after the totals were added")

    for number in range(12):
        run()
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "_upsert", broken if number % 3 == 0 else real)
            try:
                recorders[number % 2].record()
            except KeyError:
                assert number % 3 == 0
    for each in recorders:
        catch_up(each)
    fill(shared_ledger, history)  # reads every job once more
    other = open_history(f"{history_url}.other")
    other.database.migrate()
    fill(shared_ledger, other)

    assert len(facts(history)) > 10, "the run did something"
    assert facts(history) == facts(other)


def test_the_totals_of_one_job(shared_ledger: Ledger, sqlite: History) -> None:
    made = started(shared_ledger, sqlite)
    finish(shared_ledger)
    catch_up(made)

    def one(definition: metrics.Definition, *labels: str, part: str = "") -> tuple[Series, float]:
        return Series.of(definition, *labels, part=part), 1.0

    totals = sqlite.totals()
    sums = {series: totals.pop(series) for series in list(totals) if series.part == "sum"}
    assert totals == dict(
        [
            one(metrics.JOBS_CREATED, *MODEL),
            one(metrics.ATTEMPTS, *MODEL),
            one(metrics.JOBS_SETTLED, *MODEL, "succeeded", ""),
            one(metrics.OUTCOMES, "hiapi", "succeeded", "callback"),
            one(metrics.IMAGES, *MODEL),
            one(metrics.IMAGES_ARCHIVED, "hiapi"),
            one(metrics.QUEUE_WAIT, *MODEL, part="1.0"),
            one(metrics.SUBMIT_TO_OUTCOME, *MODEL, "succeeded", part="1.0"),
            one(metrics.END_TO_END, *MODEL, "succeeded", part="1.0"),
            one(metrics.ARCHIVE_DELAY, "hiapi", "done", part="5.0"),
            one(metrics.NOTIFICATION_DELAY, "done", part="5.0"),
            (Series.of(metrics.COST, "hiapi", "credits", "reported"), 1.6),
        ]
    )
    assert sums[Series.of(metrics.ARCHIVE_DELAY, "hiapi", "done", part="sum")] == 3.0


def test_a_failure_has_its_code_and_an_unknown_model_is_other(
    shared_ledger: Ledger, sqlite: History
) -> None:
    strange = replace(kit.REQUEST, model="x" * 300, native={"model": "x" * 300, "prompt": "a"})
    made = started(shared_ledger, sqlite)
    kit.settled(shared_ledger, kit.FAILURE, strange)
    catch_up(made)

    totals = sqlite.totals()
    labels = ("hiapi", "other", "failed", "content_policy")
    assert totals[Series.of(metrics.JOBS_SETTLED, *labels)] == 1
    assert totals[Series.of(metrics.COST_UNKNOWN, "hiapi")] == 1
    assert not any("xxx" in series.stored() for series in totals)


def test_deleting_jobs_lowers_no_total(shared_ledger: Ledger, sqlite: History) -> None:
    made = started(shared_ledger, sqlite)
    job_id = finish(shared_ledger)
    catch_up(made)
    before = sqlite.totals()

    assert sum(sqlite.prune(before=NOW + kit.DAY)) == 1

    assert sqlite.get(job_id) is None
    assert sqlite.totals() == before


def test_a_cost_that_grew_adds_only_the_difference(shared_ledger: Ledger) -> None:
    job_id = kit.settled(shared_ledger)  # it costs 1.6 credits
    (entry,) = read_entries(shared_ledger, [job_id])
    row = {name: entry.row()[name] for name in COUNTED_COLUMNS}
    sums = Sums()

    add_increments(sums, entry.job, entry.row(), SimpleNamespace(**row))
    add_increments(sums, entry.job, entry.row(), SimpleNamespace(**{**row, "cost_amount": 1.0}))
    add_increments(sums, entry.job, entry.row(), SimpleNamespace(**{**row, "cost_amount": 2.0}))

    cost = Series.of(metrics.COST, "hiapi", "credits", "reported")
    assert sums == {cost: pytest.approx(0.6)}
