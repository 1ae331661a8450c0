"""`pip install` without the dev extra gives a product that can be imported, at pinned versions."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.cli.stack import ROOT
from tests.deployment.kit import text

PACKAGES = ("orchestrator", "workers", "webhooks")
OURS = {*PACKAGES, "sandbox"}
#: The extras of the product.
EXTRAS = ("local", "mcp", "otel", "postgres")
#: Modules that need an extra, by the start of their paths.
OF_EXTRAS = {"orchestrator/mcp_server/": "mcp", "orchestrator/history/postgresql.py": "postgres"}
#: `compression` is there from Python 3.14 on. Before it, a distribution replaces it.
STANDARD_LIBRARY = {*sys.stdlib_module_names, "compression"}


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads(text("pyproject.toml"))


def declared(*extras: str) -> set[str]:
    """The distributions that pyproject.toml asks for."""
    project = pyproject()["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    return {canonicalize_name(Requirement(line).name) for line in wanted}


def imports(tree: ast.AST, *, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Every imported top-level name, and whether only a function or a `try` block imports it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name.partition(".")[0], inside) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0], inside
        elif not isinstance(node, ast.expr):
            optional = ast.FunctionDef | ast.AsyncFunctionDef | ast.Try
            yield from imports(node, inside=inside or isinstance(node, optional))


@cache
def third_party(*packages: str) -> set[tuple[str, str, bool]]:
    """File, distribution, and whether the module can be imported without it."""
    provides, wanted = packages_distributions(), declared(*EXTRAS)
    found: set[tuple[str, str, bool]] = set()
    for path in (file for package in packages for file in (ROOT / package).rglob("*.py")):
        for name, inside in imports(ast.parse(path.read_bytes())):
            if name not in OURS and name not in STANDARD_LIBRARY:
                given = [canonicalize_name(each) for each in provides.get(name, [])]
                # Several distributions share the name `opentelemetry`.
                known = [each for each in given if each in wanted]
                distribution = next(iter(known or given), f"(nobody provides {name})")
                found.add((str(path.relative_to(ROOT)), distribution, inside))
    return found


def undeclared(needed: set[tuple[str, str]], *extras: str) -> set[tuple[str, str]]:
    """The files and distributions that pyproject.toml does not ask for."""
    known = declared(*extras)
    return {(path, name) for path, name in needed if name not in known}


def test_what_a_module_imports_is_a_declared_dependency() -> None:
    needed = {(path, name) for path, name, inside in third_party(*PACKAGES) if not inside}
    others = {(path, name) for path, name in needed if not path.startswith(tuple(OF_EXTRAS))}
    assert others
    assert undeclared(others) == set()
    for start, extra in OF_EXTRAS.items():
        own = {(path, name) for path, name in needed if path.startswith(start)}
        assert own
        assert undeclared(own, extra) == set()


def test_what_a_module_can_do_without_is_declared_too_if_only_as_an_extra() -> None:
    needed = {(path, name) for path, name, inside in third_party(*PACKAGES) if inside}
    assert needed, "the embedded Redis is one"
    assert undeclared(needed, *EXTRAS) == set()


def test_what_the_sandbox_imports_is_declared_with_its_extra() -> None:
    needed = {(path, name) for path, name, _ in third_party("sandbox")}
    assert undeclared(needed, "local") == set()


def closure(wanted: list[Requirement]) -> set[str]:
    """The distributions that pip would install for these, on this Python."""
    found: dict[str, set[str]] = {}
    while wanted:
        requirement = wanted.pop()
        name, extras = canonicalize_name(requirement.name), requirement.extras | {""}
        new = extras - found.setdefault(name, set())
        found[name] |= new
        for line in requires(requirement.name) or []:
            needs = Requirement(line)
            if any(needs.marker is None or needs.marker.evaluate({"extra": e}) for e in new):
                wanted.append(needs)
    return set(found)


def test_every_distribution_that_the_image_installs_is_pinned() -> None:
    lines = [Requirement(line) for line in text("constraints.txt").splitlines()]
    pinned = {canonicalize_name(line.name) for line in lines if str(line.specifier)[:2] == "=="}
    wanted = closure([Requirement(line) for line in pyproject()["project"]["dependencies"]])
    assert wanted - pinned == set()


#: A line of requirements.lock: name, version, condition.
LOCKED = re.compile(
    r"(?m)^([a-z0-9-]+)==(\S+)(?: ; (.+?))? \\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+"
)


def test_the_lock_of_the_image_is_in_step_with_the_constraints() -> None:
    """`make lock` writes it."""
    locked = {
        canonicalize_name(found[1]): found[2]
        for found in LOCKED.finditer(text("requirements.lock"))
    }
    lines = [Requirement(line) for line in text("constraints.txt").splitlines()]
    pinned = {canonicalize_name(line.name): str(line.specifier)[2:] for line in lines}
    extras = pyproject()["project"]["optional-dependencies"]
    chosen = [*extras["mcp"], *extras["otel"], *extras["postgres"]]
    direct = [*pyproject()["project"]["dependencies"], *chosen]

    assert LOCKED.sub("", text("requirements.lock")) == ""
    assert {name: pinned.get(name) for name in locked} == locked
    assert closure([Requirement(line) for line in direct]) - set(locked) == set()
    assert "setuptools" in locked


@pytest.mark.parametrize("package", sorted(OURS))
def test_every_file_of_a_package_is_installed_with_it(package: str) -> None:
    patterns = pyproject()["tool"]["setuptools"]["package-data"].get(package, [])
    data = {file for pattern in patterns for file in (ROOT / package).glob(pattern)}
    files = {f for f in (ROOT / package).rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    left_out = {file for file in files - data if not _is_module(file)}
    assert left_out == set()


def _is_module(file: Path) -> bool:
    """A Python file that setuptools finds: each folder above it is a package."""
    folders = [folder for folder in file.parents if folder.is_relative_to(ROOT) and folder != ROOT]
    return file.suffix == ".py" and all((folder / "__init__.py").exists() for folder in folders)
