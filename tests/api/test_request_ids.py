"""`X-Request-ID`: in every answer, and in every log line of a request."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from orchestrator import log
from orchestrator.api.request_ids import CHOSEN, HEADER
from tests.api.conftest import Api


def choosing(api: Api, request_id: str) -> Api:
    return replace(api, headers={**api.headers, HEADER: request_id})


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/none", "/no/such/path", "/healthz"])
def test_every_answer_has_an_id_of_its_own(api: Api, path: str) -> None:
    first, second = (api.get(path).headers[HEADER] for _ in range(2))

    assert first.startswith("req_")
    assert CHOSEN.fullmatch(first)
    assert first != second


def test_a_caller_may_choose_the_id(api: Api) -> None:
    assert choosing(api, "shop-17:a/b").get("/v1/jobs").headers[HEADER] == "shop-17:a/b"


@pytest.mark.parametrize("chosen", ["", "two words", "x" * 129, 'a"b', "a\x1b[31m"])
def test_an_id_that_could_harm_a_log_is_replaced(api: Api, chosen: str) -> None:
    assert choosing(api, chosen).get("/v1/jobs").headers[HEADER].startswith("req_")


def test_the_log_lines_of_a_request_have_its_id(
    api: Api, capfd: pytest.CaptureFixture[str]
) -> None:
    log.configure()
    try:
        choosing(api, "shop-17").with_key("wrong").get("/v1/jobs")
        choosing(api.with_key("wrong"), "shop-18").get("/v1/jobs")
        log.get().info("afterwards")
    finally:
        log.reset()

    lines = [orjson.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line.get("request") for line in lines][1:] == ["shop-18", None]
