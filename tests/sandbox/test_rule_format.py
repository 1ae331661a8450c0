"""How a rule is read, from JSON, from YAML or from the page."""

from typing import Any

import pytest

from sandbox.catalogue import CATALOGUE
from sandbox.registry import PROVIDERS
from sandbox.rule_format import FIELDS, RuleError, read_rule
from sandbox.rule_spec import RuleSpec
from tests.support.cases import for_each


def test_reads_every_field() -> None:
    document = {
        **{"provider": "evolink", "match": "a: b", "times": 1, "after": 2, "every": 3},
        **{"share": "2.5 %", "faults": ["drop"]},
    }

    assert read_rule(document) == RuleSpec({"drop": True}, "evolink", "a: b", 1, 2, 3, 2.5)


@for_each(
    ("faults", "expected"),
    [
        ({"lost_response": None}, {"lost_response": True}),
        ({"lost_response": True, "duplicate": 5}, {"lost_response": True, "duplicate": 5}),
        ({"late": "30s"}, {"late": 30.0}),
        ({"late": 0.5}, {"late": 0.5}),
        ({"late": 2}, {"late": 2.0}),
        ({429: {"retry_after": 2}}, {"429": 2.0}),
        ({"429": {"retry_after": "500ms"}}, {"429": 0.5}),
        ({"429": {"retry_after": None}}, {"429": 1.0}),
        ({"429": None}, {"429": 1.0}),
        ({429: 2}, {"429": 2.0}),
        ({"fail": "content_policy"}, {"fail": "content_policy"}),
        ({"image": 404}, {"image": "404"}),
        ({"image": "503/7s*2"}, {"image": "503/7s*2"}),
        (["drop", "duplicate", "hang"], {"drop": True, "duplicate": 2, "hang": 60.0}),
        ([429], {"429": 1.0}),
    ],
)
def test_reads_every_form_of_a_fault(faults: object, expected: object) -> None:
    assert read_rule({"faults": faults}).faults == expected


_NAMES = ", ".join(provider.name for provider in PROVIDERS)
_FAULTS = ", ".join(kind.syntax for kind in CATALOGUE.values())
_FAULT_LIST = f"an object of name: value, or a list of names, from {_FAULTS}"
_COUNT = "a whole number of at least 1, or null for "
_SHARE = "a percentage such as 20%, above 0% and up to 100%, or null for 100%"
_PROVIDER = f"one of {_NAMES}, or null for every provider"
_MATCH = "a non-empty part of the prompt, or null for every prompt"
_DURATION = "a time such as 2, 1.5s, 500ms or 2m, at most 86400s"


def _with(**fields: object) -> dict[str, object]:
    return {"faults": {"drop": True}, **fields}


def test_refuses_a_wrong_rule() -> None:
    refused: list[tuple[Any, str, Any, str]] = [
        ([], "rule", [], "an object with " + ", ".join(FIELDS)),
        ("drop", "rule", "drop", "an object with " + ", ".join(FIELDS)),
        (None, "rule", None, "an object with " + ", ".join(FIELDS)),
        (_with(extra=1), "extra", 1, ", ".join(FIELDS)),
        ({1: 1}, "1", 1, ", ".join(FIELDS)),
        ({}, "faults", None, _FAULT_LIST),
        ({"faults": {}}, "faults", {}, _FAULT_LIST),
        ({"faults": []}, "faults", [], _FAULT_LIST),
        ({"faults": "drop"}, "faults", "drop", _FAULT_LIST),
        ({"faults": [{"drop": None}]}, "faults", [{"drop": None}], _FAULT_LIST),
        ({"faults": ["late"]}, "faults.late", "late", "late=SECONDS"),
        ({"faults": [True]}, "faults.True", "True", _FAULTS),
        ({"faults": {"dorp": True}}, "faults.dorp", "dorp", _FAULTS),
        ({"faults": {"429": {"s": 2}}}, "faults.429", {"s": 2}, "{retry_after: WAIT}"),
        ({"faults": {"429": {}}}, "faults.429", {}, "{retry_after: WAIT}"),
        ({"faults": {"late": {"s": 2}}}, "faults.late", {"s": 2}, "late=SECONDS"),
        ({"faults": {"late": [2]}}, "faults.late", [2], "late=SECONDS, or omitted"),
        ({"faults": {"late": True}}, "faults.late", "late", "late=SECONDS"),
        ({"faults": {"late": "soon"}}, "faults.late", "soon", _DURATION),
        ({"faults": {"fail": False}}, "faults.fail", False, "fail[=CODE], or omitted"),
        ({"faults": {"drop": 1}}, "faults.drop", "1", "drop without a value"),
        ({"faults": {"duplicate": 0}}, "faults.duplicate", "0", "a whole number from 1 to 100"),
        (
            {"faults": {"image": {"x": 1}}},
            *("faults.image", {"x": 1}, "image=KIND[/SECONDS][*N]"),
        ),
        (
            {"faults": {"500": True, "503": True}},
            *("faults.503", "500 and 503", "the only submission fault of the rule"),
        ),
        (_with(times=0), "times", 0, _COUNT + "no limit"),
        (_with(times=True), "times", True, _COUNT + "no limit"),
        (_with(times="2"), "times", "2", _COUNT + "no limit"),
        (_with(after=-1), "after", -1, _COUNT + "0"),
        (_with(after=1.5), "after", 1.5, _COUNT + "0"),
        (_with(every=0), "every", 0, _COUNT + "1"),
        (_with(share=20), "share", 20, _SHARE),
        (_with(share="0%"), "share", "0%", _SHARE),
        (_with(share="101%"), "share", "101%", _SHARE),
        (_with(share="-1%"), "share", "-1%", _SHARE),
        (_with(provider=["x"]), "provider", ["x"], _PROVIDER),
        (_with(provider="x"), "provider", "x", _PROVIDER),
        (_with(match=""), "match", "", _MATCH),
        (_with(match=42), "match", 42, _MATCH),
        (
            {"faults": {"cancelled": True}, "provider": "hiapi"},
            *("faults.cancelled", "cancelled", "a fault that hiapi supports"),
        ),
    ]
    for document, field, value, allowed in refused:
        with pytest.raises(RuleError) as error:
            read_rule(document)

        assert (error.value.field, error.value.value) == (field, value)
        assert error.value.allowed == allowed


@for_each(
    ("document", "message"),
    [
        ({}, "faults is required"),
        ({"tims": 1}, f"tims is not a known field; known fields: {', '.join(FIELDS)}"),
        ({"faults": ["dorp"]}, f"faults.dorp is not a known fault; known faults: {_FAULTS}"),
        ({"times": 0}, f"times must be {_COUNT}no limit; got 0"),
        ({"times": "x" * 5000}, f"times must be {_COUNT}no limit; got '{'x' * 79}…"),
        ({"x" * 5000: 1}, f"{'x' * 80}… is not a known field; known fields: {', '.join(FIELDS)}"),
    ],
)
def test_every_error_has_one_form(document: object, message: str) -> None:
    with pytest.raises(RuleError) as error:
        read_rule(document)

    assert str(error.value) == message
