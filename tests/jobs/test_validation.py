"""The one form of error sentences, and near names."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import fields

from orchestrator.jobs.schema_fields import always, links, text
from orchestrator.jobs.schemas import JobRequestSchema
from orchestrator.jobs.validation import (
    MAX_SHOWN_CHARACTERS,
    MAX_VIOLATIONS,
    InvalidRequest,
    OneOfNames,
    StrictSchema,
    Violation,
    checked,
    nearest,
    plain,
    shown,
)
from tests.support.cases import for_each

SMALLEST = {"provider": "mill", "model": "mill-1", "prompt": "x"}


class Inner(StrictSchema):
    prompt = text(required=True, maximum=5)
    ratio = text(one_of=("1:1", "16:9"))
    pictures = links(maximum=1)


class Sample(StrictSchema):
    model = text(required=True, one_of=("mill-1", "mill-1-turbo"))
    input = fields.Nested(Inner, required=True, error_messages=always("a JSON object"))
    tag = text()


def sentences(data: Any) -> list[str]:
    with pytest.raises(InvalidRequest) as refusal:
        checked(Sample(), data)
    return sorted(map(str, refusal.value.violations))


INNER = {"prompt": "x"}


@for_each(
    ("body", "sentence"),
    [
        ({"input": INNER}, "model is required"),
        ({"model": "mill-1"}, "input is required"),
        ({"model": "mill-1", "input": {}}, "input.prompt is required"),
        (
            {"model": "mill-1", "input": {"promt": "x", "prompt": "x"}},
            "input.promt is not a known field; did you mean prompt?",
        ),
        (
            {"model": "mill-1", "input": INNER, "zzz": 1},
            "zzz is not a known field; known fields: input, model, tag",
        ),
        (
            {"model": "mill-1-turb", "input": INNER},
            "model must be one of mill-1, mill-1-turbo;"
            ' got "mill-1-turb"; did you mean mill-1-turbo?',
        ),
        (
            {"model": "zzz", "input": INNER},
            'model must be one of mill-1, mill-1-turbo; got "zzz"',
        ),
        (
            {"model": "mill-1", "input": {"prompt": "xxxxxx"}},
            'input.prompt must be a string of 1 to 5 characters; got "xxxxxx"',
        ),
        (
            {"model": "mill-1", "input": INNER, "tag": ""},
            'tag must be a string of at least 1 character; got ""',
        ),
        ({"model": "mill-1", "input": 7}, "input must be a JSON object; got 7"),
        (
            {"model": "mill-1", "input": INNER, "tag": None},
            "tag must be a value, not null; got null",
        ),
        (
            {"model": "mill-1", "input": {**INNER, "pictures": ["x"]}},
            'input.pictures.0 must be an http(s) URL; got "x"',
        ),
        ([], "body must be a JSON object; got []"),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence(body: Any, sentence: str) -> None:
    assert sentences(body) == [sentence]


@pytest.mark.parametrize(
    ("request_", "field", "near"),
    [
        ({**SMALLEST, "notify_ur": "x"}, "notify_ur", "notify_url"),
        ({**SMALLEST, "Resolution": "1K"}, "Resolution", "resolution"),
        ({**SMALLEST, "provider": "Mill"}, "provider", "mill"),
        ({**SMALLEST, "on_unconfirmed": "resubmitt"}, "on_unconfirmed", "resubmit"),
    ],
)
def test_a_request_suggests_the_near_name(request_: Any, field: str, near: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        checked(JobRequestSchema(["mill", "other"]), request_)

    [violation] = refusal.value.violations
    assert violation.field == field
    assert str(violation).endswith(f"did you mean {near}?")


def test_several_errors_are_listed_in_one_line() -> None:
    error = InvalidRequest(Violation("a", 1, "x"), Violation("b", "16:10", OneOfNames(["16:9"])))

    assert str(error) == 'a must be x; got 1; b must be one of 16:9; got "16:10"'


@pytest.mark.parametrize(
    ("name", "near"), [("nano-banan", "nano-banana"), ("NANO-BANANA", "nano-banana"), ("x", None)]
)
def test_the_nearest_name_ignores_case(name: str, near: str | None) -> None:
    assert nearest(name, ["nano-banana", "gpt-image-2"]) == near


@for_each(
    ("value", "in_sentence", "alone"),
    [
        ("x", '"x"', "x"),
        ("", '""', ""),
        (7, "7", "7"),
        (None, "null", "null"),
        ([1], "[1]", "[1]"),
        ("\ud800", "'\\ud800'", "'\\ud800'"),
    ],
)
def test_a_value_is_json_in_a_sentence_and_plain_text_alone(
    value: Any, in_sentence: str, alone: str
) -> None:
    assert (shown(value), plain(value)) == (in_sentence, alone)


def test_a_long_value_is_shortened() -> None:
    value = "x" * 5000

    assert plain(value) == f"{value[:MAX_SHOWN_CHARACTERS]}... (5000 characters)"
    assert shown(value) == f'"{value[:MAX_SHOWN_CHARACTERS]}"... (5000 characters)'


@pytest.mark.parametrize("name", ["images", "fallback"])
def test_the_items_of_a_list_that_is_too_long_are_not_checked(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked(JobRequestSchema(["mill"]), {**SMALLEST, name: [1] * 1000})

    [violation] = refused.value.violations
    assert violation.field == name
    assert "a list of at most" in violation.allowed


def test_no_more_errors_are_told_than_somebody_reads() -> None:
    class Images(StrictSchema):
        images = links()

    with pytest.raises(InvalidRequest) as of_items:
        checked(Images(), {"images": [1] * 1000})
    with pytest.raises(InvalidRequest) as of_fields:
        checked(Images(), {f"image{number}": 1 for number in range(1000)})

    assert len(of_items.value.violations) == MAX_VIOLATIONS
    assert str(of_fields.value).count("not a known field") == MAX_VIOLATIONS
