"""Runs a test for several values that prove the same, as one case."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any


def for_each(
    names: str | tuple[str, ...], values: Iterable[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test once for each value. A case of pytest takes longer than most of these tests.

    The test has no fixture that remembers what a value did. An error names its value.

    Args:
        names: the parameter, or the parameters as a tuple.
        values: each a value, or a tuple with a value for each name.
    """
    rows = [
        {names: value} if isinstance(names, str) else dict(zip(names, value, strict=True))
        for value in values
    ]

    def decorated(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def each(*arguments: Any, **fixtures: Any) -> None:
            for row in rows:
                try:
                    test(*arguments, **fixtures, **row)
                except BaseException as error:
                    error.add_note(f"with {row!r}")
                    raise

        signature = inspect.signature(test)
        mine = {names} if isinstance(names, str) else set(names)
        assert mine <= signature.parameters.keys()
        others = [each for name, each in signature.parameters.items() if name not in mine]
        each.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return each

    return decorated
