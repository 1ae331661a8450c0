"""Starts Python processes of the product without an import for each of them.

A process of the product takes a second or more for its imports. The server has imported everything,
and forks for each process. So a process starts in a tenth of that time. It is a real process with
its own session, environment, working directory and open files, and runs the same code.

Processes of a `ForkedStack` start that way, and the program `orchestrator` in its path. `demo` and
`dev` start theirs as users do: see tests/system/test_commands.py. The processes of pytest-xdist
share one server. It imports nothing before its first use.
"""

from __future__ import annotations

import atexit
import gc
import marshal
import multiprocessing
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import IO, Any

from uvicorn import _subprocess as uvicorn_subprocess

from orchestrator.cli.processes import process_command
from orchestrator.cli.stack import ROOT, Stack

#: The server imports every module of these packages before the first process.
PACKAGES = ("orchestrator", "sandbox", "webhooks")
#: Modules that it leaves to the processes: they read the settings, or no process needs them.
LEFT_OUT = ("orchestrator.mcp_server", "orchestrator.history.migrations", "webhooks.server")
#: What processes import beside that, also later.
IMPORTED = (
    *("alembic.command", "sqlalchemy.dialects.sqlite.pysqlite", "kombu.transport.redis"),
    *("celery.bin.celery", "celery.apps.worker", "celery.apps.beat", "celery.concurrency.solo"),
    *("celery.fixups.django", "celery.loaders.app"),
    *("uvicorn.supervisors.multiprocess", "uvicorn.loops.uvloop"),
)
#: The programs of shells: `orchestrator`, and `forked-python` with -m or -c. They start fast: they
#: import built-in modules only.
PROGRAMS = {"orchestrator": ["-m", "orchestrator"], "forked-python": []}
CLIENT = """#!{python} -ISE
import _signal, _socket, marshal, os, sys
server = _socket.socket(_socket.AF_UNIX)
server.connect({address!r})
command = [*{first!r}, *sys.argv[1:]]
request = marshal.dumps([command, dict(os.environ), os.getcwd(), False])
files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
server.sendmsg([b"%d\\n" % len(request)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
server.sendall(request)
answers = server.recv(100)
pid = int(answers.partition(b"\\n")[0])
_signal.signal(_signal.SIGINT, lambda *_: os.kill(pid, _signal.SIGINT))
while answers.count(b"\\n") < 2:
    answers += server.recv(100) or b"1\\n"
code = int(answers.split()[1])
sys.exit(code if code >= 0 else 128 - code)
"""


class ForkedProcess(subprocess.Popen[bytes]):
    """A process that the server started. It is used as one that this process started itself."""

    def __init__(self, arguments: Sequence[str], pid: int, status: socket.socket) -> None:
        self.args, self.pid, self.returncode = arguments, pid, None
        self.stdin = self.stdout = self.stderr = None
        self._child_created = False  # there is nothing to reap here
        self._status = status
        # A collection may end the socket before a process that it cannot reach any more.
        weakref.finalize(self, status.close)

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when the process has ended."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            # Several threads may wait, so the status stays in the socket.
            self.returncode = int(self._status.recv(100, socket.MSG_PEEK) or b"-9")
        return self.returncode


class ForkServer:
    """The server, as the process that started it sees it."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="orchestrator-forks-")
        #: Has the programs.
        self.folder = Path(self._temporary.name)
        address = write_programs(self.folder)
        # The server ends when the other end is closed, also by a kill of this process.
        self._lifeline, end = socket.socketpair()
        with end, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen()
            inherited = [listening.fileno(), end.fileno()]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, *map(str, inherited)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> None:
        """End the server."""
        self._lifeline.close()
        self._process.wait()
        self._temporary.cleanup()


#: The server that this process has started.
_started: list[ForkServer] = []
#: The folder of the server that this process uses.
_used: list[Path] = []


def folder() -> Path:
    """Return the folder with the programs. The first call starts a server."""
    if not _used:
        _started.append(ForkServer())
        _used.append(_started[0].folder)
        atexit.register(stop)
    return _used[0]


def share(folder: Path) -> None:
    """Use the server of another process, which has this folder."""
    _used[:] = [folder]


def stop() -> None:
    """End the server that this process has started."""
    _used.clear()
    while _started:
        _started.pop().close()


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder_of_work: Path = ROOT,
    stdin: IO[Any] | int | None = None,
    stdout: IO[Any] | int = 1,
    stderr: IO[Any] | int = 2,
) -> ForkedProcess:
    """Start a process in a session of its own.

    Args:
        command: what follows the interpreter in a command line: `-m MODULE` or `-c PROGRAM`, and
            arguments. Options such as -P are ignored.
        environment: None: that of this process.
        folder_of_work: its working directory.
        stdin: an open file; None: it is empty. stdout and stderr are open files, too.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_address(folder()))
    environment = os.environ if environment is None else environment
    request = marshal.dumps([list(command), dict(environment), str(folder_of_work), True])
    with Path(os.devnull).open("rb") as nothing:
        files = [nothing if stdin is None else stdin, stdout, stderr]
        numbers = [file if isinstance(file, int) else file.fileno() for file in files]
        socket.send_fds(connection, [b"%d\n" % len(request)], numbers)
    connection.sendall(request)
    pid = b""
    while not pid.endswith(b"\n"):
        read = connection.recv(1)
        assert read, "the fork server has ended"
        pid += read
    return ForkedProcess([sys.executable, *command], int(pid), connection)


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a process to its end, with options of `start`. Return its status and what it printed."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = start(command, stdout=stdout, stderr=stderr, **options)
        code = process.wait()
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(process.args, code, *texts)


