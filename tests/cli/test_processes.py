"""The commands of the processes: what they become, and when they refuse to start."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from orchestrator.cli import main
from orchestrator.cli.ports import free_port
from orchestrator.cli.processes import PROCESSES, process_command
from orchestrator.cli.stack_error import StackError
from orchestrator.ledger import Ledger, keys
from orchestrator.ledger.refusals import FORMAT
from orchestrator.runtime import default_runtime
from tests.support.fork_server import ForkedStack
from tests.support.providers import ENABLED
from tests.system.conftest import eventually
from tests.system.rack import family

#: The arguments that a command needs.
ARGUMENTS = {"enqueue": ("--provider", "hiapi", "--model", "Nano-Banana-2", "--prompt", "A fox")}
STARTED = (sys.executable, "-P", "-m")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The commands that this process would have become."""
    commands: list[list[str]] = []
    away = "redis://127.0.0.1:1/0"
    servers = {"ORCHESTRATOR_REDIS_URL": away, "ORCHESTRATOR_BROKER_URL": away}
    for name, value in {**ENABLED, **servers, "ORCHESTRATOR_API_KEYS": "shop:" + "k" * 32}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "execv", lambda _, command: commands.append(command))
    default_runtime.cache_clear()
    yield commands
    default_runtime.cache_clear()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def listening(port: int, workers: int = 2) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    return [*STARTED, "webhooks", *options]


def test_options_are_stronger_than_variables(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = free_port(), free_port()
    monkeypatch.setenv("PORT", str(one))
    monkeypatch.setenv("WORKER_QUEUES", "orchestrator.archive")
    run("web")
    run("web", "--port", str(other), "--workers", "3", "--host", "localhost")
    run("worker")
    run("worker", "--queues", "orchestrator.steps, orchestrator.archive")

    worker = [*STARTED, "workers", "worker", "--queues"]
    assert started == [
        listening(one),
        listening(other, workers=3),
        [*worker, "orchestrator.archive"],
        [*worker, "orchestrator.steps,orchestrator.archive"],
    ]


def test_a_stack_starts_what_the_commands_become(started: list[list[str]]) -> None:
    port = str(free_port())
    for name in PROCESSES[:-1]:
        result = CliRunner(env={"PORT": port}).invoke(main, [name])
        assert result.exception is None, result.output

    assert started == [process_command(name, {"PORT": port}) for name in PROCESSES[:-1]]


@pytest.mark.parametrize("name", PROCESSES)
def test_a_wrong_setting_is_one_line_and_nothing_starts(
    name: str, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIAPI_THREADS", "many")
    result = run(name)

    assert result.exit_code == 2
    assert result.output.startswith("Error: HIAPI_THREADS")
    assert result.output.count("\n") == 1
    assert started == []


@pytest.mark.parametrize("name", [*PROCESSES, "list", "enqueue"])
def test_what_does_not_fit_the_ledger_is_one_line_and_nothing_starts(
    name: str,
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    real_redis: Redis,
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", redis_url)
    real_redis.set(keys.SHARDS, 4)
    shards = run(name, *ARGUMENTS.get(name, ()))
    real_redis.set(keys.SHARDS, 1)
    real_redis.set(keys.FORMAT, FORMAT + 1)
    newer = run(name, *ARGUMENTS.get(name, ()))

    for result, told in ((shards, "ORCHESTRATOR_SHARDS=4"), (newer, f"format {FORMAT + 1}")):
        assert result.exit_code == 2, result.output
        assert told in result.output
        assert result.output.count("\n") == 1
    assert started == []


@pytest.mark.parametrize("name", PROCESSES[:-1])
def test_what_redis_refuses_because_of_a_setting_is_one_line_and_nothing_starts(
    name: str, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", f"{redis_url.rpartition('/')[0]}/9999")
    result = run(name)

    assert result.exit_code == 2, result.output
    assert "a database that Redis does not have" in result.output
    assert result.output.count("\n") == 1
    assert started == []


def test_web_refuses_to_start_without_a_key(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS", "")
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    run("web", "--port", str(free_port()))
    assert len(started) == 1, "while Redis is away, it may have keys"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_one_line(host: str, started: list[list[str]]) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as some servers do
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = run("web", "--host", host, "--port", str(port))

    assert result.exit_code == 2
    assert result.output.startswith(f"Error: port {port} is in use")
    assert result.output.count("\n") == 1
    assert started == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("web", "--port", "0"),
        ("web", "--host", "no-such-host.invalid"),
        ("web", "--host", "203.0.113.7"),
        ("web", "--workers", "0"),
        ("worker", "--queues", "orchestrator.step"),
        ("worker", "--queues", ","),
    ],
)
def test_an_option_that_cannot_work_is_refused(
    arguments: tuple[str, ...], started: list[list[str]]
) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert arguments[-1] in result.output
    assert started == []


@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_web_starts_again_at_once_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    settings = {"WEB_CONCURRENCY": "2"}
    with ForkedStack(processes=("web",), folder=tmp_path, settings=settings) as stack:
        eventually(lambda: stack.log("web").count("web_started") == 2)
        killed = stack.running["web"]
        workers = family(killed.pid)[1:]
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        killed.kill()
        stack.start("web")
        eventually(lambda: len(family(stack.running["web"].pid)) > 2)  # workers that listen, too
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        eventually(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        stack.wait_for("web", f"{stack.web_url}/healthz")


@pytest.mark.server
def test_they_run_in_a_folder_whose_modules_have_the_same_names(tmp_path: Path) -> None:
    for name in ("workers", "webhooks", "orchestrator", "sandbox", "queue", "celery", "redis"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n", "utf-8")
    settings = {"WEB_CONCURRENCY": "1"}
    with ForkedStack(processes=(), folder=tmp_path, settings=settings) as stack:
        with pytest.raises(StackError, match="in use by another"), ForkedStack((), folder=tmp_path):
            pass
        names = ("web", "worker")
        running = [stack.start(name, [*STARTED, "orchestrator", name]) for name in names]
        ledger = Ledger.from_url(stack.redis_url or "")
        eventually(lambda: {each.kind for each in ledger.processes.known()} == set(names))
        for process in running:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(120) for process in running] == [0, 0]
