"""Where a file of the repository is on the site, and how pages link to it.

The pages link as they do at a code host: by the paths of files. A file outside of docs/ that a page
links to gets a page of its own. So no link leads to another host.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Pages with another name on the site.
RENAMED = {"README.md": "index.md", "docs/README.md": "all-pages.md"}
#: The target of a Markdown link or picture.
_LINK = re.compile(r"\]\(([^)\s]+)\)")
#: A file with more is shown without colours. Bytes.
MAX_COLOURED_BYTES = 50_000
#: The language of a code block, by the ending of a file's name.
_LANGUAGES = {"py": "python", "yml": "yaml", "yaml": "yaml", "sh": "sh", "json": "json"}


def site_uri(path: str) -> str:
    """Return the source of the page of a file or folder, relative to the site's root."""
    if path in RENAMED:
        return RENAMED[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"project/{path}" if path.endswith(".md") else f"files/{path.lstrip('.')}.md"


def targets(text: str, source: str) -> dict[str, str]:
    """Return the links of a page to files of the repository.

    Args:
        text: the Markdown text.
        source: the path of its file in the repository.

    Returns:
        by the link as it is written: the path of the file or folder in the repository.
    """
    found = {}
    for link in _LINK.findall(text):
        name = link.partition("#")[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
        if name and ":" not in name and not path.startswith("..") and (ROOT / path).exists():
            found[link] = path
    return found


def relinked(text: str, source: str) -> str:
    """Return a page with links to the pages of the site."""
    here = posixpath.dirname(site_uri(source))
    known = targets(text, source)

    def target(match: re.Match[str]) -> str:
        link = match[1]
        if link not in known:
            return match[0]
        _, mark, anchor = link.partition("#")
        there = posixpath.relpath(site_uri(known[link]), here or ".")
        return f"]({there}{mark}{anchor})"

    return _LINK.sub(target, text)


def outside(pages: dict[str, str]) -> set[str]:
    """Return the files and folders outside of docs/ that pages link to, by their paths.

    Args:
        pages: the texts of pages by their paths. Markdown files that they link to are read, too.
    """
    found: set[str] = set()
    queue = list(pages.items())
    while queue:
        source, text = queue.pop()
        for path in targets(text, source).values():
            if path in found or path in pages or path.startswith("docs/"):
                continue
            found.add(path)
            if path.endswith(".md"):
                queue.append((path, (ROOT / path).read_text("utf-8")))
    return found


def source_page(path: str) -> str:
    """Return the page of a file that is not Markdown, or of all files of a folder."""
    root = ROOT / path
    files = [root] if root.is_file() else sorted(each for each in root.rglob("*") if _shown(each))
    parts = [f"---\nsearch:\n  exclude: true\n---\n# {path}\n"]
    for file in files:
        name = file.relative_to(ROOT)
        text = file.read_text("utf-8")
        coloured = len(text) <= MAX_COLOURED_BYTES
        language = _LANGUAGES.get(file.suffix.removeprefix("."), "text") if coloured else "text"
        title = f"## {name}\n\n" if root.is_dir() else ""
        parts.append(f"{title}``````{language}\n{text.rstrip()}\n``````\n")
    return "\n".join(parts)


def _shown(file: Path) -> bool:
    hidden = any(part == "__pycache__" or part.endswith(".egg-info") for part in file.parts)
    return file.is_file() and not hidden
