"""Imports the test files in another order in each process of pytest-xdist.

pytest compiles a test file at its first import. In a new checkout that takes 15 s for all files.
Each process begins with another file. So each compiles a part, and reads what the others compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module

import pytest


def import_tests(config: pytest.Config, ignored: frozenset[str]) -> None:
    """Import the test files of this run, if it has several processes.

    Args:
        config: of this process. Its arguments name folders and files.
        ignored: names of folders in `tests` that this run leaves out.
    """
    here: dict[str, object] = getattr(config, "workerinput", {})
    if not here:
        return
    names = [name for name in _modules(config) if name.split(".")[1] not in ignored]
    # A conftest.py says which modules pytest has to compile.
    first = [name for name in names if name.endswith(".conftest")]
    rest = [name for name in names if name not in first]
    start = (
        len(rest) * int(str(here["workerid"]).removeprefix("gw")) // int(str(here["workercount"]))
    )
    for name in (*first, *rest[start:], *rest[:start]):
        # pytest imports a file that failed again, and reports the error.
        with suppress(Exception, pytest.skip.Exception):
            import_module(name)


def _modules(config: pytest.Config) -> Iterator[str]:
    """Yield the names of the modules that the arguments name."""
    for argument in config.args:
        path = config.invocation_params.dir / argument.partition("::")[0]
        if path.is_dir():
            for pattern in ("conftest.py", "test_*.py"):
                for file in sorted(path.rglob(pattern)):
                    yield ".".join(file.relative_to(config.rootpath).with_suffix("").parts)
