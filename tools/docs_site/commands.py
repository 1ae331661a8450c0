"""The page of all commands, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from orchestrator.cli import main

URI = "commands.md"
#: The width of a help text. Characters.
HELP_CHARACTERS = 100
_HEAD = """\
# Commands

`orchestrator COMMAND --help` prints the same. `--json` prints JSON for programs. The exit status is
0 only when what was asked happened.
"""


def page() -> str:
    """Return the page in Markdown: a table of all commands, and the help of each."""
    # A context without these settings would also change the names of the help option of `main`.
    root = click.Context(main, info_name="orchestrator", **main.context_settings)
    listed = list(_commands(root))
    rows = [
        f"| [`{context.command_path}`](#{context.command_path.replace(' ', '-')}) "
        f"| {context.command.get_short_help_str(HELP_CHARACTERS).replace('|', chr(92) + '|')} |"
        for context in listed
    ]
    table = "\n".join(["| command | what it does |", "| --- | --- |", *rows])
    parts = [
        f"## {context.command_path}\n\n```text\n{context.get_help().rstrip()}\n```\n"
        for context in listed
    ]
    return "\n".join([_HEAD, f"{table}\n", *parts])


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Yield a context for each command that does something, in the order of the help."""
    command = context.command
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        if child is not None and not child.hidden:
            inner = click.Context(
                child,
                info_name=name,
                parent=context,
                max_content_width=HELP_CHARACTERS,
                terminal_width=HELP_CHARACTERS,
            )
            yield from _commands(inner)
