"""The commands of the pages: which are run by a test, and why others are not.

A block of commands is run, unless a comment above it says `not run: <reason>`, or names the test
that runs it. `python -m tests.docs.commands` counts them.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.docs.pages import DocPage

#: A block of commands, and the comment above it.
_BLOCK = re.compile(
    r"(?ms)^(?P<indent> *)(?:<!-- (?P<mark>[^\n]+) -->\n *)?"
    r"```(?P<language>sh|bash|console)\n(?P<text>.*?)^ *```$"
)
#: A line of a console that is a command: by a user or by root.
_PROMPT = re.compile(r"[$#] ")


@dataclass(frozen=True)
class CommandBlock:
    """A block of commands in a page.

    Attributes:
        page: its path below the project's root.
        line: the number of its first line.
        script: its commands, without prompts and output.
        mark: the comment above it, or "".
    """

    page: str
    line: int
    script: str
    mark: str

    @property
    def is_run(self) -> bool:
        """Whether tests/system/test_page_commands.py runs it."""
        return not self.mark


def command_blocks(page: DocPage) -> Iterator[CommandBlock]:
    """Yield the blocks of commands of a page."""
    for found in _BLOCK.finditer(page.text):
        text = textwrap.dedent(found["text"])
        script = "\n".join(_commands(text)) if found["language"] == "console" else text
        line = page.text.count("\n", 0, found.start("text")) + 1
        yield CommandBlock(page.path, line, script, found["mark"] or "")


def _commands(text: str) -> Iterator[str]:
    """Yield the lines of a console that are commands. A backslash continues a command."""
    continued = False
    for line in text.splitlines():
        if continued or _PROMPT.match(line):
            yield line if continued else line[2:]
            continued = line.endswith("\\") or (continued and line.rstrip().endswith("'") is False)
        else:
            continued = False


def main() -> None:
    """Print how many blocks are run, and the reasons for the others."""
    from tests.docs.test_pages import PAGES  # noqa: PLC0415  # it imports this module

    blocks = [block for page in PAGES for block in command_blocks(page)]
    for block in blocks:
        if not block.is_run:
            sys.stdout.write(f"{block.page}:{block.line}: {block.mark}\n")
    counts = Counter(
        block.mark.partition(":")[0] or "run by tests/system/test_page_commands.py"
        for block in blocks
    )
    sys.stdout.write(", ".join(f"{number} {what}" for what, number in counts.items()) + "\n")


if __name__ == "__main__":
    main()
