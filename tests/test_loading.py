"""What a process loads. Some processes of ours need little, and the rest takes memory and time."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules

import pytest

import orchestrator

#: Each takes megabytes. Only a process that works with jobs needs them.
OF_JOBS = {"celery", "flask", "kombu", "obstore", "pycurl", "redis", "requests"}


def loaded_by(code: str) -> set[str]:
    """Return the names of the modules that a new process has after this code."""
    command = [sys.executable, "-P", "-c", f"{code}; import sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.server
def test_the_package_loads_nothing_before_its_first_use() -> None:
    loaded = loaded_by("import orchestrator")
    assert {name for name in loaded if name.startswith("orchestrator.")} == set()


@pytest.mark.server
@pytest.mark.parametrize("module", ["webhooks.__main__", "orchestrator.mcp_server.__main__"])
def test_a_process_that_does_nothing_with_jobs_loads_nothing_for_them(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert (loaded & OF_JOBS, "orchestrator.runtime" in loaded) == (set(), False)


def test_the_import_of_a_module_replaces_no_public_name() -> None:
    names = orchestrator.__all__
    modules = {module.name for module in iter_modules(orchestrator.__path__)}
    assert modules.isdisjoint(names)
    assert [name for name in names if not hasattr(orchestrator, name)] == []


def test_type_checkers_know_the_same_names() -> None:
    source = ast.parse(Path(orchestrator.__file__).read_text("utf-8"))
    imported = {
        name.name: node.module
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("orchestrator.")
        for name in node.names
    }
    assert imported == orchestrator._MODULES
    assert set(imported) == set(orchestrator.__all__)


def test_only_public_names_are_looked_for() -> None:
    assert set(orchestrator.__all__) <= set(dir(orchestrator))
    with pytest.raises(AttributeError, match="no attribute 'enqeue'"):
        getattr(orchestrator, "enqeue")  # noqa: B009  # mypy would refuse it
