"""`orchestrator dev` and `sandbox`: the product and the sandbox, for writing a client."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

import click

from orchestrator.cli.number_options import Number
from orchestrator.cli.output import as_json, lines, print_json
from orchestrator.cli.ports import require_free_port
from orchestrator.cli.processes import PORT, PROCESSES
from orchestrator.cli.stack import Stack, require_sandbox
from orchestrator.cli.stack_error import StackError
from orchestrator.providers import BUILT_IN, PROVIDERS
from orchestrator.settings.dangers import DEV_KEY

#: The settings of an installation: `dev` has its own address, keys, folder and providers.
_OWN = (
    *("_URL", "_URL_FILE", "_KEY", "_KEYS", "_KEY_FILE", "_KEYS_FILE", "_SECRET", "_SECRET_FILE"),
    *("_OLD", "_DIR", "ALLOW_PRIVATE_NETWORKS"),
)


def stop_on_sigterm() -> None:
    """Raise SystemExit at SIGTERM, so that every `with` stops what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def inherited_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of an environment that `dev` does not choose itself, such as limits.

    A plug-in has no twin in the sandbox, so all its settings are those of the environment.
    """
    plug_ins = tuple(f"{name.upper()}_" for name in PROVIDERS if name not in BUILT_IN)
    others = ("ORCHESTRATOR_", *(f"{name.upper()}_" for name in BUILT_IN))
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(plug_ins) or (name.startswith(others) and not name.endswith(_OWN))
    }


@click.command()
@click.option("--port", default=8080, type=PORT, show_default=True, help="Where the API listens.")
@click.option(
    "--sandbox-port", default=8700, type=PORT, show_default=True, help="Where the sandbox listens."
)
@click.option(
    "--task-seconds",
    default=3.0,
    type=Number(0, 86_400),
    show_default=True,
    help="Time per image in the sandbox.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    help="Where the embedded Redis keeps jobs between runs.",
)
@as_json
def dev(port: int, sandbox_port: int, task_seconds: float, data_dir: Path, json_: bool) -> None:
    """Run web, worker, beat, intake, recorder and the sandbox until Ctrl-C.

    An embedded Redis is started, unless ORCHESTRATOR_REDIS_URL is set. The sandbox acts as every
    built-in provider, so nothing leaves this machine. Logs go to this terminal.

    Limits, times and prices of your environment hold, such as HIAPI_MAX_IN_FLIGHT. Addresses, keys,
    secrets and folders are those of dev. A provider plug-in keeps all its settings, so it calls the
    address of its {PROVIDER}_BASE_URL.
    """
    for option, number in (("--port", port), ("--sandbox-port", sandbox_port)):
        require_free_port(option, number)
    stop_on_sigterm()
    stack = Stack(
        processes=PROCESSES,
        redis_url=os.environ.get("ORCHESTRATOR_REDIS_URL") or None,
        web_port=port,
        sandbox_port=sandbox_port,
        task_seconds=task_seconds,
        settings=inherited_settings(os.environ),
        folder=data_dir.resolve(),
        check=True,
        quiet=False,
        api_key=DEV_KEY,
    )
    with suppress(KeyboardInterrupt), stack:
        _print_addresses(stack, write_exports(stack, data_dir.resolve()), json_=json_)
        watch_over(stack)


def write_exports(stack: Stack, folder: Path) -> Path:
    """Write a shell script that gives another terminal the settings of a stack. Return its path.

    It holds keys, so only its owner may read it.
    """
    prefixes = ("ORCHESTRATOR_", *(f"{name.upper()}_" for name in PROVIDERS))
    settings = {name: value for name, value in stack.env.items() if name.startswith(prefixes)}
    exports = [f"export {name}={quote(value)}" for name, value in sorted(settings.items())]
    exports.append(f'export PATH={quote(str(Path(sys.executable).parent))}:"$PATH"')
    script = folder / "dev.sh"
    script.unlink(missing_ok=True)
    script.touch(mode=0o600)
    script.write_text("\n".join(exports) + "\n", "utf-8")
    return script


def watch_over(stack: Stack) -> None:
    """Wait until Ctrl-C.

    Raises:
        StackError: a process ended by itself.
    """
    tick = threading.Event()
    while not tick.wait(1.0):
        dead = stack.dead()
        if dead:
            raise StackError(
                f"{stack.end_of(dead)}. Its output is above. The jobs are kept: start again, and"
                " they go on."
            )


def _print_addresses(stack: Stack, exports: Path, *, json_: bool) -> None:
    if json_:
        print_json(
            {"dashboard": stack.web_url, "api": stack.web_url, "key": stack.api_key}
            | {"sandbox": stack.sandbox_url, "redis": stack.redis_url, "exports": str(exports)}
        )
        return
    lines(f"""
  dashboard  {stack.web_url}/      the key is {stack.api_key}
  API        {stack.web_url}/v1/jobs      Authorization: Bearer {stack.api_key}
  docs       {stack.web_url}/docs
  sandbox    {stack.sandbox_url}      tasks, charges, callbacks, faults
  Redis      {stack.redis_url}

Try it from another terminal:

  curl -s {stack.web_url}/v1/jobs \\
    -H 'Authorization: Bearer {stack.api_key}' -H 'Content-Type: application/json' \\
    -d '{{"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A lighthouse at dusk"}}'

For `orchestrator` and Python there, export the settings of this installation:

  . {exports}

A prompt with "[sandbox: drop]" loses the callback. docs/sandbox.md lists all faults.
An inbox for notifications: "notify_url": "{stack.sandbox_url}/inbox/me"
Images are in {stack.archive}
Ctrl-C stops everything.
""")


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def sandbox(ctx: click.Context, arguments: tuple[Any, ...]) -> None:
    """Run only the sandbox. `orchestrator sandbox --help` lists its options."""
    require_sandbox()
    start = f"from sandbox.__main__ import main; main(prog_name={ctx.command_path!r})"
    os.execv(sys.executable, [sys.executable, "-P", "-c", start, *arguments])  # noqa: S606
