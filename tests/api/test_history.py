"""The API with a history: jobs that Redis has forgotten, and changes that are not recorded yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

import pytest

from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.ledger import identifiers
from tests.api.conftest import KEY, UNIFIED, Api, Open
from tests.support import job_states
from tests.support.fakes import NOON, TENANT
from tests.support.web import WebApp

PROBLEM = "urn:orchestrator:problem:"


@dataclass(frozen=True)
class Recorded:
    """The API, and the recorder of its history."""

    api: Api
    recorder: Recorder

    def record(self) -> None:
        while self.recorder.record():
            pass


def ids(api: Api, **query: str) -> list[str]:
    """The ids of one page."""
    page = api.get("/v1/jobs", query_string=query).json
    assert page is not None
    return [job["id"] for job in page["jobs"]]


@pytest.fixture
def recorded(open_api: Open, tmp_path: Path) -> Iterator[Recorded]:
    """An API with a history."""
    api = open_api(ORCHESTRATOR_API_KEYS=f"{TENANT}:{KEY},other:key-of-another-tenant-here")
    history = History(f"sqlite:///{tmp_path}/history/history.db")
    harness = api.harness.with_runtime(open_history=lambda: history)
    recorder = Recorder(harness.ledger, history, harness.clock)
    for _ in range(3):
        recorder.record()
    yield Recorded(Api(harness, WebApp(harness.runtime)), recorder)
    history.close()


def test_a_job_that_redis_has_forgotten_is_answered_from_the_history(recorded: Recorded) -> None:
    api, harness = recorded.api, recorded.api.harness
    job_id = job_states.cancelled(harness)
    paths = [f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/events", f"/v1/jobs/{job_id}?wait=30"]
    before = [api.get(path).json for path in paths]
    recorded.record()

    harness.ledger.overview.forget(job_id, before=harness.clock() + 1)

    assert harness.ledger.get(job_id) is None
    assert [api.get(path).json for path in paths] == before
    assert ids(api) == ids(api, q=job_id) == [job_id]
    api.headers = {"Authorization": "Bearer key-of-another-tenant-here"}
    assert {api.get(path).status_code for path in paths} == {404}
    assert ids(api) == []


def test_a_search_sees_a_change_before_it_is_recorded(recorded: Recorded) -> None:
    api = recorded.api
    job_id = api.created()
    recorded.record()
    assert ids(api, status="queued") == [job_id]

    api.post(f"/v1/jobs/{job_id}/cancel")
    new = api.created()

    assert ids(api, status="queued") == [new]
    assert ids(api, status="cancelled") == [job_id]
    assert ids(api) == [new, job_id]


def test_while_the_history_is_away_lists_come_from_the_ledger_and_say_so(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = recorded.api
    job_id = api.created()
    recorded.record()
    monkeypatch.setattr(recorded.api.harness.runtime.history.database, "_retry_at", inf)

    page = api.get("/v1/jobs?status=queued").json

    assert page is not None
    assert [job["id"] for job in page["jobs"]] == [job_id]
    assert page["incomplete"]
    assert api.get(f"/v1/jobs/{job_id}").status_code == 200
    unknown = api.get(f"/v1/jobs/{identifiers.new_job_id(0, NOON)}")
    assert (unknown.status_code, unknown.headers["Retry-After"]) == (503, "5")
    usage = api.get("/v1/reports/usage")
    assert (usage.status_code, usage.headers["Retry-After"]) == (503, "5")
    assert usage.json is not None
    assert (usage.json["status"], usage.json["type"]) == (503, f"{PROBLEM}history-unavailable")


def test_the_history_is_not_asked_about_a_job_that_redis_has(api: Api) -> None:
    def hangs() -> History:
        raise AssertionError("a history that hangs would stop the event loop")

    harness = api.harness.with_runtime(open_history=hangs)
    api = Api(harness, WebApp(harness.runtime))

    new, failed = api.created(), job_states.refused(harness)
    answers = [api.get(f"/v1/jobs/{job_id}") for job_id in (new, failed)]
    answers += [api.post("/v1/jobs/batch", json={"jobs": [UNIFIED]})]
    answers += [api.post(f"/v1/jobs/{new}/cancel")]

    assert [answer.status_code for answer in answers] == [200, 200, 202, 200]
