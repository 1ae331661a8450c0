"""`orchestrator web`, `worker`, `beat` and `intake`: each replaces itself with its process."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Mapping
from typing import NoReturn

import click

from orchestrator import log
from orchestrator.cli.number_options import WholeNumber
from orchestrator.ledger import LedgerMisconfigured, LedgerUnavailable
from orchestrator.messages import ARCHIVE_QUEUE, QUEUE
from orchestrator.operations.keys import require_keys
from orchestrator.runtime import Runtime, default_runtime
from orchestrator.settings.environment import one_line

#: A port to listen at.
PORT = WholeNumber(1, 65_535)
#: The processes of an installation. Each is a command of the same name.
PROCESSES = ("web", "worker", "beat", "intake", "recorder")
#: The queues that a worker may read.
QUEUES = (QUEUE, ARCHIVE_QUEUE)
#: The variables of the processes, with their defaults.
DEFAULTS = {
    "HOST": "127.0.0.1",
    "PORT": "8080",
    "WEB_CONCURRENCY": "2",
    "WORKER_QUEUES": ",".join(QUEUES),
}


class CannotStart(click.ClickException):
    """A setting, or the machine, does not allow what was asked. Nothing was done."""

    exit_code = 2


def fitting_runtime() -> Runtime:
    """Return the runtime of a process that starts. While Redis is away, its heartbeat joins later.

    Raises:
        CannotStart: the process does not fit the ledger, or Redis refuses us because of a setting.
    """
    runtime = default_runtime()
    try:
        runtime.ledger.installation.join()
    except LedgerMisconfigured as error:
        raise CannotStart(str(error)) from None
    except LedgerUnavailable as error:
        log.get().warning("ledger_unavailable", reason=str(error))
    return runtime


def check_broker(runtime: Runtime) -> None:
    """Check that the broker does not refuse us. It may be away.

    Raises:
        CannotStart: the user, the password, a right or the virtual host is wrong.
    """
    if reason := runtime.broker.refusal():
        fix = "Correct ORCHESTRATOR_BROKER_URL, or the rights of its user."
        raise CannotStart(f"the broker refuses us: {one_line(reason)} {fix}")


def process_command(name: str, environment: Mapping[str, str]) -> list[str]:
    """Return the command line of a process. `orchestrator NAME` becomes this process.

    The interpreter is the running one, so the process has the same packages. `-P` keeps the working
    directory out of the module path: it may have a package called `workers`.

    Args:
        name: one of PROCESSES.
        environment: its HOST, PORT, WEB_CONCURRENCY and WORKER_QUEUES count.
    """

    def value(variable: str) -> str:
        return environment.get(variable) or DEFAULTS[variable]

    module, arguments = "workers", [name]
    if name == "web":
        module, arguments = "webhooks", ["--host", value("HOST"), "--port", value("PORT")]
        arguments += ["--workers", value("WEB_CONCURRENCY")]
    if name == "worker":
        arguments += ["--queues", value("WORKER_QUEUES")]
    if name == "recorder":
        module = "orchestrator"
    return [sys.executable, "-P", "-m", module, *arguments]


@click.command()
@click.option(
    "--host",
    envvar="HOST",
    show_envvar=True,
    default=DEFAULTS["HOST"],
    show_default=True,
    help="The address to listen at. 0.0.0.0 means every address of this machine.",
)
@click.option(
    "--port",
    type=PORT,
    envvar="PORT",
    show_envvar=True,
    default=DEFAULTS["PORT"],
    show_default=True,
    help="The port to listen at.",
)
@click.option(
    "--workers",
    type=WholeNumber(1, 256),
    envvar="WEB_CONCURRENCY",
    show_envvar=True,
    default=DEFAULTS["WEB_CONCURRENCY"],
    show_default=True,
    help="The processes that serve requests. They share the port.",
)
def web(host: str, port: int, workers: int) -> None:
    """Run the web server: the API, the callbacks of providers and the dashboard.

    It speaks plain HTTP, so it listens on this machine only unless --host says otherwise. A proxy
    with TLS stands in front of it. The settings are checked first: with a wrong one, or when the
    port is in use, the exit status is 2. It stops at SIGTERM, after the current requests.
    """
    require_keys(fitting_runtime())
    address = free_address(host, port)
    _become("web", HOST=address, PORT=str(port), WEB_CONCURRENCY=str(workers))


@click.command()
@click.option(
    "--queues",
    envvar="WORKER_QUEUES",
    show_envvar=True,
    default=DEFAULTS["WORKER_QUEUES"],
    show_default=True,
    help="The queues to read, with a comma between them.",
)
def worker(queues: str) -> None:
    """Run a worker: it submits, polls, archives and notifies. Run one or more.

    A worker that reads orchestrator.steps alone takes no archives, and one that reads
    orchestrator.archive alone takes nothing else. At least one worker must read each queue. A
    worker stops at SIGTERM, after the current steps.
    """
    names = [name.strip() for name in queues.split(",") if name.strip()]
    if unknown := [name for name in names or [queues] if name not in QUEUES]:
        allowed = " and ".join(QUEUES)
        raise click.BadParameter(f"{unknown[0]!r} is not a queue of a worker; allowed: {allowed}")
    check_broker(fitting_runtime())
    _become("worker", WORKER_QUEUES=",".join(names))


@click.command()
def beat() -> None:
    """Run beat: it asks the workers for a sweep once a second and for a clean-up once a day.

    Run one. A second one only doubles the sweeps.
    """
    check_broker(fitting_runtime())
    _become("beat")


@click.command()
def intake() -> None:
    """Run the intake: it reads the enqueue messages of other Celery services.

    Run any number, or none if nobody sends such messages. It stops at SIGTERM, after the current
    message.
    """
    check_broker(fitting_runtime())
    _become("intake")


def _become(name: str, **variables: str) -> NoReturn:
    """Replace this process. Signals of a supervisor then reach the right one."""
    command = process_command(name, variables)
    os.execv(command[0], command)  # noqa: S606


def free_address(host: str, port: int, option: str = "--host, --port, HOST or PORT") -> str:
    """Return the IP address of a host of this machine, after a check that nothing listens there.

    Args:
        host: a name or an address of this machine.
        port: of this machine.
        option: where a person corrects both.

    Raises:
        CannotStart: the port is in use, or this machine has no such address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # `localhost` may be ::1 first. People mean 127.0.0.1.
        found.sort(key=lambda each: each[0] != socket.AF_INET)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise CannotStart(
            f"host {host} is not known ({error.strerror}). Correct it with {option}."
        ) from None
    except OSError as error:
        raise CannotStart(_refusal(host, port, error, option)) from None
    return str(address[0])


def _refusal(host: str, port: int, error: OSError, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use. Stop the process that listens there, or choose another port"
            f" with {option}."
        )
    return f"{host}:{port} cannot be used ({error.strerror}). Choose another address with {option}."
