"""The OpenAPI document: a good client can be generated from it, and we answer as it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.openapi import PROBLEM_JSON
from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from tests.api.conftest import Api
from tests.support.web import WebApp

if TYPE_CHECKING:
    from tests.api.described import DescribedApi

METHODS = {"get", "post", "put", "patch", "delete"}
OPERATIONS = (
    *("create_job", "list_jobs", "get_job", "get_job_events", "quote_job"),
    *("create_bulk_action", "get_bulk_action"),
    *("list_bulk_actions", "stop_bulk_action"),
    *("cancel_job", "retry_job", "poll_job", "notify_job", "get_image", "get_thumbnail"),
    "get_image_link",
    *("list_providers", "pause_provider", "resume_provider", "get_stats"),
    *("get_usage", "create_batch", "get_batch", "notify_batch"),
    *("list_rejected", "get_rejected", "replay_rejected", "delete_rejected"),
)
#: Operations with rules that no JSON schema tells: the limits of each model, printable keys.
WITH_OTHER_RULES = {"create_bulk_action", "create_job", "create_batch", "list_jobs", "get_usage"}


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    answer = api.get("/openapi.json")
    assert isinstance(answer.json, dict)
    return answer.json


@pytest.fixture
def served(api: Api, tmp_path: Path) -> DescribedApi:
    from tests.api.described import DescribedApi  # noqa: PLC0415  # see there

    history = History(f"sqlite:///{tmp_path}/history.db")
    runtime = replace(api.harness.runtime, open_history=lambda: history)
    Recorder(runtime.ledger, history, runtime.clock).record()
    return DescribedApi.of(WebApp(runtime).app(), api.as_admin().headers)


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from (described for method, described in methods.items() if method in METHODS)


def test_every_operation_has_a_name_a_summary_and_its_errors(document: dict[str, Any]) -> None:
    listed = list(operations(document))

    assert sorted(each["operationId"] for each in listed) == sorted(OPERATIONS)
    for each in listed:
        assert each["summary"]
        assert each["security"] == [{"bearer": []}]
        assert {"401", "403", "422", "500", "503"} <= set(each["responses"])
        for status, answer in each["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == [PROBLEM_JSON]


def test_the_document_names_our_address(document: dict[str, Any]) -> None:
    assert document["servers"] == [{"url": "https://hooks.example.com"}, {"url": "./"}]


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_every_answer_is_as_described(served: DescribedApi, operation_id: str) -> None:
    served.check_answers(operation_id, has_other_rules=operation_id in WITH_OTHER_RULES)


def test_sequences_of_calls_are_as_described(served: DescribedApi) -> None:
    served.check_sequences()
