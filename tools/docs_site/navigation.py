"""The navigation of the site, from the index docs/README.md: a page stands under its kind."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from tools.docs_site.links import ROOT, site_uri

#: The word in the column `kind` of the index, and the section of the site.
SECTIONS = {
    "start": "Start",
    "tutorial": "Tutorials",
    "task": "How-to",
    "reference": "Reference",
    "explanation": "Explanation",
}
#: Folders with a section of their own.
OPERATIONS, PROVIDERS, DECISIONS = "docs/operations/", "docs/providers/", "docs/adr/"
_ROW = re.compile(r"(?m)^\| \[([^\]]+)\]\(([^)]+)\) \| (\w+) \|")


def rows() -> list[tuple[str, str, str]]:
    """Return the rows of the index: title, path in the repository, kind."""
    text = (ROOT / "docs/README.md").read_text("utf-8")
    found = _ROW.findall(text)
    return [(title, posixpath.normpath(f"docs/{link}"), kind) for title, link, kind in found]


def navigation(made: dict[str, str], project: list[str]) -> list[dict[str, Any]]:
    """Return the navigation in the form of mkdocs.yml.

    Args:
        made: the titles of pages that are made from the code, by their sources. They are reference.
        project: the paths of other Markdown files, for the last section.
    """
    sections: dict[str, list[Any]] = {title: [] for title in SECTIONS.values()}
    sections["Start"] = [{"Home": "index.md"}]
    operations: list[Any] = []
    for title, path, kind in rows():
        page: dict[str, Any] = {title: site_uri(path)}
        if path.startswith(PROVIDERS):
            page = {title: [site_uri(path), *_folder(PROVIDERS)]}
        if not path.startswith(DECISIONS):
            place = operations if path.startswith(OPERATIONS) else sections[SECTIONS[kind]]
            place.append(page)
    sections["Start"].append({"All pages": "all-pages.md"})
    sections["Reference"] += [{title: uri} for uri, title in made.items()]
    listed = {path for _, path, _ in rows()}
    others = [site_uri(path) for path in sorted(project) if path not in listed]
    return [
        *({title: pages} for title, pages in sections.items() if pages),
        {"Operations": operations},
        {"Decisions": [site_uri(f"{DECISIONS}README.md"), *_folder(DECISIONS)]},
        {"Project": others},
    ]


def _folder(folder: str) -> list[str]:
    """Return the pages of a folder except its index."""
    pages = sorted((ROOT / folder).glob("*.md"))
    return [site_uri(f"{folder}{page.name}") for page in pages if page.name != "README.md"]
