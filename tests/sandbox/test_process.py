"""The command as a real process, and its options."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandbox.__main__ import main
from tests.sandbox.kit import TIMEOUT_SECONDS, CallbackReceiver, SandboxClient
from tests.support.cases import for_each


@contextmanager
def _process(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "sandbox", "--port", "0", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _url(process: subprocess.Popen[str]) -> str:
    match = re.fullmatch(r"sandbox listening on (http://127\.0\.0\.1:\d+)\n", _first_line(process))
    assert match
    return match[1]


@pytest.mark.parametrize(
    ("number", "source"), [(signal.SIGTERM, "environment"), (signal.SIGINT, "option")]
)
def test_runs_with_its_script_until_a_signal_stops_it(
    receiver: CallbackReceiver, tmp_path: Path, number: signal.Signals, source: str
) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {match: lighthouse, times: 1, faults: {429: {retry_after: 2}}}\n")
    arguments = ["--script", str(path), "--seed", "7"] if source == "option" else []
    environment = {} if arguments else {"SANDBOX_SCRIPT": str(path), "SANDBOX_SEED": "7"}
    environment |= {"SANDBOX_API_KEY": "from-env", "SANDBOX_TASK_SECONDS": "0.05"}
    with _process("--allow-http", *arguments, **environment) as process:
        client = SandboxClient(_url(process))
        client.session.headers["Authorization"] = "Bearer from-env"
        line = _first_line(process)
        with client.session:
            answer = client.submit("evolink", callback=receiver.url("/cb/secret-token"))
            assert answer.status_code == 200
            receiver.wait_for(1)
            answers = [client.submit("hiapi", "A lighthouse").status_code for _ in range(2)]
            page = client.get("/").text

        process.send_signal(number)
        output, logs = process.communicate(timeout=TIMEOUT_SECONDS)

    assert line == f"fault script {path}: 1 rules, seed 7\n"
    assert answers == [429, 200]
    assert "--seed 7<" in page
    assert process.returncode == 0
    assert output == ""
    events = [json.loads(entry)["event"] for entry in logs.splitlines()]
    assert events[:2] == ["task_created", "task_finished"]
    assert "secret-token" not in logs


def test_names_a_missing_script(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--script", str(tmp_path / "no.yaml")])

    assert result.exit_code == 2
    expected = f"Error: {tmp_path}/no.yaml: cannot be read: No such file or directory\n"
    assert result.output == expected


def test_a_busy_port_is_refused_with_the_options_that_choose_another_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        result = CliRunner().invoke(main, ["--port", str(port)])

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: 127.0.0.1:{port} cannot be used")
    assert "--port" in result.output


def test_help_names_providers_and_faults() -> None:
    text = CliRunner().invoke(main, ["--help"]).output

    for word in ("curl", "/hiapi", "/evolink", "--allow-http", "[sandbox:", "SANDBOX_"):
        assert word in text


@for_each(
    "arguments",
    [["--port", "x"], ["--task-seconds", "-1"], ["--seed", "-1"], ["--seed", "1.5"], ["--nope"]],
)
def test_refuses_wrong_options(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2
