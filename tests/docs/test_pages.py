"""Facts that hold for every page."""

from __future__ import annotations

import re

from orchestrator.cli.stack import ROOT
from orchestrator.providers import BUILT_IN
from orchestrator.settings.settings import VARIABLES
from tests.docs.pages import DocPage

PAGES = [
    DocPage(str(path.relative_to(ROOT)))
    for path in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")))
]


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    broken = {page.path: page.broken_links() for page in PAGES}
    assert {path: links for path, links in broken.items() if links} == {}


def test_every_variable_exists() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"\bORCHESTRATOR_[A-Z_]+[A-Z]\b", page.text)
    }
    assert {name.removesuffix("_FILE") for name in named} - VARIABLES == set()


def test_the_index_lists_every_page() -> None:
    index = DocPage("docs/README.md")
    linked = set(re.findall(r"\]\(([^)#]+)\)", index.text))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    operations = {f"operations/{path.name}" for path in (ROOT / "docs/operations").glob("*.md")}
    assert pages | operations <= linked
    assert {"adr/README.md", "providers/README.md"} <= linked


def test_the_decision_records_are_numbered_and_listed() -> None:
    records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert [name[:4] for name in records] == [f"{n:04d}" for n in range(1, len(records) + 1)]
    listed = re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", DocPage("docs/adr/README.md").text)
    assert listed == records
    for name in records:
        headings = re.findall(r"(?m)^## (.+)$", (ROOT / "docs" / "adr" / name).read_text("utf-8"))
        assert headings == ["Context", "Decision", "Consequences"], name


def test_the_glossary_is_sorted() -> None:
    words = DocPage("docs/glossary.md").column("word")
    assert words == sorted(words, key=str.lower)


def test_the_architecture_page_names_every_module() -> None:
    """A row names one module, and after it other modules of the same folder."""
    named: list[str] = []
    for cell in DocPage("docs/architecture.md").column("module"):
        first, *others = re.findall(r"[\w/{}]+\.py\b", cell) or [""]
        named += [first, *(f"{first.rpartition('/')[0]}/{name}" for name in others)]
    modules = [
        str(path.relative_to(ROOT))
        for package in ("orchestrator", "webhooks", "workers")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    adapters = {f"orchestrator/providers/{name}.py" for name in BUILT_IN}

    assert sorted({*named} - {"", "orchestrator/providers/{provider}.py"}) == sorted(
        {*modules} - adapters
    )


def test_the_architecture_page_shows_the_layers_of_the_contract() -> None:
    contract = (ROOT / "pyproject.toml").read_text("utf-8")
    [listed] = re.findall(r"(?s)containers = \[\"orchestrator\"\].*?layers = \[(.*?)\]", contract)
    [picture] = DocPage("docs/architecture.md").text.split("```")[3:4]
    shown = [re.findall(r"([a-z_]+)(?:/|\.py)", line) for line in picture.splitlines()]
    places = {name: number for number, names in enumerate(shown) for name in names}
    layers = [re.findall(r"\w+", layer) for layer in re.findall(r'"([^"]+)"', listed)]
    for names in layers:
        assert len({places[name] for name in names}) == 1, names
    lines = [places[names[0]] for names in layers]
    assert lines == sorted(set(lines))


def test_the_comparison_shows_what_was_measured() -> None:
    measured = DocPage("docs/performance.md").rows("system")
    rates = {row[0]: row[1].partition(" ")[0] for row in measured if "(" in row[1]}
    paid = {row[0]: row[1] for row in measured if "(" not in row[1]}
    shown = DocPage("docs/comparison.md").rows("measured")
    names = {"this product": "ours"}
    assert [[names.get(row[0], row[0]), *row[1:]] for row in shown] == [
        [system, rate, paid[system]] for system, rate in rates.items()
    ]
