"""Callers who want to be told: what they ask for, how far it is, and telling them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import Ledger
from orchestrator.steps.notify import notify
from tests.api.conftest import UNIFIED, Api, Open
from tests.support import job_states
from tests.support.fakes import Answer, FakeProvider, serving
from tests.support.notify_kit import VARIABLES, again, host, pause, url, wait
from tests.support.web import WebApp

#: Noon in the tests' harness, and five seconds later.
NOON, NEXT = "2026-11-30T00:53:20.000Z", "2026-11-30T00:53:25.000Z"
WAITING = {
    "status": "waiting",
    "attempts": 0,
    "last_attempt_at": None,
    "next_attempt_at": None,
    "error": None,
}


@pytest.fixture
def api(open_api: Open) -> Api:
    """The API of an installation that may tell callers on this machine."""
    return open_api(**VARIABLES)


@pytest.fixture
def receiver() -> Iterator[FakeProvider]:
    """A caller's server."""
    with serving(FakeProvider()) as fake:
        yield fake


def notification(api: Api, job_id: str) -> Any:
    document = api.get(f"/v1/jobs/{job_id}").json
    assert document is not None
    return document["notification"]


def tell(api: Api, job_id: str) -> TestResponse:
    return api.post(f"/v1/jobs/{job_id}/notify")


# What a job shows ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "to"),
    [
        ({"notify_url": "https://Me.example.com:8443/a?key=hidden"}, "me.example.com:8443"),
        ({"notify_task": "shop.told", "notify_queue": "shop"}, "shop.told"),
        ({"notify_stream": "shop"}, "shop"),
    ],
    ids=["url", "task", "stream"],
)
def test_a_new_job_shows_where_its_outcome_will_be_told(
    api: Api, fields: dict[str, str], to: str
) -> None:
    response = api.create({**UNIFIED, **fields})

    assert response.status_code == 202
    assert response.json is not None
    assert response.json["notification"] == {"to": to, **WAITING}
    assert "hidden" not in response.text
    assert api.get(f"/v1/jobs/{response.json['id']}").json == response.json
    assert fields.items().isdisjoint(response.json["request"].items())


def test_a_job_whose_caller_named_nothing_shows_none(api: Api) -> None:
    assert notification(api, api.created()) is None
    assert notification(api, job_states.ended(api.harness)) is None


def test_a_replay_shows_how_far_it_is_by_now(api: Api) -> None:
    first = api.create({**UNIFIED, "notify_stream": "shop"}, key="order-1").json
    assert first is not None
    api.harness.ledger.cancel(first["id"], now=api.harness.clock())

    response = api.create({**UNIFIED, "notify_stream": "shop"}, key="order-1")

    assert response.json is not None
    assert (response.status_code, response.json["notification"]["status"]) == (200, "pending")


def test_another_way_to_be_told_is_another_request(api: Api) -> None:
    api.create({**UNIFIED, "notify_stream": "shop"}, key="order-1")

    assert api.create({**UNIFIED, "notify_stream": "store"}, key="order-1").status_code == 422


def test_every_state_is_shown(api: Api, receiver: FakeProvider) -> None:
    receiver.answers(Answer(500), Answer(204))
    job_id, to = job_states.running(api.harness, notify_url=url(receiver)), {"to": host(receiver)}
    assert notification(api, job_id) == {**to, **WAITING}

    api.harness.ledger.settle_attempt(
        job_id, 1, job_states.task_of(job_id), job_states.SUCCESS, now=api.harness.clock()
    )
    pending = {**WAITING, "status": "pending", "next_attempt_at": NOON}
    assert notification(api, job_id) == {**to, **pending}

    notify(api.harness.runtime, job_id)
    failed = {"attempts": 1, "last_attempt_at": NOON, "error": "it answered 500"}
    assert notification(api, job_id) == {**to, **pending, **failed, "next_attempt_at": NEXT}

    again(api.harness, job_id)
    done = {**WAITING, "status": "done", "attempts": 2, "last_attempt_at": NEXT}
    assert notification(api, job_id) == {**to, **done}


