"""Numbers on the command line of the benchmarks."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.number_arguments import one_or_more
from tests.support.cases import for_each


def test_one_and_more_are_taken() -> None:
    assert [one_or_more("1"), one_or_more("300")] == [1, 300]


@for_each("text", ["0", "-3", "abc", "1.5", ""])
def test_other_text_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        one_or_more(text)

    assert str(refused.value) == f"'{text}' is not a whole number of 1 or more"
