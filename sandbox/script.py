"""Fault scripts: rules from a YAML file."""

from pathlib import Path
from typing import Any

import yaml

from .rule_format import RuleError, read_rule
from .rule_spec import RuleSpec

#: Largest script. A script has a few dozen lines, so a larger file is another file. Bytes.
MAX_BYTES = 64 * 1024


class ScriptError(Exception):
    """A script that cannot be read. The message is one line: file, place and problem."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(" ".join(f"{where}: {problem}".split()))


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses aliases and repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            # A few nested aliases make a value that is too long to print.
            problem = "an alias such as *name is not allowed; write the value itself"
            raise yaml.composer.ComposerError(None, None, problem, self.current_event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            # Keys are compared as written: 429 and "429" are the same fault. A key that is not a
            # scalar fails below.
            if str(key.value) in seen:
                problem = f"{key.value} must occur once; got it twice (is a '- ' missing?)"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_script(path: Path) -> tuple[RuleSpec, ...]:
    """Return the rules of a fault script.

    Raises:
        ScriptError: The file cannot be read, is not valid YAML or has an invalid rule.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ScriptError(str(path), f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ScriptError(str(path), f"must be at most {MAX_BYTES // 1024} KiB long")
    try:
        return tuple(_rules(path, _Loader(data)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ScriptError(f"{path}{line}", str(error.problem or error.context)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScriptError(str(path), f"is not valid YAML: {error}") from error


def _rules(path: Path, loader: _Loader) -> list[RuleSpec]:
    document = loader.get_single_node()
    if document is None:
        return []
    if not isinstance(document, yaml.SequenceNode):
        line = document.start_mark.line + 1
        raise ScriptError(f"{path}, line {line}", "must be a list of rules that begin with '- '")
    rules = []
    for number, node in enumerate(document.value, start=1):
        try:
            rules.append(read_rule(loader.construct_document(node)))
        except RuleError as error:
            line = node.start_mark.line + 1
            raise ScriptError(f"{path}, rule {number} (line {line})", str(error)) from error
    return rules
