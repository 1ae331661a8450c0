"""A job that this version cannot read: its own answer, and lists that have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from orchestrator.ledger import keys
from orchestrator.ledger.refusals import FORMAT
from orchestrator.operations import search
from tests.api.conftest import KEY, Api, Open
from tests.support.fakes import TENANT, Harness
from tests.support.job_states import UNREADABLE_FIELDS, make_unreadable
from tests.support.web import WebApp

OTHER_KEY = "key-of-another-tenant-here"
KINDS = pytest.mark.parametrize("fields", UNREADABLE_FIELDS.values(), ids=list(UNREADABLE_FIELDS))


@pytest.fixture
def api(open_api: Open) -> Api:
    return open_api(ORCHESTRATOR_API_KEYS=f"{TENANT}:{KEY},other:{OTHER_KEY}")


@pytest.fixture
def recorded(api: Api, tmp_path: Path) -> Iterator[tuple[Api, Recorder]]:
    """The API with a history, and its recorder."""
    history = History(f"sqlite:///{tmp_path}/history/history.db")
    harness = api.harness.with_runtime(open_history=lambda: history)
    recorder = Recorder(harness.ledger, history, harness.clock)
    for _ in range(3):
        recorder.record()
    yield Api(harness, WebApp(harness.runtime)), recorder
    history.close()


def listed(api: Api, **query: str | int) -> tuple[list[str], list[str]]:
    """The ids of the jobs of a page, and of those that it says cannot be read."""
    answer = api.get("/v1/jobs", query_string=query)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    unreadable = answer.json.get("unreadable", [])
    assert all("`orchestrator verify`" in each["detail"] for each in unreadable)
    return [job["id"] for job in answer.json["jobs"]], [each["id"] for each in unreadable]


@KINDS
def test_a_list_shows_the_other_jobs_and_names_the_one(
    api: Api, fields: Mapping[str, str | bytes]
) -> None:
    older, bad, newer = (api.created() for _ in range(3))
    make_unreadable(api.harness, bad, fields)

    assert listed(api) == ([newer, older], [bad])
    assert listed(api, q=bad) == ([], [bad])
    assert listed(api, q=newer) == ([newer], [])
    assert listed(api, status="cancelled") == ([], [])


@KINDS
def test_its_own_answer_says_what_to_do(api: Api, fields: Mapping[str, str | bytes]) -> None:
    bad = api.created()
    make_unreadable(api.harness, bad, fields)

    answer = api.get(f"/v1/jobs/{bad}")

    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["type"] == "urn:orchestrator:problem:ledger-unavailable"
    assert answer.json["detail"].startswith(f"{bad}: ")
    assert "`orchestrator verify`" in answer.json["detail"]
    assert "Redis is away" not in answer.text
    assert int(answer.headers["Retry-After"]) > 1


@KINDS
def test_another_tenant_does_not_learn_of_it(api: Api, fields: Mapping[str, str | bytes]) -> None:
    bad = api.created()
    make_unreadable(api.harness, bad, fields)
    other = api.with_key(OTHER_KEY)

    assert listed(other) == listed(other, q=bad) == ([], [])
    for part in ("", "/events", "/images/0", "/images/0/thumbnail", "/images/0/link"):
        assert other.get(f"/v1/jobs/{bad}{part}").status_code == 404, part
        assert api.get(f"/v1/jobs/{bad}{part}").status_code == 503, part


def test_each_page_names_those_between_its_jobs(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WINDOW_JOBS", 2)
    jobs = [api.created() for _ in range(6)][::-1]
    for bad in (jobs[1], jobs[4]):
        make_unreadable(api.harness, bad, {"status": "dreaming"})

    assert listed(api, limit=2) == ([jobs[0], jobs[2]], [jobs[1]])
    assert listed(api, limit=2, cursor=jobs[2]) == ([jobs[3], jobs[5]], [jobs[4]])
    assert listed(api, created_after="2100-01-01T00:00:00Z") == ([], [])


@KINDS
def test_a_change_that_is_not_recorded_yet_is_named(
    recorded: tuple[Api, Recorder], fields: Mapping[str, str | bytes]
) -> None:
    api, recorder = recorded
    older, bad = api.created(), api.created()
    recorder.record()
    newer = api.created()
    api.post(f"/v1/jobs/{bad}/cancel")
    make_unreadable(api.harness, bad, fields)

    assert listed(api) == ([newer, older], [bad])
    assert listed(api, limit=1) == ([newer], [])
    assert listed(api, limit=2) == ([newer, older], [bad])
    assert listed(api, cursor=bad) == ([older], [])


def test_a_record_of_a_newer_version_in_the_history_is_named(
    recorded: tuple[Api, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, recorder = recorded
    older, bad = api.created(), api.created()
    monkeypatch.setattr("orchestrator.ledger.codec.FORMAT", FORMAT + 1)
    api.harness.redis.hset(keys.job(bad), "format", FORMAT + 1)
    recorder.record()
    monkeypatch.setattr("orchestrator.ledger.codec.FORMAT", FORMAT)

    assert listed(api) == ([older], [bad])


def test_the_figures_do_not_fail(api: Api) -> None:
    harness: Harness = api.harness
    bad = api.created()
    make_unreadable(harness, bad, {"status": "dreaming"})
    harness.redis.zadd(keys.unconfirmed(0), {f"{bad}.1": harness.clock()})

    answer = api.as_admin().get("/v1/stats")

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("key", [keys.job, keys.events])
def test_a_key_of_another_type_hides_no_other_job(
    recorded: tuple[Api, Recorder], key: Callable[[str], str]
) -> None:
    api, recorder = recorded
    older, bad, newer = (api.created() for _ in range(3))
    redis = api.harness.redis
    redis.delete(key(bad))
    redis.set(key(bad), "neither a job nor a timeline")

    assert listed(api.as_admin()) == ([newer, older], [bad])
    assert listed(api.as_admin(), status="queued") == ([newer, older], [bad])
    recorder.record()
    assert listed(api.as_admin()) == ([newer, older], [])
    assert api.as_admin().get(f"/v1/jobs/{bad}/events").status_code == 503


def test_a_search_of_the_ledger_by_status_names_a_key_of_another_type(api: Api) -> None:
    good, bad = api.created(), api.created()
    api.harness.redis.delete(keys.job(bad))
    api.harness.redis.set(keys.job(bad), "no job")

    assert listed(api.as_admin(), status="queued") == ([good], [bad])
