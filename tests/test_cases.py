"""The loop over values of a test: tests/support/cases.py."""

from __future__ import annotations

import inspect

import pytest

from tests.support.cases import for_each


def test_each_value_is_used_with_each_other() -> None:
    seen = []

    @for_each("third", [5, 6])
    @for_each(("first", "second"), [(1, 2), (3, 4)])
    def test(fixture: str, first: int, second: int, third: int) -> None:
        seen.append((fixture, first, second, third))

    assert list(inspect.signature(test).parameters) == ["fixture"]
    test(fixture="f")
    assert seen == [("f", 1, 2, 5), ("f", 3, 4, 5), ("f", 1, 2, 6), ("f", 3, 4, 6)]


def test_an_error_names_its_value() -> None:
    @for_each("value", [1, 0])
    def test(value: int) -> None:
        assert value

    with pytest.raises(AssertionError) as failure:
        test()
    assert failure.value.__notes__ == ["with {'value': 0}"]


def test_a_name_that_the_test_does_not_have_is_refused() -> None:
    with pytest.raises(AssertionError):

        @for_each("other", [1])
        def test(value: int) -> None:
            raise AssertionError(value)
