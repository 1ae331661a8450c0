"""Starts the test processes of pytest-xdist as copies of a process that has imported the tests.

The imports of all tests take 4 s in each of four processes. So the process that distributes the
tests imports them once, and forks a server. The server forks for each test process. The protocol
is that of tests/support/fork_server.py.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import execnet
import pytest

from tests.support.fork_server import serve, write_programs

#: The ids of the servers that this process is a copy of.
copied: list[int] = []


class ForkedTestProcesses:
    """The server, as the process that distributes the tests sees it.

    Args:
        config: its arguments name the folders and files to import.
        ignored: names of folders in `tests` that this run leaves out.
    """

    def __init__(self, config: pytest.Config, ignored: frozenset[str]) -> None:
        _import_tests(config, ignored)
        self._temporary = tempfile.TemporaryDirectory(prefix="orchestrator-tests-")
        #: The interpreter of a test process.
        self.python = Path(self._temporary.name) / "forked-python"
        # The server ends when the other end is closed, also by a kill of this process.
        self._lifeline, end = socket.socketpair()
        with end, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(write_programs(self.python.parent))
            listening.listen()
            assert threading.active_count() == 1, "a fork copies one thread"
            config.get_terminal_writer().flush()  # a copy would write it again
            self._pid = os.fork()
            if self._pid == 0:
                self._lifeline.close()
                _serve_and_exit(listening, end)

    def use(self, specs: Sequence[execnet.XSpec]) -> None:
        """Let pytest-xdist start its test processes here."""
        for spec in specs:
            spec.python = str(self.python)

    def close(self) -> None:
        """End the server."""
        self._lifeline.close()
        os.waitpid(self._pid, 0)
        self._temporary.cleanup()


def _serve_and_exit(listening: socket.socket, lifeline: socket.socket) -> None:
    """Run the server. In a child, run a test process. The functions that called us never go on."""
    code = 1
    try:
        os.setsid()
        copied.append(os.getpid())
        # pytest has replaced them here, and may have text that it has not written yet.
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, buffering=1, closefd=False)  # noqa: SIM115
            for number, mode in enumerate("rww")
        )
        gc.collect()
        gc.freeze()  # a collection in a process would copy the memory of the server
        request = serve(listening, lifeline, lambda: None)
        listening.close()
        lifeline.close()
        if request:
            request.run()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def _import_tests(config: pytest.Config, ignored: frozenset[str]) -> None:
    names = [name for name in _modules(config) if name.split(".")[1] not in ignored]
    # A conftest.py says which modules pytest has to compile.
    for name in sorted(names, key=lambda name: not name.endswith(".conftest")):
        # A test process imports a file that failed again, and reports the error.
        with suppress(Exception, pytest.skip.Exception):
            import_module(name)


def _modules(config: pytest.Config) -> Iterator[str]:
    """Yield the names of the modules that the arguments name."""
    for argument in config.args:
        path = config.invocation_params.dir / argument.partition("::")[0]
        if path.is_dir():
            for pattern in ("conftest.py", "test_*.py"):
                for file in sorted(path.rglob(pattern)):
                    yield ".".join(file.relative_to(config.rootpath).with_suffix("").parts)
