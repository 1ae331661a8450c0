"""Runs `orchestrator` commands of shell scripts without an import for each of them.

A command takes most of its time for its imports. A server process has imported everything, and
forks for each command. The program `orchestrator` in `folder` sends it arguments, environment,
working directory and open files, and ends with its exit status.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: The program in the shell's path. It starts fast: `-S -E` leaves out site-packages.
CLIENT = """#!{python} -SE
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
socket.send_fds(server, [b"%d\\n" % len(request)], [0, 1, 2])
server.sendall(request)
answers = server.makefile()
pid = int(answers.readline())
signal.signal(signal.SIGINT, lambda *_: os.kill(pid, signal.SIGINT))
sys.exit(int(answers.readline()))
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
        )
    try:
        yield folder
    finally:
        process.terminate()
        process.wait()


def _serve(listening: socket.socket) -> None:
    from orchestrator.cli import main  # noqa: PLC0415, F401  # each command finds it imported

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
        arguments, environment, working_directory = json.loads(request)
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
