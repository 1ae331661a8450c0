"""A form of a request loads what marshmallow loads, and its errors are those of marshmallow."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import Schema, ValidationError

from orchestrator.job_check import REQUEST_SCHEMA
from orchestrator.jobs import request_forms
from tests.support.cases import for_each

UNIFIED = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A red cube"}
NATIVE = {"provider": "hiapi", "request": {"model": "m", "prompt": "A red cube"}}
DATA: list[Any] = [
    UNIFIED,
    {**UNIFIED, "metadata": {"order": 17}, "n": 2, "images": ["https://a.example/1.png"]},
    {**UNIFIED, "fallback": [{"provider": "evolink", "model": "m"}], "notify_stream": "jobs"},
    {**UNIFIED, "images": ("https://a.example/1.png", "https://a.example/2.png")},
    NATIVE,
    {},
    {**UNIFIED, "promt": "x", "n": 0},
    {**UNIFIED, "model": None},
    {
        **UNIFIED,
        "metadata": {
            "deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]
        },
    },
    {**UNIFIED, "request": {}},
    {**UNIFIED, "fallback": [{"provider": "hiapi", "model": "m"}]},
    {**UNIFIED, "fallback": [{"provider": "evolink", "modle": "m"}]},
    {**NATIVE, "model": "other"},
    {1: 2},
    [UNIFIED],
    None,
]


def _loaded(load: Any, data: Any) -> Any:
    try:
        return load(data)
    except ValidationError as error:
        return error.messages


@for_each("data", DATA)
def test_a_form_loads_what_marshmallow_loads(data: Any) -> None:
    expected = _loaded(lambda d: Schema.load(REQUEST_SCHEMA, d), data)
    assert _loaded(REQUEST_SCHEMA.load, data) == expected


def test_a_valid_request_needs_no_other_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Schema, "load")
    assert REQUEST_SCHEMA.load(dict(UNIFIED)).options == {"prompt": "A red cube"}


def test_forms_are_bounded() -> None:
    limit = request_forms.form_of.cache_parameters()["maxsize"]
    assert limit == request_forms.MAX_FORMS


@pytest.mark.parametrize("place", ["request", "fallback"])
def test_names_that_a_caller_invents_are_not_kept(place: str) -> None:
    def refused(name: str) -> None:
        invented = {name: 1} if place == "request" else {"fallback": [{name: 1}]}
        with pytest.raises(ValidationError):
            REQUEST_SCHEMA.load({**UNIFIED, **invented})

    refused("invented")
    kept = request_forms.form_of.cache_info().currsize
    for number in range(20):
        refused(f"invented{number}")

    assert request_forms.form_of.cache_info().currsize == kept