def write_programs(folder: Path) -> str:
    """Write the programs into a folder. Return the address of the server that they use."""
    address = _address(folder)
    for name, first in PROGRAMS.items():
        text = CLIENT.format(python=sys.executable, address=address, first=first)
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(0o755)
    return address


def _address(folder: Path) -> str:
    return str(folder / "server.sock")


class ForkedStack(Stack):
    """A stack whose processes the server starts. Its environment finds the program, too."""

    def _environment(self, redis_url: str) -> dict[str, str]:
        env = super()._environment(redis_url)
        return {**env, "PATH": f"{folder()}{os.pathsep}{env['PATH']}"}

    def start(self, name: str, command: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process: `command`, or the process of this name."""
        line = command or process_command(name, self.env)
        if line[0] != sys.executable:
            return super().start(name, command)
        with self._output(name) as output:
            assert output, "a forked stack is quiet"
            process = start(
                line[1:],
                environment=self.env,
                folder_of_work=self._home,
                stdout=output,
                stderr=output,
            )
        self.running[name] = process
        return process


# The server ----------------------------------------------------------------------------------


class Request:
    """A process to start."""

    def __init__(self, connection: socket.socket) -> None:
        first, self.files, _, _ = socket.recv_fds(connection, 64, 3)
        size, _, request = first.partition(b"\n")
        while len(request) < int(size):
            request += connection.recv(65536)
        self.command, self.environment, self.folder, self.is_leader = marshal.loads(request)

    def run(self) -> None:
        """Become the process."""
        for number, file in enumerate(self.files):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        sys.orig_argv[:] = [sys.executable, *self.command]
        what = next(n for n, word in enumerate(self.command) if word in ("-m", "-c"))
        kind, code, *arguments = self.command[what:]
        sys.argv[:] = [kind, *arguments]
        if kind == "-m":
            runpy.run_module(code, run_name="__main__", alter_sys=True)
        else:
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def serve(
    listening: socket.socket, lifeline: socket.socket, prepare: Callable[[], None]
) -> Request | None:
    """Fork for each request. Return it in the child, and None at the end of the server.

    Args:
        listening: where requests come in.
        lifeline: it is closed at the end of the server.
        prepare: is called before each fork.
    """
    connections: dict[int, socket.socket] = {}
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    with woken, waker:
        while True:
            ready, _, _ = select.select([listening, lifeline, woken], [], [])
            if lifeline in ready:
                return None
            if woken in ready:
                woken.recv(4096)
                _tell_ended(connections)
            if listening not in ready:
                continue
            prepare()
            connection, _ = listening.accept()
            request = Request(connection)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                if request.is_leader:
                    os.setsid()
                connection.sendall(b"%d\n" % os.getpid())
                for each in (connection, *connections.values()):
                    each.close()
                return request
            for file in request.files:
                os.close(file)
            connections[pid] = connection


def _tell_ended(connections: dict[int, socket.socket]) -> None:
    """Tell the exit status of each process that has ended."""
    while connections:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        # Who asked for the process may have ended.
        with connections.pop(pid) as connection, suppress(OSError):
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


@cache
def _import_everything() -> None:
    for name in (*_modules(), *IMPORTED):
        import_module(name)
    vars(uvicorn_subprocess)["spawn"] = _Forks
    gc.freeze()  # a collection in a process would copy the memory of the server


class _ForkedWorker(multiprocessing.get_context("fork").Process):  # type: ignore[misc]
    """A worker of the web server, which starts without an import, too."""

    def run(self) -> None:
        """Run it. A new interpreter would not have the signal handlers of its parent either."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        super().run()


class _Forks:
    """What uvicorn needs of a context of multiprocessing."""

    Process = _ForkedWorker


def _modules() -> Iterator[str]:
    for package in PACKAGES:
        for module in walk_packages(import_module(package).__path__, f"{package}."):
            if not module.name.startswith(LEFT_OUT) and not module.name.endswith("__main__"):
                yield module.name


def main() -> None:
    """Run the server. In a child, run a process."""
    first, second = map(int, sys.argv[1:])
    with socket.socket(fileno=first) as listening, socket.socket(fileno=second) as lifeline:
        request = serve(listening, lifeline, _import_everything)
    if request:
        request.run()


if __name__ == "__main__":
    main()
