"""The fields of our schemas accept and refuse what marshmallow's own fields do."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError, fields

from orchestrator.jobs.schema_fields import Text, number, switch, text, whole
from tests.support.cases import for_each
from tests.support.strategies import CHARACTERS

NAMES = ("1K", "2K")
SURROGATE = "\ud800 "
TEXTS = st.text(CHARACTERS, max_size=8)
VALUES = st.one_of(TEXTS, st.sampled_from([*NAMES, SURROGATE, None, 2, b"1K", b"\xff"]))


def _loaded(load: Any, value: Any) -> Any:
    try:
        return load(value)
    except ValidationError as error:
        return ValidationError, error.messages


@given(VALUES)
def test_a_text_gets_the_answer_of_marshmallow(value: Any) -> None:
    for field in (text(minimum=2, maximum=6), text(minimum=0), text(one_of=NAMES)):

        def marshmallow_load(value: Any, field: Text = field) -> Any:
            return fields.String.deserialize(field, value)

        assert _loaded(field.deserialize, value) == _loaded(marshmallow_load, value)


def test_limits_of_a_copy_leave_the_original_alone() -> None:
    original = text()
    deepcopy(original).limit_to(NAMES)

    assert original.deserialize("4K") == "4K"
    assert original.error_messages["invalid"] == "a string of at least 1 character"


@for_each(
    ("field", "accepted", "refused"),
    [
        (switch(), (True, False), (1, 0, 1.0, "true", "1", None)),
        (number(0, 10), (1, 0.5), ("1", b"1", "1e0", True, None, float("nan"), 11)),
        (whole(0, 10), (1,), ("1", True, 1.0, 1.5, None, 11)),
    ],
)
def test_a_value_of_another_type_is_refused_as_json_schema_refuses_it(
    field: fields.Field[Any], accepted: tuple[Any, ...], refused: tuple[Any, ...]
) -> None:
    assert tuple(map(field.deserialize, accepted)) == accepted
    for value in refused:
        with pytest.raises(ValidationError):
            field.deserialize(value)


def test_a_number_names_its_unit_and_its_limits_in_full() -> None:
    field = number(1, 604_800, unit="seconds")

    with pytest.raises(ValidationError, match="a number of seconds from 1 to 604800"):
        field.deserialize(0)
