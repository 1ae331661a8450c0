"""`orchestrator.providers.api`: the one module that an adapter imports."""

from __future__ import annotations

import ast
from pathlib import Path

from orchestrator.cli.stack import ROOT
from orchestrator.providers import BUILT_IN, api
from tests.docs.pages import DocPage, code
from tests.support.cases import for_each

ADAPTERS = [ROOT / "orchestrator" / "providers" / f"{name}.py" for name in BUILT_IN]
EXAMPLE = ROOT / "examples" / "pixelmill" / "orchestrator_pixelmill.py"


def imported(path: Path) -> set[str]:
    """Return the modules of this project that a file imports."""
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {module for module in modules if module.partition(".")[0] == "orchestrator"}


@for_each("path", [*ADAPTERS, EXAMPLE])
def test_an_adapter_imports_only_the_api(path: Path) -> None:
    assert imported(path) == {"orchestrator.providers.api"}


def test_every_public_name_is_exported_and_sorted() -> None:
    public = {name for name in vars(api) if not name.startswith("_") and name != "annotations"}
    assert set(api.__all__) == public
    assert api.__all__ == sorted(api.__all__)


def test_the_page_lists_every_name() -> None:
    rows = DocPage("docs/adding-a-provider.md").rows("name")
    assert sorted(name for row in rows for name in code(row[0])) == api.__all__
