"""Reads the documentation's pages: tables, code blocks and links. Prose is not compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from orchestrator.cli.stack import ROOT

DOCS = ROOT / "docs"

#: Units of time in the tables, in seconds.
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class DocPage:
    """One page, by its path below the project's root."""

    path: str

    @cached_property
    def text(self) -> str:
        return (ROOT / self.path).read_text("utf-8")

    def blocks(self, language: str) -> list[str]:
        """Return the code blocks of a language."""
        return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", self.text)

    def block(self, language: str, mark: str) -> str:
        """Return the one code block of a language that contains `mark`."""
        [block] = [block for block in self.blocks(language) if mark in block]
        return block

    def rows(self, header: str) -> list[list[str]]:
        """Return the cells of every table whose first column has this header."""
        parts = self.text.split(f"\n| {header} |")[1:]
        assert parts, f"{self.path} has no table {header!r}"
        lines = [line for part in parts for line in part.split("\n\n")[0].splitlines()[2:]]
        return [line.strip("| ").split(" | ") for line in lines]

    def column(self, header: str) -> list[str]:
        """Return the first column of such tables, without back-ticks."""
        return [row[0].strip("`") for row in self.rows(header)]

    def value(self, header: str, name: str) -> str:
        """Return the second cell of the row that begins with `name`."""
        [value] = [row[1] for row in self.rows(header) if row[0] == name]
        return value

    def broken_links(self) -> list[str]:
        """Return the links to files or headings that do not exist."""
        return [link for link in re.findall(r"\]\(([^)\s]+)\)", self.text) if self.is_broken(link)]

    def is_broken(self, link: str) -> bool:
        """Return whether a link leads to a file or a heading that does not exist."""
        if re.match(r"[a-z]+:", link):
            return False
        path, _, anchor = link.partition("#")
        target = (ROOT / self.path).parent / path if path else ROOT / self.path
        if not target.exists():
            return True
        return bool(anchor) and anchor not in _anchors(target.read_text("utf-8"))


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def code(cell: str) -> list[str]:
    """Return the texts between back-ticks."""
    return re.findall(r"`([^`]+)`", cell)


def numbers(cell: str) -> list[float]:
    """Return the numbers in a cell; `10,000` is one number."""
    return [float(text.replace(",", "")) for text in re.findall(r"\d[\d,]*(?:\.\d+)?", cell)]


def seconds(cell: str) -> list[float]:
    """Return the times in a cell, such as `5 s`, `30 min` or `24 h`, in seconds."""
    found = re.findall(r"(\d+(?:\.\d+)?) (s|min|h|d)\b", cell)
    return [float(number) * SECONDS[unit] for number, unit in found]
