"""The stack of `dev` and `demo`: what it leaves behind when its stop is interrupted."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from orchestrator.cli import stack as stack_module
from orchestrator.cli.ports import free_port
from orchestrator.cli.stack import Stack
from orchestrator.cli.stack_error import StackError


def test_a_second_ctrl_c_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack()
    for name in ("sandbox", "web", "worker"):
        stack.running[name] = subprocess.Popen(
            ["sh", "-c", "trap '' TERM; echo; read line"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    processes = list(stack.running.values())
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()  # the signal is ignored from here on
    wait, interrupts = subprocess.Popen.wait, iter([KeyboardInterrupt])

    def interrupted_once(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        for interrupt in interrupts:
            raise interrupt
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted_once)
    monkeypatch.setattr(stack_module, "STOP_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(KeyboardInterrupt):
        stack.close()
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 3
    assert not stack.running
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def test_an_address_without_a_redis_is_refused_before_a_process_starts(tmp_path: Path) -> None:
    """The password in the address is not shown."""
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    with (
        pytest.raises(StackError, match=r"no Redis answers at redis://.*@127\.0\.0\.1:") as refused,
        Stack(redis_url=url, folder=tmp_path, check=True) as stack,
    ):
        assert not stack.running
    assert "unset ORCHESTRATOR_REDIS_URL" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("command", "end"),
    [("exit 3", "worker ended with exit status 3"), ("kill -9 $$", "worker was ended by SIGKILL")],
)
def test_the_end_of_a_process_is_said_in_words(command: str, end: str) -> None:
    stack = Stack()
    stack.running["worker"] = process = subprocess.Popen(["sh", "-c", command])
    process.wait()
    assert stack.dead() == "worker"
    assert stack.end_of("worker") == end
