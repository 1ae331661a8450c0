"""Every error is a problem document, and none tells more than it should."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import default_exceptions

from orchestrator.api.compatible import BLUEPRINTS
from orchestrator.ledger import Ledger, LedgerMisconfigured
from orchestrator.ledger.installation import Installation
from orchestrator.settings.environment import ConfigError
from tests.api.conftest import KEY, UNIFIED, Api, Open
from tests.support.fakes import Harness
from tests.support.web import WebApp
from webhooks.app import create_app

HIDDEN = "hidden-in-an-exception"
WITH_KEY = {"Authorization": f"Bearer {KEY}"}


# Keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [None, "", " ", ","])
def test_without_a_key_the_api_refuses_to_start(
    start: Callable[..., Harness], keys: str | None
) -> None:
    harness = start(ORCHESTRATOR_API_KEYS=keys, ORCHESTRATOR_ADMIN_KEYS=None)

    with pytest.raises(ConfigError, match="there is no API key") as error:
        create_app(harness.runtime)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/job_x", "/v1/jobs/job_x/events"])
def test_a_wrong_or_odd_authorization_is_401(api: Api, path: str) -> None:
    for header in [
        None,
        "",
        KEY,
        "Bearer",
        "Bearer ",
        f"Basic {KEY}",
        f"Bearer  x{KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        f"Bearer {KEY} {KEY}",
        f"Bearer: {KEY}",
        f"Bearer tests:{KEY}",
        "Bearer tests",
        "Bearer \u00e9\u00ff",
        "Bearer " + "x" * 10_000,
    ]:
        api.headers = {} if header is None else {"Authorization": header}

        response = api.post(path, json=UNIFIED) if path == "/v1/jobs" else api.get(path)

        assert (response.status_code, response.mimetype) == (401, "application/problem+json")
        assert response.headers["WWW-Authenticate"].lower().startswith("bearer realm=")
        assert KEY not in response.text
        assert api.harness.redis.keys() == []


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY} "])
def test_the_right_key_is_let_in(api: Api, header: str) -> None:
    api.headers = {"Authorization": header}

    assert api.create(UNIFIED).status_code == 202


def test_every_listed_key_is_let_in(open_api: Open) -> None:
    api = open_api(ORCHESTRATOR_API_KEYS="one:the-first-key-of-two,two:the-second-key-of-two")
    for key in ("the-first-key-of-two", "the-second-key-of-two"):
        api.headers = {"Authorization": f"Bearer {key}"}
        assert api.create(UNIFIED).status_code == 202


def test_authorization_comes_before_the_body(api: Api) -> None:
    api.headers = {}

    assert api.create(b"no JSON").status_code == 401


# Problems ------------------------------------------------------------------------------------


def is_problem(response: object, status: int) -> bool:
    document = getattr(response, "json", None) or {}
    return (
        getattr(response, "status_code", 0) == status == document["status"]
        and getattr(response, "mimetype", "") == "application/problem+json"
        and document["type"].startswith("urn:orchestrator:problem:")
        and bool(document["title"])
        and bool(document["detail"])
    )


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/jobs/", "/v1/nothing", "/docs/%00"])
def test_an_unknown_route_is_a_404_problem(api: Api, path: str) -> None:
    response = api.get(path)

    assert is_problem(response, 404)
    assert "lists the paths" in response.text


def test_a_wrong_method_is_a_405_problem_that_lists_the_right_ones(api: Api) -> None:
    response = api.app.test_client().delete("/v1/jobs", headers=api.headers)

    assert is_problem(response, 405)
    assert "POST" in response.headers["Allow"]
    assert "'/v1/jobs' does not accept DELETE; it accepts GET" in response.text


def test_every_http_error_is_a_problem(start: Callable[..., Harness]) -> None:
    app = create_app(start().runtime)

    @app.get("/broken/<int:status>")
    def broken(status: int) -> str:
        raise default_exceptions[status]

    for status in default_exceptions:
        response = app.test_client().get(f"/broken/{status}", headers=WITH_KEY)
        assert is_problem(response, status)


def failing(app: Flask, error: Exception) -> None:
    @app.get("/broken")
    def broken() -> str:
        raise error


def test_an_unexpected_exception_is_a_500_that_does_not_tell_its_text(
    start: Callable[..., Harness],
) -> None:
    app = create_app(start().runtime)
    failing(app, RuntimeError(HIDDEN))

    response = app.test_client().get("/broken", headers=WITH_KEY)

    assert is_problem(response, 500)
    assert HIDDEN not in response.text
    assert "RuntimeError" not in response.text
    assert "Traceback" not in response.text


def test_a_redirect_stays_a_redirect(start: Callable[..., Harness]) -> None:
    app = create_app(start().runtime)

    @app.get("/folder/")
    def folder() -> str:
        return "here"

    response = app.test_client().get("/folder")

    assert (response.status_code, response.location) == (308, "http://localhost/folder/")


def test_while_the_ledger_is_away_callers_are_told_to_come_back(api: Api, away: Ledger) -> None:
    harness = api.harness.on(away)
    client = Api(harness, WebApp(harness.runtime))
    job = "/v1/jobs/job_" + "0" * 28

    for response in (
        client.create(UNIFIED),
        client.create(UNIFIED, key="order-1"),
        client.get(job),
        client.get(f"{job}?wait=1"),
        client.get(f"{job}/events"),
    ):
        assert is_problem(response, 503)
        assert response.headers["Retry-After"] == "1"
        assert "redis" not in response.text.replace("Redis", "")


# The specification ---------------------------------------------------------------------------


def test_the_specification_is_served_and_lists_the_routes(api: Api) -> None:
    response = api.app.test_client().get("/openapi.json")

    assert response.status_code == 200
    assert response.json is not None
    assert response.json["openapi"].startswith("3.")
    paths = {path: set(methods) for path, methods in response.json["paths"].items()}
    assert "post" in paths["/v1/jobs"]
    assert "get" in paths["/v1/jobs/{job_id}"]
    assert "get" in paths["/v1/jobs/{job_id}/events"]


def test_every_route_under_v1_is_in_the_specification_with_its_security(api: Api) -> None:
    client = api.app.test_client()
    body = client.get("/openapi.json").json
    assert body is not None

    for rule in client.application.url_map.iter_rules():
        compatible = rule.endpoint.partition(".")[0] in BLUEPRINTS
        if rule.rule.startswith("/v1/") and not compatible:
            operations = body["paths"][re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)]
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                assert operations[method.lower()]["security"] == [{"bearer": []}], rule
                assert operations[method.lower()]["summary"], rule


def test_the_specification_refers_to_nothing_that_is_not_there(api: Api) -> None:
    body = api.app.test_client().get("/openapi.json").json
    assert body is not None

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [ref for inner in value.values() for ref in references(inner)]
        return [r for inner in value for r in references(inner)] if isinstance(value, list) else []

    assert references(body)
    for reference in references(body):
        found = body
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_a_refusal_that_a_setting_causes_is_a_503_without_details(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LedgerMisconfigured("NOPERM", f"User {HIDDEN} has no permissions", "give the right")

    monkeypatch.setattr(Ledger, "get", refuse)
    monkeypatch.setattr(Installation, "check_write", refuse)

    response = api.get("/v1/jobs/job_1")

    assert response.status_code == 503
    problem: Any = response.json
    assert problem["type"] == "urn:orchestrator:problem:ledger-unavailable"
    assert "NOPERM" in problem["detail"]
    assert HIDDEN not in response.text
    assert "refuses the settings (NOPERM)" in api.get("/readyz").text