@pytest.mark.parametrize(
    ("status", "ended", "tries"), [(410, "gone", 1), (500, "dead", 10)], ids=["gone", "dead"]
)
def test_what_was_given_up_shows_why(
    api: Api,
    receiver: FakeProvider,
    status: int,
    ended: str,
    tries: int,
) -> None:
    receiver.handler = lambda _: Answer(status)
    job_id = job_states.ended(api.harness, notify_url=url(receiver))
    while wait(api.harness, job_id) is not None:
        api.harness.ledger.circuit_breaker.forget(host(receiver))
        again(api.harness, job_id)

    shown = notification(api, job_id)

    assert (shown["status"], shown["attempts"]) == (ended, tries)
    assert shown["error"] == f"it answered {status}"
    assert shown["next_attempt_at"] is None


def test_paused_hosts_are_among_the_figures(api: Api) -> None:
    api.created(notify_url="https://shop.example.com/hooks?key=hidden")
    pause(api.harness, "shop.example.com")

    response = api.as_admin().get("/v1/stats")

    assert response.json is not None
    [paused] = response.json["notifications"]["paused_hosts"]
    assert (paused["host"], paused["failures"]) == ("shop.example.com", 10)
    assert paused["next_probe_at"] == "2026-11-30T00:54:20.000Z"
    assert "hidden" not in response.text


# Bad fields ----------------------------------------------------------------------------------


def test_a_bad_field_is_refused_by_name(api: Api) -> None:
    refused: list[tuple[dict[str, Any], list[str]]] = [
        ({"notify_url": ""}, ["notify_url"]),
        ({"notify_url": None}, ["notify_url"]),
        ({"notify_url": 7}, ["notify_url"]),
        ({"notify_url": ["https://shop.example.com"]}, ["notify_url"]),
        ({"notify_url": "https://shop.example.com/" + "x" * 2000}, ["notify_url"]),
        ({"notify_url": "shop"}, ["notify_url"]),
        ({"notify_url": "https://169.254.169.254/"}, ["notify_url"]),
        ({"notify_task": ""}, ["notify_task"]),
        ({"notify_task": "x" * 201}, ["notify_task"]),
        ({"notify_task": "store.told"}, ["notify_task"]),
        ({"notify_task": {"name": "shop.told"}}, ["notify_task"]),
        ({"notify_task": "shop.told", "notify_queue": ""}, ["notify_queue"]),
        ({"notify_task": "shop.told", "notify_queue": "orchestrator.steps"}, ["notify_queue"]),
        ({"notify_queue": "shop"}, ["notify_queue"]),
        ({"notify_stream": ""}, ["notify_stream"]),
        ({"notify_stream": "x" * 65}, ["notify_stream"]),
        ({"notify_stream": "shop:told"}, ["notify_stream"]),
        ({"notify_stream": "shop\n"}, ["notify_stream"]),
        ({"notify_stream": "{orch:0}"}, ["notify_stream"]),
        ({"notify_stream": "sh\u00f6p"}, ["notify_stream"]),
        ({"notify_stream": 7}, ["notify_stream"]),
        ({"notify_stream": None}, ["notify_stream"]),
        ({"notify_stream": "shop", "notify_task": "shop.told"}, ["notify_stream"]),
        ({"notify_url": 7, "notify_stream": ""}, ["notify_stream", "notify_url"]),
        ({"notify_email": "me@example.com"}, ["notify_email"]),
    ]
    for fields, named in refused:
        response = api.create({**UNIFIED, **fields})

        assert (response.status_code, response.mimetype) == (422, "application/problem+json")
        assert response.json is not None
        assert sorted(error["field"] for error in response.json["errors"]) == named
        assert all(error["allowed"] for error in response.json["errors"])
        assert api.harness.redis.keys() == []


def test_a_stream_is_told_what_it_may_be_called(api: Api) -> None:
    document = api.create({**UNIFIED, "notify_stream": "shop:told"}).json
    assert document is not None

    [error] = document["errors"]

    assert (error["value"], error["allowed"]) == ("shop:told", "1 to 64 letters, digits, _ . -")


