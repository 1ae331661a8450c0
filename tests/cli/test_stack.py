"""The stack of `dev` and `demo`: what it leaves behind when its stop is interrupted."""

from __future__ import annotations

import signal
import subprocess

import pytest

from orchestrator.cli import stack as stack_module
from orchestrator.cli.stack import Stack


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
