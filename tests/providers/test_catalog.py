"""Unified options become a provider's body, and its errors name the caller's fields."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import fields, validate

from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.schema_fields import links, text
from orchestrator.jobs.validation import InvalidRequest, StrictSchema, Violation
from orchestrator.providers.catalog import (
    CALLBACK_FIELDS,
    Family,
    Model,
    as_written,
    check_extras,
    checkable,
    field_at,
    get_path,
    limits,
    merged,
    set_path,
    to_body,
)
from tests.support.cases import for_each

OBJECTS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers() | st.none() | st.lists(st.integers(), max_size=2),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


class Input(StrictSchema):
    prompt = text(required=True, maximum=5)
    pictures = links(minimum=1, maximum=2)
    ratio = text(one_of=("1:1", "2:1"))
    count = fields.Integer(validate=validate.Range(1, 4))
    least = fields.Integer(validate=validate.Range(0))
    free = fields.String()


class CatalogBody(StrictSchema):
    model = text(required=True)
    input = fields.Nested(Input, required=True)
    tag = text(minimum=0)


MODEL = Model(
    CatalogBody(),
    {
        "prompt": ("input", "prompt"),
        "images": ("input", "pictures"),
        "aspect_ratio": ("input", "ratio"),
        "n": ("input", "count"),
        "resolution": ("tag",),
    },
    spellings={"resolution": {"1K": "one"}, "images": {"x": "y"}},
    values={"resolution": ("1K", "2K")},
)


# Bodies --------------------------------------------------------------------------------------


def test_options_have_the_places_and_the_spelling_of_the_model() -> None:
    options = {"prompt": "A cat", "resolution": "1K", "n": 2, "images": ["x"]}

    assert to_body(MODEL, "m", options) == {
        "model": "m",
        "input": {"prompt": "A cat", "count": 2, "pictures": ["x"]},
        "tag": "one",
    }


@for_each("value", ["2K", "", None, 7, [], {}])
def test_a_value_without_another_spelling_is_unchanged(value: Any) -> None:
    assert to_body(MODEL, "m", {"resolution": value}) == {"model": "m", "tag": value}


def test_an_option_that_the_model_does_not_accept_is_absent() -> None:
    assert to_body(MODEL, "m", {"output_format": "png"}) == {"model": "m"}


def test_a_value_is_set_beside_the_others() -> None:
    body: dict[str, Any] = {"a": {"x": 1}}

    set_path(body, ("a", "b", "c"), 7)
    set_path(body, ("d",), 8)

    assert body == {"a": {"x": 1, "b": {"c": 7}}, "d": 8}
    assert (get_path(body, ("a", "b", "c")), get_path(body, ("d",)), get_path(body, ())) == (
        7,
        8,
        body,
    )


@for_each("body", [{}, {"a": None}, {"a": 7}, {"a": []}, {"a": {}}])
def test_a_path_that_does_not_exist_has_no_value(body: dict[str, Any]) -> None:
    assert get_path(body, ("a", "b")) is None


# Families ------------------------------------------------------------------------------------

TIERED = Family("m-1K", {"1K": "m-1K", "4K": "m-4K"})


def test_a_resolution_chooses_the_model_and_is_removed() -> None:
    options = {"prompt": "A cat", "resolution": "4K"}

    assert TIERED.choose(options) == ("m-4K", {"prompt": "A cat"})
    assert options == {"prompt": "A cat", "resolution": "4K"}


def test_without_a_resolution_it_is_the_default() -> None:
    assert TIERED.choose({"prompt": "A cat"}) == ("m-1K", {"prompt": "A cat"})


def test_a_family_of_one_model_leaves_the_resolution_to_it() -> None:
    assert Family("m").choose({"resolution": "4K"}) == ("m", {"resolution": "4K"})


@for_each("wanted", ["2K", "4k", "", None, 4, []])
def test_a_resolution_without_a_model_is_refused(wanted: Any) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        TIERED.choose({"resolution": wanted})

    assert refusal.value.violations == (Violation("resolution", wanted, "one of 1K, 4K"),)


# provider_options ----------------------------------------------------------------------------


def test_extras_are_merged_deep_and_win() -> None:
    body = {"a": 1, "b": {"x": 1, "y": {"z": 1}}, "c": {"x": 1}, "d": [1]}
    extras = {"b": {"y": {"z": 2, "w": 3}}, "c": None, "d": [2], "e": {"x": 1}}

    assert merged(body, extras) == {
        "a": 1,
        "b": {"x": 1, "y": {"z": 2, "w": 3}},
        "c": None,
        "d": [2],
        "e": {"x": 1},
    }


@given(OBJECTS, OBJECTS)
def test_merging_changes_neither_and_twice_is_once(
    body: dict[str, Any], extras: dict[str, Any]
) -> None:
    before = copy.deepcopy((body, extras))

    once = merged(body, extras)

    assert (body, extras) == before
    assert merged(once, extras) == once
    assert merged(body, {}) == body
    assert merged({}, extras) == extras


def test_each_reserved_name_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_extras({"callback": 1, "model": 1, "other": 1, "callback_url": 1}, CALLBACK_FIELDS)

    assert [v.field for v in refusal.value.violations] == [
        "provider_options.callback",
        "provider_options.model",
        "provider_options.callback_url",
    ]


def test_a_reserved_name_inside_an_object_is_allowed() -> None:
    check_extras({"input": {"model": "x", "callback": "y"}}, CALLBACK_FIELDS)


def test_unknown_fields_are_not_checked_at_any_depth() -> None:
    extras = {"tag": "t", "new": 1, "input": {"ratio": "9:9", "seed": 7}}
    body = merged({"model": "m", "input": {"prompt": "A cat"}}, extras)

    assert checkable(CatalogBody(), body, extras) == {
        "model": "m",
        "tag": "t",
        "input": {"prompt": "A cat", "ratio": "9:9"},
    }
    assert body["new"] == 1
    assert body["input"]["seed"] == 7


@pytest.mark.parametrize("value", [None, 7, "x", []])
def test_a_value_in_place_of_an_object_is_checked_by_the_schema(value: Any) -> None:
    assert checkable(CatalogBody(), {"input": value}, {"input": value}) == {"input": value}


# Errors with the caller's fields --------------------------------------------------------------


@for_each(
    ("extras", "field", "named"),
    [
        ({}, "input.prompt", "prompt"),
        ({}, "input.pictures.1", "images.1"),
        ({}, "input.pictured", "input.pictured"),
        ({}, "elsewhere", "elsewhere"),
        ({"input": {"ratio": "9:9"}}, "input.ratio", "provider_options.input.ratio"),
        ({"input": {"ratio": None}}, "input.ratio", "provider_options.input.ratio"),
        ({"input": {"ratio": "9:9"}}, "input.prompt", "prompt"),
        ({"input": {"pictures": ["x"]}}, "input.pictures.0", "provider_options.input.pictures.0"),
        ({"input": {"pictures": ["x"]}}, "input.pictures", "provider_options.input.pictures"),
        ({"input": 7}, "input", "provider_options.input"),
        ({"input": None}, "input.prompt", "provider_options.input.prompt"),
        ({"tag": ""}, "tag", "provider_options.tag"),
        ({"other": ""}, "tag", "resolution"),
    ],
)
def test_a_field_is_named_as_the_caller_wrote_it(
    extras: dict[str, Any], field: str, named: str
) -> None:
    request = JobRequest("p", "m", options={"prompt": "A cat"}, provider_options=extras)

    written = as_written(Violation(field, "value", "allowed"), MODEL, request)

    assert written == Violation(named, "value", "allowed")


def test_in_a_native_request_it_is_named_by_its_place_there() -> None:
    request = JobRequest("p", "m", native={})

    written = as_written(Violation("input.prompt", 7, "a string"), MODEL, request)

    assert written == Violation("request.input.prompt", 7, "a string")


# Limits --------------------------------------------------------------------------------------


@for_each(
    ("option", "expected"),
    [
        ("prompt", {"min_length": 1, "max_length": 5}),
        ("images", {"min_length": 1, "max_length": 2}),
        ("aspect_ratio", {"one_of": ["1:1", "2:1"]}),
        ("n", {"min": 1, "max": 4}),
        ("resolution", {"one_of": ["1K", "2K"]}),
    ],
)
def test_the_limits_of_an_option_are_those_of_its_field_or_its_own_values(
    option: str, expected: dict[str, Any]
) -> None:
    assert limits(MODEL, option) == expected


def test_an_absent_limit_is_absent() -> None:
    model = Model(CatalogBody(), {"n": ("input", "least"), "prompt": ("input", "free")})

    assert limits(model, "n") == {"min": 0}
    assert limits(model, "prompt") == {}


def test_a_field_is_found_by_its_path() -> None:
    assert isinstance(field_at(CatalogBody(), ("input",)), fields.Nested)
    assert isinstance(field_at(CatalogBody(), ("input", "count")), fields.Integer)
    assert field_at(CatalogBody(), ("input", "no_such")) is None
