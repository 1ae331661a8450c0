"""`GET /v1/jobs`: pages of jobs, newest first."""

from __future__ import annotations

import pytest

from orchestrator.api import incoming
from orchestrator.jobs.model import Status
from orchestrator.jobs.views import job_view
from orchestrator.jsonio import dump, parse
from orchestrator.ledger import identifiers
from orchestrator.operations import search
from orchestrator.operations.filters import FILTERS
from tests.api.conftest import Api, Open
from tests.support import job_states
from tests.support.fakes import NOON


def ids(api: Api, **query: str | int) -> list[str]:
    """The ids of one page."""
    response = api.get("/v1/jobs", query_string=query)
    assert response.status_code == 200, response.text
    assert response.json is not None
    return [job["id"] for job in response.json["jobs"]]


def test_an_empty_ledger_has_an_empty_page(api: Api) -> None:
    assert api.get("/v1/jobs").json == {"jobs": [], "next_cursor": None}


def test_a_listed_job_is_shown_as_it_is_shown_alone(api: Api) -> None:
    job_id = job_states.ended(api.harness)

    response = api.get("/v1/jobs")

    assert response.mimetype == "application/json"
    assert response.json is not None
    assert response.json["jobs"] == [api.get(f"/v1/jobs/{job_id}").json]
    assert response.json["jobs"] == [
        parse(dump(job_view(api.harness.job(job_id), api.harness.runtime.settings.public_url)))
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_cursors_lead_through_all_jobs_newest_first(api: Api, limit: int) -> None:
    created = sorted((api.created() for _ in range(7)), reverse=True)
    seen: list[str] = []
    cursor: str | None = None

    for _ in range(20):
        query = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = api.get("/v1/jobs", query_string=query).json
        assert page is not None
        assert len(page["jobs"]) <= limit
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == created


def test_a_page_has_fifty_jobs_unless_told_otherwise(api: Api) -> None:
    for _ in range(incoming.DEFAULT_PAGE_JOBS + 1):
        api.created()

    assert len(ids(api)) == 50
    assert len(ids(api, limit=incoming.MAX_PAGE_JOBS)) == 51


def test_status_and_provider_can_be_asked_for(api: Api) -> None:
    queued, running = api.created(), job_states.running(api.harness)
    cancelled = job_states.cancelled(api.harness, "evolink")

    assert ids(api, status="queued") == [queued]
    assert ids(api, status="running") == [running]
    assert ids(api, provider="evolink") == [cancelled]
    assert ids(api, provider="hiapi", status="cancelled") == []
    assert ids(api, provider="evolink", status="cancelled") == [cancelled]


def test_a_page_may_be_short_and_still_have_a_next_one(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_EXAMINED_JOBS", 2)
    monkeypatch.setattr(search, "WINDOW_JOBS", 2)
    created = sorted((api.created() for _ in range(3)), reverse=True)

    document = api.get("/v1/jobs?status=failed").json

    assert document == {"jobs": [], "next_cursor": created[1]}


def test_jobs_of_a_provider_that_was_switched_off_are_listed(open_api: Open) -> None:
    api = open_api()
    job_id = api.created()
    off = Api(open_api(HIAPI_API_KEY=None).harness.on(api.harness.ledger), api.app)

    assert ids(off, provider="hiapi") == [job_id]


REFUSED = {
    "status": (
        ["", "done", "Queued", "queued,running", "queued "],
        f"one of {', '.join(s.value for s in Status)}",
    ),
    "provider": (["", "acme", "HiAPI"], "one of "),
    "limit": (
        ["", "0", "201", "-1", "1.0", "1e2", " 5", "+5", "ten", "\u0665", "9" * 5000],
        "a whole number from 1 to 200",
    ),
    "cursor": (
        ["", "x", "0", "job_", "JOB_" + "0" * 28, "job_" + "i" * 28, "job_" + "0" * 29],
        "the next_cursor of an earlier page",
    ),
    "error": (["", "policy"], "one of "),
    "created_after": (["", "yesterday", "2026-13-01", "1" * 50], "a time such as"),
    "created_before": (
        [
            *("now", "0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59-12:00"),
            "9999-12-31T23:59:59.9999999Z",
        ],
        "a time such as",
    ),
    "unconfirmed": (["", "yes"], "true or false"),
    "at_risk": (["2"], "true or false"),
    "task_id": (["", "x" * 1001], "1 to 1000 characters"),
    "metadata.sku": ([""], "1 to 1000 characters"),
    "tenants": (["shop"], "a known field"),
    "metadata.": (["17"], "a known field"),
    "metadata": (["17"], "a known field"),
    "idempotency_key": (["", "x" * 256, "a\nb"], "1 to 255 printable characters"),
}


def test_an_unknown_parameter_is_refused_by_name_everywhere(api: Api) -> None:
    job_id = api.created()
    for path in ("/v1/jobs", f"/v1/jobs/{job_id}", "/v1/stats", "/v1/providers"):
        response = api.get(path, query_string={"statsu": "failed"})

        assert response.status_code == 422, path
        assert response.json is not None
        assert [error["field"] for error in response.json["errors"]] == ["statsu"]
    assert "did you mean status?" in api.get("/v1/jobs?statsu=failed").text


def test_a_repeated_parameter_is_refused_by_name_everywhere(api: Api) -> None:
    job_id = api.created()
    for path, name, values in (
        ("/v1/jobs", "limit", ("1", "2")),
        ("/v1/jobs", "status", ("queued", "failed")),
        ("/v1/jobs", "tenant", ("tests", "shop")),
        (f"/v1/jobs/{job_id}", "wait", ("0", "0")),
        ("/v1/reports/usage", "by", ("day", "tenant")),
    ):
        response = api.get(path, query_string={name: list(values)})

        assert response.status_code == 422, path
        assert response.json is not None
        [error] = response.json["errors"]
        assert (error["field"], error["allowed"]) == (name, "given once")


def test_a_time_may_be_written_in_every_form_of_rfc_3339(api: Api) -> None:
    job_id = api.created()
    for time in ("2026-11-30T00:53:20Z", "2026-11-30t00:53:20.000z", "2026-11-30 01:53:20+01:00"):
        assert ids(api, created_after=time) == [job_id], time
        assert ids(api, created_before=time) == [], time


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/reports/usage"])
@pytest.mark.parametrize("after", ["2026-11-02", "2026-11-01T00:00:00Z"])
def test_times_without_a_time_between_them_are_refused(api: Api, path: str, after: str) -> None:
    times = {"created_after": after, "created_before": "2026-11-01"}

    answer = api.as_admin().get(path, query_string=times)

    assert answer.status_code == 422
    assert answer.json is not None
    [error] = answer.json["errors"]
    assert error["field"] == "created_after"
    assert error["allowed"] == "earlier than created_before, which is 2026-11-01T00:00:00.000Z"


def test_an_odd_query_is_refused_by_name(api: Api) -> None:
    for name, value in [(name, value) for name, (values, _) in REFUSED.items() for value in values]:
        response = api.get("/v1/jobs", query_string={name: value})

        assert (response.status_code, response.mimetype) == (422, "application/problem+json")
        assert response.json is not None
        [error] = response.json["errors"]
        assert error["field"] == name
        assert error["allowed"].startswith(REFUSED[name][1])


def test_a_cursor_of_a_job_that_never_was_is_a_place_in_time(api: Api) -> None:
    job_id = api.created()

    assert ids(api, cursor=identifiers.new_job_id(0, NOON)) == [job_id]
    assert ids(api, cursor="job_" + "0" * 28) == []


def test_without_a_key_nothing_is_listed(api: Api) -> None:
    api.created()
    api.headers = {}

    assert api.get("/v1/jobs").status_code == 401


def test_the_specification_tells_of_the_page_and_its_parameters(api: Api) -> None:
    document = api.app.test_client().get("/openapi.json").json
    assert document is not None

    listing = document["paths"]["/v1/jobs"]["get"]

    assert [p["name"] for p in listing["parameters"]] == [
        *FILTERS,
        "limit",
        "cursor",
    ]
    assert listing["parameters"][0]["schema"]["enum"] == list(Status)
    assert set(document["components"]["schemas"]["Jobs"]["properties"]) == {
        "jobs",
        "next_cursor",
        "incomplete",
        "unreadable",
    }
    assert set(listing["responses"]) >= {"200"}


def test_open_jobs_say_what_they_wait_for(api: Api) -> None:
    harness = api.harness
    harness.ledger.admission.pause("hiapi", by="tests", now=harness.clock())
    waiting, other, done = harness.enqueue(), harness.enqueue("evolink"), harness.enqueue()
    harness.ledger.cancel(done, now=harness.clock())

    page = api.get("/v1/jobs").json
    assert page is not None
    listed = {job["id"]: job.get("waiting_for") for job in page["jobs"]}

    assert listed == {waiting: "paused", other: "worker", done: None}


def test_an_unknown_parameter_is_refused_with_a_suggestion(api: Api) -> None:
    for query, message in (
        ("statsu=failed", "statsu is not a known field; did you mean status?"),
        ("status=failed&status=queued", 'status must be given once; got "queued"'),
    ):
        response = api.get(f"/v1/jobs?{query}")
        assert response.status_code == 422
        assert response.json is not None
        assert [error["message"] for error in response.json["errors"]] == [message]
