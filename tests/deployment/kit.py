"""Reads the files that a deployment is made from, and does with them what Docker would."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from orchestrator.cli.stack import ROOT
from orchestrator.clock import now_ms
from orchestrator.ledger import Ledger

#: What Docker runs a shell line with.
SHELL = ["/bin/sh", "-c"]


@cache
def services() -> Mapping[str, dict[str, Any]]:
    """The services of docker-compose.yml, by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(text("docker-compose.yml"))["services"]
    return found


@cache
def text(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def unescaped(value: Any) -> Any:
    """A value after Compose's interpolation: `$$` is a dollar, and variables have defaults."""
    if not isinstance(value, str):
        return [unescaped(part) for part in value]
    value = re.sub(r"(?<!\$)\$\{[A-Z_]+:-([^}$]*)\}", r"\1", value)
    assert not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", value), f"Compose would replace part of {value}"
    return value.replace("$$", "$")


def seconds(duration: str) -> int:
    """A duration of the Compose file."""
    assert duration.endswith("s"), duration
    return int(duration[:-1])


def healthy(service: str, env: Mapping[str, str]) -> bool:
    """Whether a service's health check passes in `env`. A busy machine may need more time."""
    check = services()[service]["healthcheck"]
    kind, *command = unescaped(check["test"])
    line = command if kind == "CMD" else [*SHELL, *command]
    return (
        subprocess.run(line, env=env, timeout=120, capture_output=True, check=False).returncode == 0
    )


def swept(redis_url: str, *, seconds_ago: float) -> None:
    """Have the ledger say that the last sweep was then."""
    then = now_ms() - int(seconds_ago * 1000)
    Ledger.from_url(redis_url).installation.mark_sweep(now=then, host="test")


@dataclass(frozen=True)
class Instruction:
    """One instruction of the Dockerfile; `arguments` as the shell would split them."""

    name: str
    rest: str

    @property
    def arguments(self) -> list[str]:
        return shlex.split(self.rest)


def dockerfile() -> list[Instruction]:
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text("Dockerfile")))
    lines = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name, rest) for name, rest in lines]


def instructions(name: str) -> list[Instruction]:
    return [instruction for instruction in dockerfile() if instruction.name == name]


def variables(name: str) -> dict[str, str]:
    """What all ENV or ARG instructions together set."""
    pairs = [pair for found in instructions(name) for pair in found.arguments]
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def copied() -> Iterator[str]:
    """What the Dockerfile copies from the checkout."""
    for instruction in instructions("COPY"):
        if not instruction.rest.startswith("--from="):
            yield from instruction.arguments[:-1]


def in_context(path: str) -> bool:
    """Whether Docker is shown a file of the checkout.

    The last line of .dockerignore decides that matches it, or a folder it is in. Understood is the
    part of the language that ours uses: *, **/ and !.
    """
    seen = True
    folders = [path, *map(str, Path(path).parents)][:-1]
    for line in text(".dockerignore").splitlines():
        if line and not line.startswith("#"):
            pattern = re.compile(_expression(line.removeprefix("!")))
            if any(pattern.fullmatch(part) for part in folders):
                seen = line.startswith("!")
    return seen


def _expression(pattern: str) -> str:
    return re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")


#: A setting of .env.example; one that is commented out shows its default.
_SETTING = re.compile(r"(?m)^(#?)([A-Z_]+)=(.*)$")


def example(*, with_defaults: bool = False) -> dict[str, str]:
    """The settings of .env.example; those that are commented out only if asked for."""
    found = _SETTING.findall(text(".env.example"))
    return {name: value for off, name, value in found if with_defaults or not off}
