"""The usage report: its figures equal a plain loop over the jobs, in the API and on the console."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.history import HistoryUnavailable
from orchestrator.history.recorder import Recorder
from orchestrator.history.usage import DIMENSIONS
from orchestrator.jobs.model import Cost, Image, Job, Outcome, SettledBy, Status
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.jobs.views import cost_view
from orchestrator.jsonio import rfc3339
from orchestrator.operations.usage import FIGURES, as_csv, usage_report
from tests.api.conftest import KEY, Api
from tests.cli.test_access import json_of, run
from tests.history.kit import with_history
from tests.support import job_states
from tests.support.fakes import Harness, use_runtime
from tests.support.web import WebApp

PICTURES = (Image("https://images.example/0.png"), Image("https://images.example/1.png"))
DAY_SECONDS = 86_400


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Iterator[Harness]:
    """A harness with a history."""
    yield from with_history(start(), tmp_path)


def record(harness: Harness) -> None:
    recorder = Recorder(harness.ledger, harness.runtime.history, harness.clock)
    for _ in range(4):
        while recorder.record():
            pass


def work(harness: Harness) -> list[Job]:
    """Make jobs of two days with every kind of outcome and cost. Return them."""
    ids = []
    for day in range(2):
        for number, cost in enumerate([Cost(1.5, "credits"), Cost(0.1, "USD", "computed"), None]):
            outcome = Outcome.succeeded(PICTURES[: 1 + number % 2], cost)
            job_id = job_states.running(harness, "evolink" if number else "hiapi")
            harness.clock.forward(3 + 7 * number + day)
            task = job_states.task_of(job_id)
            by = SettledBy.POLL if number == 1 else SettledBy.CALLBACK
            now = harness.clock.now
            harness.ledger.settle_attempt(job_id, 1, task, outcome, now=now, by=by)
            ids.append(job_id)
        ids += [job_states.refused(harness), job_states.cancelled(harness)]
        ids += [job_states.given_up(harness), job_states.running(harness)]
        harness.clock.forward(DAY_SECONDS)
    return [harness.job(job_id) for job_id in ids]


def sums(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the rows of a report."""
    names = [name for name in FIGURES if name.startswith(("cost", "job", "image", "open"))]
    names += [status.value for status in Status if status.terminal]
    return {name: sum(row[name] for row in rows) for name in names}


def counted(jobs: list[Job]) -> dict[str, Any]:
    """Count the same figures in a plain loop."""
    costs = [cost_view(job) or {} for job in jobs]

    def cost(source: str) -> float:
        return sum(float(each["amount"]) for each in costs if each.get("source") == source)

    return {
        "jobs": len(jobs),
        "open": sum(not job.status.terminal for job in jobs),
        "images": sum(len(job.images) for job in jobs),
        "cost_reported": pytest.approx(cost("reported")),
        "cost_computed": pytest.approx(cost("computed")),
        "cost_unknown_jobs": sum(each.get("source") == "unknown" for each in costs),
        **{s.value: sum(job.status is s for job in jobs) for s in Status if s.terminal},
    }


@pytest.mark.parametrize("by", [[], ["day"], ["provider"], list(DIMENSIONS)])
def test_the_figures_equal_a_loop_over_all_jobs(harness: Harness, by: list[str]) -> None:
    jobs = work(harness)
    record(harness)

    report = usage_report(harness.runtime, {}, by)

    assert sums(report["rows"]) == counted(jobs)
    assert "incomplete" not in report
    groups = [tuple(row[name] for name in (*by, "unit")) for row in report["rows"]]
    assert len(set(groups)) == len(groups)


def test_a_report_has_the_jobs_of_its_filters_only(harness: Harness) -> None:
    early = harness.job(job_states.running(harness))
    harness.clock.forward(10)
    late = harness.job(job_states.running(harness, "evolink"))
    record(harness)
    moment = rfc3339(late.created_at)
    assert moment

    def of(**filters: str) -> dict[str, Any]:
        return sums(usage_report(harness.runtime, filters, [])["rows"])

    harness.clock.forward(1)
    assert of(created_before=moment) == of(provider="hiapi") == counted([early])
    assert of(created_after=moment) == of(provider="evolink") == counted([late])
    assert of(tenant="nobody") == counted([])


