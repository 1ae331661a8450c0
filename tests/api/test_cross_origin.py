"""CORS: pages of the named origins may call `/v1` and read links, others may not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from orchestrator.api.cross_origin import READ, SENT
from tests.api.conftest import KEY
from tests.support.fakes import Harness
from webhooks.app import create_app

ORIGIN = "https://app.example.com"


@pytest.fixture
def client(start: Callable[..., Harness]) -> Callable[[str | None], FlaskClient]:
    return lambda origins: create_app(
        start(ORCHESTRATOR_CORS_ORIGINS=origins).runtime
    ).test_client()


@pytest.mark.parametrize("origins", [ORIGIN, f"https://other.example, {ORIGIN}", "*"])
def test_a_page_of_a_named_origin_may_call(
    client: Callable[[str | None], FlaskClient], origins: str
) -> None:
    asked = client(origins).options(
        "/v1/jobs",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": ", ".join(SENT),
        },
    )
    called = client(origins).get(
        "/v1/jobs", headers={"Origin": ORIGIN, "Authorization": f"Bearer {KEY}"}
    )

    assert asked.status_code == called.status_code == 200
    for answer in (asked, called):
        assert answer.headers["Access-Control-Allow-Origin"] in {ORIGIN, "*"}
        assert "Access-Control-Allow-Credentials" not in answer.headers
    sent = asked.headers["Access-Control-Allow-Headers"]
    assert {*sent.lower().replace(" ", "").split(",")} == {name.lower() for name in SENT}
    read = called.headers["Access-Control-Expose-Headers"]
    assert {*read.replace(" ", "").split(",")} == {*READ}


def test_a_page_may_ask_without_a_key_which_methods_a_route_has(
    client: Callable[[str | None], FlaskClient],
) -> None:
    page = client(ORIGIN)
    for rule in page.application.url_map.iter_rules():
        if rule.rule.startswith("/v1/"):
            answer = page.options(re.sub(r"<.*?>", "1", rule.rule), headers={"Origin": ORIGIN})
            assert (answer.status_code, "Allow" in answer.headers) == (200, True), rule


@pytest.mark.parametrize("origins", [None, "https://other.example"])
def test_a_page_of_another_origin_may_not(
    client: Callable[[str | None], FlaskClient], origins: str | None
) -> None:
    answer = client(origins).get(
        "/v1/jobs", headers={"Origin": ORIGIN, "Authorization": f"Bearer {KEY}"}
    )

    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_page_of_a_named_origin_may_read_the_image_of_a_link(
    client: Callable[[str | None], FlaskClient],
) -> None:
    answer = client(ORIGIN).get("/images/job/0/1/token", headers={"Origin": ORIGIN})

    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_callbacks_are_for_no_page(client: Callable[[str | None], FlaskClient]) -> None:
    answer = client("*").post("/callbacks/hiapi/x/y", headers={"Origin": ORIGIN})

    assert "Access-Control-Allow-Origin" not in answer.headers
