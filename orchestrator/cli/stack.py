"""Runs the whole product on this machine: embedded Redis, sandbox, and the processes.

It is used by `demo`, `dev`, the system tests and the benchmarks. Every process is the one that its
command becomes, and listens on 127.0.0.1 only. Closing the stack stops all processes.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import IO, Any, Self

import requests

from orchestrator.cli.embedded_redis import FIX, embedded_redis
from orchestrator.cli.ports import free_port
from orchestrator.cli.processes import process_command
from orchestrator.cli.signals import signals_delayed
from orchestrator.cli.stack_error import StackError
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.plain_text import masked
from orchestrator.providers import BUILT_IN, PROVIDERS
from orchestrator.security.standard_webhooks import new_secret
from orchestrator.settings.dangers import SANDBOX_KEY
from orchestrator.settings.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
#: A process must answer after this time.
START_TIMEOUT_SECONDS = 60.0
#: A process is killed when it has not stopped after this time.
STOP_TIMEOUT_SECONDS = 10.0
#: Variables with these prefixes are set by the stack, not inherited.
_OUR_PREFIXES = ("ORCHESTRATOR_", "SANDBOX_", *(f"{name.upper()}_" for name in PROVIDERS))


@dataclass
class Stack(AbstractContextManager["Stack"]):
    """The processes, which run between enter and exit.

    Args:
        processes: the processes to start, of PROCESSES.
        redis_url: a running Redis; None starts an embedded Redis in `folder`.
        web_port: 0 takes a free port. The same holds for sandbox_port.
        task_seconds: the time that the sandbox takes for a task.
        sandbox_options: more options of the sandbox command.
        settings: environment variables to add or replace.
        folder: for data and logs; None makes a temporary folder.
        check: whether the settings and a running Redis are checked before a process starts.
        quiet: processes write to log files in the folder, not to this terminal.
        api_key: the key of the API.
        notify_secret: signs notifications. The inboxes of the sandbox know it.
    """

    processes: Sequence[str] = ("web", "worker", "beat")
    redis_url: str | None = None
    web_port: int = 0
    sandbox_port: int = 0
    task_seconds: float = 1.0
    sandbox_options: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    check: bool = False
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
        """Stop everything, in reverse order of the start.

        A second Ctrl-C or SIGTERM ends one wait. The other processes are ended in any case.
        """
        for process in reversed(self.running.values()):
            process.send_signal(signal.SIGTERM)
        with ExitStack() as ending:
            ending.callback(self._closing.close)
            ending.callback(self.running.clear)
            for process in reversed(self.running.values()):
                ending.callback(_end, process)

    @property
    def web_url(self) -> str:
        """The base URL of the API and the receiver."""
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def sandbox_url(self) -> str:
        """The base URL of the sandbox."""
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def archive(self) -> str:
        """The URL or the folder of the archive."""
        return self.env.get("ORCHESTRATOR_ARCHIVE_URL") or str(self._home / "archive")

    def start(self, name: str, command: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process: `command`, or the process of this name."""
        line = command or process_command(name, self.env)
        with self._output(name) as output, signals_delayed():
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
        """SIGKILL a process and its children, as the out-of-memory killer does."""
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def dead(self) -> str | None:
        """Return the name of a process that ended without being stopped, or None."""
        return next((n for n, p in self.running.items() if p.poll() is not None), None)

    def end_of(self, name: str) -> str:
        """Return how a process ended, such as "worker was ended by SIGKILL"."""
        status = self.running[name].returncode
        if status < 0:
            return f"{name} was ended by {signal.Signals(-status).name}"
        return f"{name} ended with exit status {status}"

    def log(self, name: str) -> str:
        """Return the output of a quiet process."""
        path = self._home / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def _start(self) -> None:
        require_sandbox()
        self._home = self.folder or Path(self._closing.enter_context(_temporary()))
        self._home.mkdir(parents=True, exist_ok=True)
        self._closing.enter_context(_locked(self._home))
        self.web_port = self.web_port or free_port()
        self.sandbox_port = self.sandbox_port or free_port()
        if self.redis_url and self.check:
            _check_redis(self.redis_url)
        self.redis_url = self.redis_url or self._closing.enter_context(
            embedded_redis(self._home / "redis")
        )
        self.env = self._environment(self.redis_url)
        if self.check:
            _check_settings(self.env)
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
        return [sys.executable, "-P", "-m", "sandbox", *flags, *self.sandbox_options]

    def _environment(self, redis_url: str) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OUR_PREFIXES)}
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
            "ORCHESTRATOR_ADMIN_KEYS": f"local:{self.api_key}",
            "ORCHESTRATOR_MCP_API_URL": self.web_url,
            "ORCHESTRATOR_MCP_KEY": self.api_key,
            "ORCHESTRATOR_NOTIFY_SECRET": self.notify_secret,
            "SANDBOX_INBOX_SECRET": self.notify_secret,
            "ORCHESTRATOR_ALLOW_PRIVATE_NETWORKS": "1",
            "ORCHESTRATOR_DATA_DIR": str(self._home),
            **dict(self._providers()),
            **self.settings,
        }

    def _providers(self) -> Iterator[tuple[str, str]]:
        """Yield the settings that make the sandbox every built-in provider.

        The sandbox signs callbacks as the providers do, unless a setting names another address.
        """
        signing = []
        for name, provider in BUILT_IN.items():
            prefix = name.upper()
            yield f"{prefix}_API_KEY", SANDBOX_KEY
            yield f"{prefix}_BASE_URL", f"{self.sandbox_url}/{name}"
            if provider.capabilities.signed_callbacks and f"{prefix}_BASE_URL" not in self.settings:
                yield f"{prefix}_WEBHOOK_SECRET", self.notify_secret
                signing.append(f"{name}={self.notify_secret}")
            if provider.capabilities.jwks_url:
                yield f"{prefix}_JWKS_URL", f"{self.sandbox_url}/{name}/.well-known/jwks.json"
        yield "SANDBOX_WEBHOOK_SECRET", " ".join(signing)

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
            StackError: a process ended, or this process does not answer in time.
        """
        tick, ends = threading.Event(), monotonic() + START_TIMEOUT_SECONDS
        while not _answers(url, status):
            dead = self.dead()
            if dead or monotonic() > ends:
                problem = self.end_of(dead) if dead else f"{name} does not answer at {url}"
                last = self.log(dead or name)[-2000:].strip() if self.quiet else ""
                output = f"Its last output:\n{last}" if last else "Its output is above."
                raise StackError(f"{problem}. {output}")
            tick.wait(0.05)


def require_sandbox() -> None:
    """Check that the sandbox can run.

    Raises:
        StackError: a package that only the sandbox needs is not installed.
    """
    if find_spec("yaml") is None:
        raise StackError(f"the sandbox needs the extra `local`. {FIX}.")


def _check_redis(url: str) -> None:
    """Check that a Redis answers.

    Raises:
        StackError: none does. The message leaves out the password.
    """
    try:
        Ledger.from_url(url).installation.time()
    except LedgerUnavailable as error:
        raise StackError(
            f"no Redis answers at {masked(url)}, the address in ORCHESTRATOR_REDIS_URL ({error})."
            " Start it there. To use an embedded Redis: unset ORCHESTRATOR_REDIS_URL"
        ) from None


def _check_settings(environment: Mapping[str, str]) -> None:
    """Read the settings as a process with this environment would.

    Raises:
        ConfigError: a setting is wrong.
    """
    own = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        Settings.from_env()
    finally:
        os.environ.clear()
        os.environ.update(own)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a folder for this stack. Two servers on one append-only file would destroy it.

    Raises:
        StackError: another stack uses the folder.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(
                f"{folder} is in use by another `orchestrator dev`. Stop it, or choose another"
                " folder with --data-dir."
            ) from None
        yield


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="orchestrator-", ignore_cleanup_errors=True)


def _answers(url: str, status: int) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == status
    except requests.RequestException:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the rest of its process group
        process.wait()
