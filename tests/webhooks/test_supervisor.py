"""The supervisor of the web server's workers, with processes that run something else."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Process

from orchestrator.cli.ports import free_port
from tests.ledger.kit import eventually
from webhooks import supervisor as supervisor_module
from webhooks.supervisor import Supervisor

pytestmark = pytest.mark.server


#: An application that ends its process.
APP = "sys:exit"


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the signals of this process
    supervisor = Supervisor(Config(APP, port=free_port(), log_config=None, factory=True))
    yield supervisor
    supervisor._bound.close()
    for worker in (*supervisor._retired, *supervisor.processes):
        worker.kill()
        worker.process.join()


class SteppedClock:
    """`monotonic` that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def add_worker(supervisor: Supervisor, action: Callable[[int], None], value: int) -> Process:
    """Start a worker that does `action`."""
    worker = Process(supervisor.config, supervisor.sockets)
    worker.process = multiprocessing.get_context("spawn").Process(target=action, args=(value,))
    worker.start()
    supervisor.processes.append(worker)
    return worker


def freeze(worker: Process) -> None:
    """Stop a worker so that only SIGKILL ends it. A SIGTERM that comes before would end it."""
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    os.waitpid(worker.pid, os.WUNTRACED)


def test_workers_share_the_connections_that_come_at_once(supervisor: Supervisor) -> None:
    with ExitStack() as closing:
        listening = [closing.enter_context(supervisor.sockets[0].dup()) for _ in range(2)]
        for each in listening:
            each.listen()
            each.setblocking(False)
        for _ in range(40):
            closing.enter_context(socket.create_connection(listening[0].getsockname()))
        for each in listening:
            closing.enter_context(each.accept()[0])


def test_nobody_waits_at_a_server_that_stops(supervisor: Supervisor) -> None:
    [last] = supervisor.sockets
    last.listen()
    address = last.getsockname()
    supervisor.terminate_all()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 60)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_an_address_in_use_is_refused_before_a_worker_starts(host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        try:
            other.bind((host, 0))
        except OSError:
            pytest.skip("there is no IPv6")
        other.listen()
        with pytest.raises(OSError, match="in use"):
            Supervisor(Config("no.such:app", host=host, port=other.getsockname()[1]))


def test_a_worker_that_does_not_stop_is_killed(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "KILL_SECONDS", 0)
    worker = add_worker(supervisor, time.sleep, 3600)
    freeze(worker)
    supervisor.terminate_all()
    supervisor.join_all()
    assert worker.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("handle", [Supervisor.handle_hup, Supervisor.handle_ttou])
def test_a_worker_that_does_not_stop_is_not_waited_for(
    handle: Callable[[Supervisor], None], supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "KILL_SECONDS", 0)
    monkeypatch.setattr(Process, "wait_until_ready", lambda *_: True)
    supervisor.processes_num = 2
    worker = add_worker(supervisor, time.sleep, 3600)
    freeze(worker)
    handle(supervisor)
    assert worker not in supervisor.processes
    assert worker.exitcode is None
    supervisor.join_all()
    assert worker.exitcode == -signal.SIGKILL


def test_a_worker_that_cannot_serve_replaces_none(supervisor: Supervisor) -> None:
    worker = add_worker(supervisor, time.sleep, 3600)
    supervisor.handle_hup()
    assert supervisor.processes == [worker]
    assert worker.exitcode is None


def test_a_worker_that_ended_is_started_again_and_one_that_hangs_is_not_waited_for(
    supervisor: Supervisor,
) -> None:
    hanging = add_worker(supervisor, time.sleep, 3600)
    ended = add_worker(supervisor, sys.exit, 1)
    eventually(lambda: ended.exitcode == 1)
    supervisor.keep_subprocess_alive()
    assert supervisor.processes[0] is hanging
    assert supervisor.processes[1].pid != ended.pid
    assert hanging.exitcode is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SteppedClock:
    clock = SteppedClock()
    monkeypatch.setattr(supervisor_module, "monotonic", clock)
    return clock


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the supervisor logs as an error."""
    lines: list[str] = []
    monkeypatch.setattr(supervisor_module._log, "error", lines.append)
    return lines


def test_workers_that_end_at_once_are_started_at_longer_and_longer_intervals(
    supervisor: Supervisor,
    clock: SteppedClock,
    monkeypatch: pytest.MonkeyPatch,
    errors: list[str],
) -> None:
    monkeypatch.setattr(supervisor_module, "LONGEST_INTERVAL_SECONDS", 4)
    add_worker(supervisor, sys.exit, 1)
    expected = []
    for seconds in (0, 1, 2, 4, 4):
        [ended] = supervisor.processes
        ended.process.join()
        when = f" in {seconds} s" if seconds else ""
        line = f"Worker [{ended.pid}] ended with {ended.exitcode}, and is started again{when}"
        expected.append(line)
        if seconds:
            supervisor.keep_subprocess_alive()
            clock.now += seconds - 0.01
            supervisor.keep_subprocess_alive()
            assert supervisor.processes == [ended]
            clock.now += 0.02
        supervisor.keep_subprocess_alive()
        assert supervisor.processes != [ended]
    assert errors == expected

    clock.now += supervisor_module.STEADY_SECONDS + 1
    [ended] = supervisor.processes
    ended.process.join()
    supervisor.keep_subprocess_alive()
    assert supervisor.processes != [ended]


def test_a_worker_that_the_system_does_not_start_is_tried_again(
    supervisor: Supervisor,
    clock: SteppedClock,
    monkeypatch: pytest.MonkeyPatch,
    errors: list[str],
) -> None:
    ended = add_worker(supervisor, sys.exit, 1)
    ended.process.join()

    def no_memory(*_: object) -> Process:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as short:
        short.setattr(supervisor_module, "Process", no_memory)
        supervisor.handle_hup()
        supervisor.keep_subprocess_alive()
    supervisor.keep_subprocess_alive()
    assert supervisor.processes == [ended]
    assert [errors[0], errors[2]] == ["A worker cannot be started (Cannot allocate memory)"] * 2
    clock.now += supervisor_module.FIRST_INTERVAL_SECONDS
    supervisor.keep_subprocess_alive()
    assert supervisor.processes != [ended]


def test_a_supervisor_that_crashes_stops_its_workers(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = add_worker(supervisor, time.sleep, 3600)

    def crash() -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(supervisor, "init_processes", crash)
    with pytest.raises(RuntimeError, match="a defect"):
        supervisor.run()
    assert worker.exitcode == -signal.SIGTERM


def test_a_worker_that_cannot_start_ends_the_others(supervisor: Supervisor) -> None:
    worker = add_worker(supervisor, sys.exit, STARTUP_FAILURE)
    eventually(lambda: worker.exitcode == STARTUP_FAILURE)
    supervisor.keep_subprocess_alive()
    assert supervisor.should_exit.is_set()
    assert supervisor.processes == [worker]