def test_times_and_callbacks_are_those_of_the_outcomes(harness: Harness) -> None:
    for seconds in (1, 2, 3, 40):
        job_id = job_states.running(harness)
        harness.clock.forward(seconds)
        task, now = job_states.task_of(job_id), harness.clock.now
        by = SettledBy.POLL if seconds == 40 else SettledBy.CALLBACK
        harness.ledger.settle_attempt(job_id, 1, task, job_states.SUCCESS, now=now, by=by)
    record(harness)

    [row] = usage_report(harness.runtime, {}, [])["rows"]

    assert (row["median_seconds"], row["p95_seconds"], row["callback_share"]) == (2, 40, 0.75)


def test_without_a_history_there_is_no_report(harness: Harness) -> None:
    with pytest.raises(HistoryUnavailable):
        usage_report(harness.runtime, {}, [])


@pytest.mark.parametrize(
    ("filters", "by", "field"),
    [
        ({"provider": "acme"}, [], "provider"),
        ({"created_after": "yesterday"}, [], "created_after"),
        ({"tenant": "a b"}, [], "tenant"),
        ({}, ["days"], "by"),
    ],
)
def test_odd_input_is_refused_by_name(
    harness: Harness, filters: dict[str, str], by: list[str], field: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        usage_report(harness.runtime, filters, by)

    assert [violation.field for violation in error.value.violations] == [field]


def test_csv_has_one_line_for_each_row_and_no_formula() -> None:
    row = {"model": "=1+1", **dict.fromkeys(FIGURES, 7)}

    [line] = csv.DictReader(io.StringIO(as_csv({"by": ["model"], "rows": [row]})))

    assert list(line) == ["model", *FIGURES]
    assert (line["model"], line["jobs"]) == ("'=1+1", "7")


# The faces ------------------------------------------------------------------------------------


def test_the_api_answers_with_json_and_csv(harness: Harness) -> None:
    work(harness)
    record(harness)
    api = Api(harness, WebApp(harness.runtime)).as_admin()

    answer = api.get("/v1/reports/usage?by=day,tenant")
    as_text = api.get("/v1/reports/usage?by=day,tenant&format=csv")

    assert answer.json == usage_report(harness.runtime, {}, ["day", "tenant"])
    assert as_text.mimetype == "text/csv"
    assert as_text.text == as_csv(answer.json)


def test_a_tenants_key_gets_its_own_figures_only(harness: Harness) -> None:
    work(harness)
    record(harness)
    api = Api(harness, WebApp(harness.runtime)).with_key(KEY)
    other = api.get("/v1/reports/usage?tenant=other")
    own = api.get("/v1/reports/usage?by=tenant")

    assert other.status_code == 403
    assert own.json is not None
    assert {row["tenant"] for row in own.json["rows"]} <= {"tests"}


def test_a_process_makes_one_report_at_a_time(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Api(harness, WebApp(harness.runtime).app())
    inner: list[int] = []

    def report(*_: object) -> dict[str, Any]:
        inner.append(client.get("/v1/reports/usage").status_code)
        return {"by": [], "rows": []}

    monkeypatch.setattr("orchestrator.api.reports.usage_report", report)
    answers = [client.get("/v1/reports/usage").status_code for _ in range(2)]

    assert (answers, inner) == ([200, 200], [503, 503])


def test_while_the_history_is_away_the_api_says_so(harness: Harness) -> None:
    answer = Api(harness, WebApp(harness.runtime)).get("/v1/reports/usage")

    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert "The history is unavailable" in answer.text


def test_the_command_shows_the_same(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    work(harness)
    record(harness)
    use_runtime(monkeypatch, harness.runtime)

    report = usage_report(harness.runtime, {}, ["provider"])
    assert json_of("report", "--by", "provider")["rows"] == report["rows"]
    assert (
        run("report", "--by", "provider", "--csv").stdout.splitlines()
        == as_csv(report).splitlines()
    )
    shown = run("report", "--by", "provider").output
    assert "evolink" in shown
    assert "credits" in shown
    assert run("report", "--by", "week").exit_code == 2


@pytest.mark.parametrize("option", ["since", "until"])
def test_the_command_names_the_option_with_a_wrong_time(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    use_runtime(monkeypatch, harness.runtime)
    assert f"Error: {option} must be a time" in run("report", f"--{option}", "soon").output
