"""What MkDocs calls while it builds the site."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.docs_site import calls, commands
from tools.docs_site.links import ROOT, outside, relinked, site_uri, source_page
from tools.docs_site.navigation import navigation

#: Pages that are made from the code, by their sources: their titles.
MADE = {commands.URI: "Commands", calls.URI: "HTTP calls"}
#: One arrow of a state diagram in Mermaid: from, to, event.
_ARROW = re.compile(r"(?m)^ *(\S+) --> (\S+): (.+)$")
_DIAGRAM = re.compile(r"(?ms)^```mermaid\n(.*?)^```$")

#: The path in the repository of each page of the site.
_sources: dict[str, str] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation."""
    config.nav = navigation(MADE, [path for path in _others() if path.endswith(".md")])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    _sources.clear()
    for file in list(files.documentation_pages()):
        _sources[file.src_uri] = f"docs/{file.src_uri}"
    index = files.get_file_from_path("README.md")
    if index is not None:
        files.remove(index)
    for path in ("README.md", "docs/README.md", *sorted(_others())):
        uri = site_uri(path)
        _sources[uri] = path
        text = (ROOT / path).read_text("utf-8") if path.endswith(".md") else source_page(path)
        files.append(File.generated(config, uri, content=text))
    document = calls.document()
    files.append(File.generated(config, commands.URI, content=commands.page()))
    files.append(File.generated(config, calls.URI, content=calls.page(document)))
    files.append(File.generated(config, "openapi.json", content=calls.as_json(document)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links lead to pages of the site, and show state diagrams as tables."""
    source = _sources.get(page.file.src_uri)
    if source is None or page.file.src_uri.startswith("files/"):
        return markdown
    return _DIAGRAM.sub(_table, relinked(markdown, source))


def _table(diagram: re.Match[str]) -> str:
    """Return the arrows of a diagram as a table. What draws diagrams would come from elsewhere."""
    rows = [
        f"| {'(new)' if start == '[*]' else start} | {end} | {event} |"
        for start, end, event in _ARROW.findall(diagram[1])
    ]
    return "\n".join(["| from | to | event |", "| --- | --- | --- |", *rows])


def _others() -> set[str]:
    """Return the files outside of docs/ that get a page, except the README."""
    pages = {
        str(path.relative_to(ROOT)): path.read_text("utf-8")
        for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    }
    return outside(pages)
