"""Fault scripts: rules from a YAML file."""

from pathlib import Path
from typing import Any

import yaml

from .rule_format import RuleError, read_terms
from .rule_spec import Terms

#: a script is some dozens of lines; anything much larger is another file
MAX_BYTES = 64 * 1024

_SHAPE = "a list of rules, each begun by '- '"


class ScriptError(Exception):
    """A script that cannot be read. One line: the file, the place in it, and what is allowed."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(" ".join(f"{where}: {problem}".split()))


class _Loader(yaml.SafeLoader):
    """YAML without the two things that do harm here: aliases and repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            # A few of them, nested, make a value too long to print.
            problem = "aliases such as *name are not allowed; allowed: the value written out"
            raise yaml.composer.ComposerError(None, None, problem, self.current_event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            # As written: 429 and "429" are one fault. A key that is no scalar fails below.
            if str(key.value) in seen:
                problem = f"{key.value} is there twice; allowed: once (is a '- ' missing?)"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_script(path: Path) -> tuple[Terms, ...]:
    """The rules of a fault script; ScriptError when there is anything wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ScriptError(str(path), f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ScriptError(str(path), f"is too long; allowed: {MAX_BYTES // 1024} KiB")
    try:
        return tuple(_rules(path, _Loader(data)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ScriptError(f"{path}{line}", str(error.problem or error.context)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScriptError(str(path), f"is no YAML that can be read: {error}") from error


def _rules(path: Path, loader: _Loader) -> list[Terms]:
    document = loader.get_single_node()
    if document is None:
        return []
    if not isinstance(document, yaml.SequenceNode):
        line = document.start_mark.line + 1
        raise ScriptError(f"{path}, line {line}", f"is no list; allowed: {_SHAPE}")
    rules = []
    for number, node in enumerate(document.value, start=1):
        try:
            rules.append(read_terms(loader.construct_document(node)))
        except RuleError as error:
            line = node.start_mark.line + 1
            raise ScriptError(f"{path}, rule {number} (line {line})", str(error)) from error
    return rules
