"""The OpenAPI document: a good client can be generated from it, and we answer as it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import Case
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from orchestrator.api.openapi import PROBLEM_JSON
from orchestrator.history.history import History
from orchestrator.history.recorder import Recorder
from tests.api.conftest import Api
from webhooks.app import create_app

METHODS = {"get", "post", "put", "patch", "delete"}
OPERATIONS = (
    *("create_job", "list_jobs", "get_job", "get_job_events"),
    *("create_bulk_action", "get_bulk_action"),
    *("cancel_job", "retry_job", "notify_job", "get_image", "get_thumbnail"),
    "get_image_link",
    *("list_providers", "pause_provider", "resume_provider", "get_stats"),
    "get_usage",
)
#: Operations with rules that no JSON schema tells: the limits of each model, printable keys.
WITH_OTHER_RULES = {"create_bulk_action", "create_job", "list_jobs", "get_usage"}
SETTINGS = settings(
    max_examples=4,
    stateful_step_count=8,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def document(api: Api) -> dict[str, Any]:
    answer = api.get("/openapi.json")
    assert isinstance(answer.json, dict)
    return answer.json


@pytest.fixture
def served(api: Api, tmp_path: Path) -> OpenApiSchema:
    config = SchemathesisConfig.from_dict({"generation": {"codec": "ascii"}})
    history = History(f"sqlite:///{tmp_path}/history.db")
    runtime = replace(api.harness.runtime, open_history=lambda: history)
    Recorder(runtime.ledger, history, runtime.clock).record()
    app = create_app(runtime)
    return schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)


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
def test_every_answer_is_as_described(served: OpenApiSchema, api: Api, operation_id: str) -> None:
    operation = served.find_operation_by_id(operation_id)
    excluded: list[Any] = [positive_data_acceptance] if operation_id in WITH_OTHER_RULES else []
    for mode in GenerationMode:

        @SETTINGS
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers(case: Case[Any]) -> None:
            case.call_and_validate(headers=api.as_admin().headers, excluded_checks=excluded)

        answers()


def test_sequences_of_calls_are_as_described(served: OpenApiSchema, api: Api) -> None:
    class Calls(served.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
            return {"headers": api.as_admin().headers}

        def validate_response(self, response: Any, case: Case[Any], **options: Any) -> None:
            case.validate_response(
                response, excluded_checks=[positive_data_acceptance, ignored_auth]
            )

    run_state_machine_as_test(Calls, settings=SETTINGS)
