"""Starts processes of the product without an import for each of them.

A process of the product takes a second or more for its imports. The server has imported everything,
and forks for each process. So a process starts in a tenth of that time. It is a real process with
its own group, environment, working directory and open files, and runs the same module.

Processes of a `ForkedStack` start that way, and the program `orchestrator` in its path. `demo` and
`dev` start theirs as users do: see tests/system/test_commands.py.
"""

from __future__ import annotations

import atexit
import gc
import marshal
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

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
    *("celery.fixups.django", "celery.loaders.app", "granian.server"),
)
#: The program in the shell's path. It starts fast: it imports built-in modules only.
CLIENT = """#!{python} -ISE
import _signal, _socket, marshal, os, sys
server = _socket.socket(_socket.AF_UNIX)
server.connect({address!r})
command = ["-m", "orchestrator", *sys.argv[1:]]
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

    def __del__(self) -> None:
        self._status.close()

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
    """The server, as its users see it."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="orchestrator-forks-")
        #: Has the program `orchestrator`.
        self.folder = Path(self._temporary.name)
        self._address = str(self.folder / "server.sock")
        program = self.folder / "orchestrator"
        program.write_text(CLIENT.format(python=sys.executable, address=self._address), "utf-8")
        program.chmod(0o755)
        # The server ends when the other end is closed, also by a kill of this process.
        self._lifeline, end = socket.socketpair()
        with end, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._address)
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

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, output: Any
    ) -> ForkedProcess:
        """Start a process in a session of its own.

        Args:
            command: what follows the interpreter in the command line, such as `-m workers beat`.
            environment: of the process.
            folder: its working directory.
            output: a file for stdout and stderr.
        """
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        request = marshal.dumps([list(command), dict(environment), str(folder), True])
        with Path(os.devnull).open("rb") as nothing:
            files = [nothing.fileno(), output.fileno(), output.fileno()]
            socket.send_fds(connection, [b"%d\n" % len(request)], files)
        connection.sendall(request)
        pid = b""
        while not pid.endswith(b"\n"):
            read = connection.recv(1)
            assert read, "the fork server has ended"
            pid += read
        return ForkedProcess([sys.executable, *command], int(pid), connection)


_running: list[ForkServer] = []


def server() -> ForkServer:
    """Return the server of this test process. The first call starts it."""
    if not _running:
        _running.append(ForkServer())
        atexit.register(stop)
    return _running[0]


def stop() -> None:
    """End the server of this test process."""
    while _running:
        _running.pop().close()


class ForkedStack(Stack):
    """A stack whose processes the server starts. Its environment finds the program, too."""

    def _environment(self, redis_url: str) -> dict[str, str]:
        env = super()._environment(redis_url)
        return {**env, "PATH": f"{server().folder}{os.pathsep}{env['PATH']}"}

    def start(self, name: str, command: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process: `command`, or the process of this name."""
        line = command or process_command(name, self.env)
        if line[0] != sys.executable:
            return super().start(name, command)
        with self._output(name) as output:
            process = server().start(line[1:], self.env, self._home, output)
        self.running[name] = process
        return process


# The server ----------------------------------------------------------------------------------


class _Request:
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
        options = self.command.index("-m")
        module, *arguments = self.command[options + 1 :]
        sys.argv[:] = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _serve(listening: socket.socket, lifeline: socket.socket) -> _Request | None:
    """Fork for each request. Return it in the child, and None at the end of the server."""
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
            connection, _ = listening.accept()
            request = _Request(connection)
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


def _modules() -> Iterator[str]:
    for package in PACKAGES:
        for module in walk_packages(import_module(package).__path__, f"{package}."):
            if not module.name.startswith(LEFT_OUT) and not module.name.endswith("__main__"):
                yield module.name


def main() -> None:
    """Run the server. In a child, run a process."""
    for name in (*_modules(), *IMPORTED):
        import_module(name)
    gc.freeze()  # a collection in a process would copy the memory of the server
    first, second = map(int, sys.argv[1:])
    with socket.socket(fileno=first) as listening, socket.socket(fileno=second) as lifeline:
        request = _serve(listening, lifeline)
    if request:
        request.run()


if __name__ == "__main__":
    main()
