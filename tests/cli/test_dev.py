"""What `orchestrator dev` takes from the environment."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.cli.dev import inherited_settings
from orchestrator.cli.ports import free_port
from orchestrator.providers import PROVIDERS
from tests.support.cases import for_each


def test_limits_and_times_are_taken_and_addresses_and_keys_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PROVIDERS, "pixelmill", PROVIDERS["hiapi"])
    taken = {
        "PIXELMILL_API_KEY": "key",
        "PIXELMILL_BASE_URL": "http://127.0.0.1:9000",
        "HIAPI_MAX_IN_FLIGHT": "2",
        "HIAPI_PRICES": "{}",
        "HIAPI_PRICES_FILE": "/prices",
        "ORCHESTRATOR_JOB_DEADLINE_SECONDS": "60",
    }
    others = {
        "HIAPI_API_KEY": "key",
        "HIAPI_BASE_URL": "https://api.example",
        "HIAPI_WEBHOOK_SECRET": "secret",
        "ORCHESTRATOR_REDIS_URL": "redis://redis.example",
        "ORCHESTRATOR_ADMIN_KEYS_FILE": "/keys",
        "ORCHESTRATOR_SECRET_KEYS_OLD": "old",
        "ORCHESTRATOR_DATA_DIR": "/data",
        "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "0",
        "PATH": "/bin",
    }

    assert inherited_settings({**taken, **others}) == taken


@for_each("option", ["--port", "--sandbox-port"])
@for_each("port", ["0", "-1", "99999999", "http"])
def test_a_port_that_does_not_exist_is_refused(option: str, port: str) -> None:
    result = CliRunner().invoke(main, ["dev", option, port])

    assert result.exit_code == 2
    assert option in result.output
    assert port in result.output


@pytest.mark.server
@pytest.mark.parametrize("option", ["--port", "--sandbox-port"])
def test_a_busy_port_is_refused_with_what_chooses_another_one(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        ports = {"--port": free_port(), "--sandbox-port": free_port()} | {option: port}
        result = CliRunner().invoke(main, ["dev", *chain(*((n, str(p)) for n, p in ports.items()))])
    commands = re.findall("`(.+?)`", result.output)

    assert result.exit_code == 1
    assert str(port) in result.output
    assert [command.split()[0] for command in commands] == ["orchestrator", "make"]
    assert commands[0] == f"orchestrator dev {option} N"
    # What make would run is the same command.
    recipe = subprocess.run(
        ["make", "--dry-run", "--assume-old=.venv/.runtime", *commands[1].split()[1:]],
        env={"PATH": os.environ["PATH"]},  # without the variables of `make test ARGS=...`
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert " ".join(recipe.stdout.split()).endswith(f"/{commands[0]}")


@pytest.mark.server
def test_a_wrong_setting_is_one_line_before_a_process_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `dev` is also the name of the command, so the module is found by its whole name.
    monkeypatch.setattr(sys.modules["orchestrator.cli.dev"], "stop_on_sigterm", lambda: None)
    ports = ["--port", str(free_port()), "--sandbox-port", str(free_port())]
    arguments = [*ports, "--data-dir", str(tmp_path)]
    result = CliRunner(env={"HIAPI_THREADS": "many"}).invoke(main, ["dev", *arguments])

    assert result.exit_code == 2
    assert result.output.startswith("Error: HIAPI_THREADS")
    assert result.output.count("\n") == 1
    assert "HIAPI_API_KEY" not in os.environ
