"""The command, run as a real process."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests
from click.testing import CliRunner

from sandbox.__main__ import main
from tests.sandbox.kit import Receiver


@pytest.fixture
def process(receiver: Receiver) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--allow-http"]
    environment = {"SANDBOX_API_KEY": "from-env", "SANDBOX_TASK_SECONDS": "0.05"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runs_until_it_is_told_to_stop(
    process: subprocess.Popen[str], receiver: Receiver, number: signal.Signals
) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"sandbox listening on (http://127\.0\.0\.1:\d+)\n", line)
    assert found
    body = {
        "model": "nano-banana-2-lite",
        "prompt": "A red cube",
        "callback_url": receiver.url("/cb/secret-token"),
    }
    answer = requests.post(
        f"{found[1]}/evolink/v1/images/generations",
        json=body,
        headers={"Authorization": "Bearer from-env"},
        timeout=10,
    )
    assert answer.status_code == 200
    receiver.wait_for(1)

    process.send_signal(number)
    rest, logs = process.communicate(timeout=5)

    assert process.returncode == 0
    assert rest == ""
    events = [json.loads(entry)["event"] for entry in logs.splitlines()]
    assert events[:2] == ["task_created", "task_finished"]
    assert "secret-token" not in logs


def test_help_teaches() -> None:
    text = CliRunner().invoke(main, ["--help"]).output

    for word in ("curl", "/hiapi", "/evolink", "--allow-http", "[sandbox:", "SANDBOX_"):
        assert word in text


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--task-seconds", "-1"], ["--nope"]])
def test_refuses_wrong_options(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2
