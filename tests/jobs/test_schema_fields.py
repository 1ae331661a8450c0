"""The fields of our schemas accept and refuse what marshmallow's own fields do."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError, fields

from orchestrator.jobs.schema_fields import Text, text
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
