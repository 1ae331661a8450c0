"""The documentation site builds without a warning, has every page, and loads nothing from afar."""

from __future__ import annotations

import logging
import re
import subprocess
import warnings
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from mkdocs.commands.build import build
from mkdocs.config import load_config

from orchestrator.cli import main
from orchestrator.cli.stack import ROOT
from tests.docs.test_pages import PAGES
from tools.docs_site import commands
from tools.docs_site.links import site_uri

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site. A warning stops the build, also one of an unlisted page."""
    folder = tmp_path_factory.mktemp("site")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # MkDocs' and its plug-ins' own
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        logging.getLogger("mkdocs").setLevel(logging.INFO)
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
        assert (config.strict, config.validation.nav.omitted_files) == (True, logging.WARNING)
        build(config)
    return folder


def test_make_docs_builds_it() -> None:
    recipe = ["make", "--dry-run", "--assume-old=.venv/.site", "docs"]
    shown = subprocess.run(recipe, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m mkdocs build" in shown


def test_every_page_is_there(site: Path) -> None:
    pages = [site_uri(page.path).replace("README.md", "index.md") for page in PAGES]
    missing = [page for page in pages if not (site / page).with_suffix(".html").exists()]
    assert missing == []


def test_every_command_and_every_call_is_there(site: Path) -> None:
    text = (site / commands.URI).with_suffix(".html").read_text("utf-8")
    for command in ("enqueue", "keys create", "tenants set", "worker"):
        assert f'id="orchestrator-{command.replace(" ", "-")}"' in text
    calls = (site / "http-calls.html").read_text("utf-8")
    paths = orjson.loads((site / "openapi.json").read_bytes())["paths"]
    assert len(paths) > 20
    assert [path for path in paths if f"{path}</code>" not in calls] == []


def test_it_finds_words(site: Path) -> None:
    index = orjson.loads((site / "search/search_index.json").read_bytes())
    found = {entry["location"] for entry in index["docs"] if "Idempotency-Key" in entry["text"]}
    assert {"index.html", "http-calls.html"} <= {place.partition("#")[0] for place in found}


def test_it_loads_nothing_from_another_host(site: Path) -> None:
    loads = re.compile(r"<(?:script|img|iframe|source)[^>]* src=\"?(?:https?:)?//[^\s>]+")
    links = re.compile(r"<link[^>]* href=\"?(?:https?:)?//[^\s>]+")
    styles = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)]+")
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert [*loads.findall(text), *links.findall(text)] == [], page
    for sheet in site.rglob("*.css"):
        assert styles.findall(sheet.read_text("utf-8")) == [], sheet


def test_the_page_of_commands_shows_the_help_as_the_commands_do() -> None:
    page = commands.page()

    assert "  -h, --help " in page
    assert not re.search(r"^  --help ", page, re.MULTILINE)
    assert CliRunner().invoke(main, ["-h"]).exit_code == 0