def test_a_password_in_a_refused_url_is_not_repeated(api: Api) -> None:
    response = api.create(
        {**UNIFIED, "notify_url": "https://me:hunter2@shop.example.com/?k=hunter2"}
    )

    assert response.status_code == 422
    assert "hunter2" not in response.text
    assert "a user or password is not allowed" in response.text


def test_without_a_secret_no_url_is_taken(open_api: Open) -> None:
    api = open_api()

    response = api.create({**UNIFIED, "notify_url": "https://shop.example.com/"})

    assert response.status_code == 422
    assert "ORCHESTRATOR_NOTIFY_SECRET" in response.text
    assert api.create({**UNIFIED, "notify_stream": "shop"}).status_code == 202


# Again ---------------------------------------------------------------------------------------


def test_a_caller_is_told_again(api: Api) -> None:
    job_id = job_states.ended(api.harness, notify_stream="shop")
    notify(api.harness.runtime, job_id)
    api.harness.nudges.sent.clear()

    response = tell(api, job_id)

    assert response.status_code == 202
    assert response.json is not None
    assert response.json["id"] == job_id
    pending = {**WAITING, "status": "pending", "next_attempt_at": NOON, "last_attempt_at": NOON}
    assert response.json["notification"] == {"to": "shop", **pending}
    assert api.harness.nudges.sent == [(Step.NOTIFY, job_id)]
    notify(api.harness.runtime, job_id)
    entries: Any = api.harness.redis.xrange("{orch:0}:stream:shop")
    assert [entry["id"] for _, entry in entries] == [f"msg_{job_id}"] * 2


def test_a_retry_of_a_job_tells_the_same_caller(api: Api) -> None:
    ways: list[dict[str, Any]] = [
        {"notify_url": "https://shop.example.com/hooks"},
        {"notify_task": "shop.told", "notify_queue": "shop"},
        {"notify_stream": "shop"},
    ]
    for way in ways:
        response = api.post(f"/v1/jobs/{job_states.refused(api.harness, **way)}/retry")

        assert response.status_code == 202
        assert response.json is not None
        request = api.harness.job(response.json["id"]).request
        assert {name: getattr(request, name) for name in way} == way
        assert response.json["notification"]["status"] == FollowUpStatus.WAITING


def test_a_job_that_is_open_or_names_nobody_is_409(api: Api) -> None:
    waiting, silent = api.created(notify_stream="shop"), job_states.ended(api.harness)
    running = job_states.running(api.harness, notify_stream="shop")

    for job_id, why in (
        (waiting, "it is queued"),
        (running, "it is running"),
        (silent, "its request has no notify_url, notify_task or notify_stream"),
    ):
        response = tell(api, job_id)
        assert (response.status_code, response.mimetype) == (409, "application/problem+json")
        assert response.json is not None
        assert response.json["detail"].startswith(why)


@pytest.mark.parametrize("job_id", ["job_" + "0" * 28, "nonsense", "%00", "job_" + "9" * 5000])
def test_an_unknown_job_is_404(api: Api, job_id: str) -> None:
    assert tell(api, job_id).status_code == 404


def test_without_a_key_nobody_is_told(api: Api) -> None:
    job_id = job_states.ended(api.harness, notify_stream="shop")
    api.headers = {}

    assert tell(api, job_id).status_code == 401
    assert "notify_again" not in api.harness.events(job_id)


def test_while_the_ledger_is_away_callers_are_told_to_come_back(api: Api, away: Ledger) -> None:
    client = Api(harness := api.harness.on(away), WebApp(harness.runtime))

    assert tell(client, "job_" + "0" * 28).status_code == 503


def test_the_specification_tells_of_it(api: Api) -> None:
    document = api.app.test_client().get("/openapi.json").json
    assert document is not None

    schemas = document["components"]["schemas"]

    assert set(document["paths"]["/v1/jobs/{job_id}/notify"]["post"]["responses"]) >= {"202"}
    assert set(schemas["Notification"]["properties"]) == {"to", *WAITING}
    assert schemas["Notification"]["properties"]["status"]["enum"] == list(FollowUpStatus)
    ways = {name for name in schemas["JobRequest"]["properties"] if name.startswith("notify_")}
    assert ways == {"notify_url", "notify_task", "notify_queue", "notify_stream"}
