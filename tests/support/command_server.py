"""Runs `orchestrator` commands of shell scripts without an import for each of them.

A command takes most of its time for its imports. A server process has imported everything, and
forks for each command. The program `orchestrator` in `folder` sends it arguments, environment,
working directory and open files, and ends with its exit status.
"""

from __future__ import annotations

import gc
import marshal
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

#: What the server imports before the first command: all commands, and what they import later.
IMPORTED = (
    *("orchestrator.cli", "orchestrator.history.history", "orchestrator.storage.bucket"),
    *("alembic.command", "sqlalchemy.dialects.sqlite.pysqlite", "kombu.transport.redis"),
)
#: The program in the shell's path. It starts fast: it imports built-in modules only.
CLIENT = """#!{python} -ISE
import _signal, _socket, marshal, os, sys
server = _socket.socket(_socket.AF_UNIX)
server.connect({address!r})
request = marshal.dumps([sys.argv[1:], dict(os.environ), os.getcwd()])
files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
server.sendmsg([b"%d\\n" % len(request)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
server.sendall(request)
answers = server.recv(100)
pid = int(answers.partition(b"\\n")[0])
_signal.signal(_signal.SIGINT, lambda *_: os.kill(pid, _signal.SIGINT))
while answers.count(b"\\n") < 2:
    answers += server.recv(100) or b"1\\n"
sys.exit(int(answers.split()[1]))
"""


@contextmanager
def command_server(folder: Path) -> Iterator[Path]:
    """Run the server. Yield the folder with the program `orchestrator`."""
    address = folder / "commands.sock"
    program = folder / "orchestrator"
    program.write_text(CLIENT.format(python=sys.executable, address=str(address)), "utf-8")
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listening.fileno())],
            pass_fds=[listening.fileno()],
            start_new_session=True,
        )
    try:
        yield folder
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # and commands that have not ended
        process.wait()


def _serve(listening: socket.socket) -> None:
    for name in IMPORTED:
        import_module(name)

    gc.freeze()  # a collection in a command would copy the memory of the server
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listening.accept()
        with connection:
            if os.fork() == 0:
                listening.close()
                _answer(connection)


def _answer(connection: socket.socket) -> None:
    """Run one command in a process of its own, and tell its id and its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    first, files, _, _ = socket.recv_fds(connection, 64, 3)
    size, _, request = first.partition(b"\n")
    while len(request) < int(size):
        request += connection.recv(65536)
    pid = os.fork()
    if pid == 0:
        arguments, environment, working_directory = marshal.loads(request)
        _run(arguments, environment, working_directory, files)
    connection.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    with suppress(OSError):  # the shell's program was killed
        connection.sendall(b"%d\n" % (code if code >= 0 else 128 - code))
    os._exit(0)


def _run(arguments: list[str], environment: dict[str, str], folder: str, files: list[int]) -> None:
    from orchestrator.cli import main  # noqa: PLC0415  # the server has imported it

    for number, file in enumerate(files):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    code = 1
    try:
        main(arguments, prog_name="orchestrator")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _serve(socket.socket(fileno=int(sys.argv[1])))
