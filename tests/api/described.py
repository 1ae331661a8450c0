"""Sends the requests that our OpenAPI document describes, and compares the answers with it.

Only the tests that use it import it. schemathesis takes half a second and 20 MB in each process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import Case
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

SETTINGS = settings(
    max_examples=4,
    stateful_step_count=8,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@cache
def _schema(app: Flask) -> OpenApiSchema:
    """Return the document of an application. Reading it takes longer than most tests."""
    config = SchemathesisConfig.from_dict({"generation": {"codec": "ascii"}})
    return schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)


@dataclass(frozen=True)
class DescribedApi:
    """An application, as its OpenAPI document describes it."""

    schema: OpenApiSchema
    #: Sent with every request.
    headers: Mapping[str, str]

    @classmethod
    def of(cls, app: Flask, headers: Mapping[str, str]) -> DescribedApi:
        return cls(_schema(app), dict(headers))

    def check_answers(self, operation_id: str, *, has_other_rules: bool) -> None:
        """Send good and bad requests to one operation.

        Args:
            operation_id: its name in the document.
            has_other_rules: a request may be refused although it is as described.
        """
        operation = self.schema.find_operation_by_id(operation_id)
        excluded: list[Any] = [positive_data_acceptance] if has_other_rules else []
        for mode in GenerationMode:

            @SETTINGS
            @given(case=operation.as_strategy(generation_mode=mode))
            def answers(case: Case[Any]) -> None:
                case.call_and_validate(headers=dict(self.headers), excluded_checks=excluded)

            answers()

    def check_sequences(self) -> None:
        """Send sequences of requests that follow the links of the document."""
        headers = dict(self.headers)

        class Calls(self.schema.as_state_machine()):  # type: ignore[misc]
            def get_call_kwargs(self, case: Case[Any]) -> dict[str, Any]:
                return {"headers": headers}

            def validate_response(self, response: Any, case: Case[Any], **options: Any) -> None:
                case.validate_response(
                    response, excluded_checks=[positive_data_acceptance, ignored_auth]
                )

        run_state_machine_as_test(Calls, settings=SETTINGS)
