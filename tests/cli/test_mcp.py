"""`orchestrator mcp`: what it becomes, and when it refuses to start."""

from __future__ import annotations

import os
import sys

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.cli.ports import free_port

KEY = {"ORCHESTRATOR_MCP_KEY": "orch_secret-key"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that this process would have become."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: commands.append(command))
    return commands


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(main, ["mcp", *arguments])


def test_it_becomes_the_server_and_shows_no_key(started: list[list[str]]) -> None:
    port = str(free_port())
    hosts = {"ORCHESTRATOR_MCP_HOSTS": "agents.example.com"}
    for arguments, variables in (
        ((), KEY),
        (("--http", f"localhost:{port}"), {}),
        (("--http", f"0.0.0.0:{port}"), hosts),
    ):
        result = run(*arguments, **variables)
        assert result.exit_code == 0, result.output

    process = [sys.executable, "-P", "-m", "orchestrator.mcp_server"]
    assert started == [
        process,
        [*process, "--host", "127.0.0.1", "--port", port],
        [*process, "--host", "0.0.0.0", "--port", port],
    ]


@pytest.mark.parametrize(
    ("arguments", "variables", "reason"),
    [
        ((), {}, "ORCHESTRATOR_MCP_KEY is not set"),
        ((), {**KEY, "ORCHESTRATOR_MCP_API_URL": "ftp://x"}, "ORCHESTRATOR_MCP_API_URL must be"),
        ((), {**KEY, "ORCHESTRATOR_MCP_HOSTS": "https://x"}, "host names without a scheme"),
        (("--http", "0.0.0.0:PORT"), {}, "ORCHESTRATOR_MCP_HOSTS is not set"),
        (("--http", "8090"), {}, "HOST:PORT is needed"),
        (("--http", "127.0.0.1:0"), {}, "HOST:PORT is needed"),
        (("--http", "192.0.2.1:PORT"), {}, "Choose another address with --http"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    started: list[list[str]], arguments: tuple[str, ...], variables: dict[str, str], reason: str
) -> None:
    port = str(free_port())
    result = run(*(each.replace("PORT", port) for each in arguments), **variables)

    assert (result.exit_code, started) == (2, [])
    assert reason in result.output
    assert "orch_secret-key" not in result.output


def test_without_the_sdk_it_names_the_extra(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    result = run(**KEY)

    assert (result.exit_code, started) == (2, [])
    assert "pip install 'image-orchestrator[mcp]'" in result.output
