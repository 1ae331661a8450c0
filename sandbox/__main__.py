"""The command `python -m sandbox`."""

import random
import signal
import socket
import sys
from pathlib import Path

import click
import structlog

from .limits_api import LIMIT_FORMAT, read_limit
from .number_options import Number, WholeNumber
from .registry import PROVIDERS
from .rule_spec import RuleSpec
from .script import ScriptError, read_script
from .server import Sandbox
from .settings import SandboxSettings
from .signing import BadSecretError, read_secret

_ADDRESSES = "\n".join(f"  http://HOST:PORT/{provider.name}" for provider in PROVIDERS)
_EPILOG = f"""\b
Point a client at one of these in place of the provider's own scheme and host:
{_ADDRESSES}
\b
  curl http://127.0.0.1:8700/hiapi/v1/tasks \\
    -H 'Authorization: Bearer sandbox' \\
    -d '{{"model": "Nano-Banana-2", "input": {{"prompt": "A red cube"}}}}'
\b
Set faults in the prompt ("A red cube [sandbox: duplicate=5, slow=2s]"), in a
fault script, with POST /control/faults, or on the page at /. The page lists
every fault, and shows tasks, charges and callbacks. An environment variable
sets the option of its name, such as SANDBOX_PORT and SANDBOX_API_KEY. A fault
script:
\b
  - match: lighthouse
    times: 1
    faults: {{lost_response: , duplicate: 5}}
  - share: 20%
    faults: {{late: 30s}}
"""


@click.command(
    epilog=_EPILOG,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "SANDBOX",
        "show_default": True,
        "max_content_width": 96,
    },
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8700, type=WholeNumber(0, 65535), help="0 picks a free port.")
@click.option("--api-key", default="sandbox", help="The API key that every provider accepts.")
@click.option(
    "--webhook-secret",
    multiple=True,
    metavar="PROVIDER=SECRET",
    callback=lambda _, __, values: _read_secrets(values),
    help="Signs a provider's callbacks. Repeat it for more providers.  [default: unsigned]",
)
@click.option("--hiapi-webhook-secret", help="The same as --webhook-secret hiapi=SECRET.")
@click.option(
    "--inbox-secret",
    callback=lambda _, __, value: _check_secret(value),
    help="whsec_…; verifies the notifications in the inbox.  [default: not verified]",
)
@click.option(
    "--max-in-flight",
    multiple=True,
    metavar="PROVIDER=N",
    callback=lambda _, __, values: _read_limits(values),
    help="Most tasks in flight at a provider; one more is refused. Repeat it for more providers.",
)
@click.option(
    "--task-seconds",
    default=1.0,
    type=Number(0, 86_400),
    help="Run time of a task, in seconds.",
)
@click.option(
    "--task-spread",
    default=0.0,
    type=Number(0, 2),
    help="How much run times differ; 0.3: two thirds take 0.74 to 1.35 times --task-seconds.",
)
@click.option(
    "--allow-http/--https-only",
    default=False,
    help="Also accept callback URLs with plain HTTP or a private address. The providers do not.",
)
@click.option(
    "--script", type=click.Path(path_type=Path), help="A YAML file with faults.  [default: none]"
)
@click.option(
    "--seed",
    type=WholeNumber(min=0),
    help="Decides which submissions a share hits.  [default: random]",
)
@click.option(
    "--log-level",
    default="info",
    type=click.Choice(["info", "warning"]),
    help="Lowest log level. Logs go to stderr.",
)
def main(
    *,
    host: str,
    port: int,
    api_key: str,
    webhook_secret: dict[str, str],
    hiapi_webhook_secret: str | None,
    inbox_secret: str | None,
    max_in_flight: dict[str, int],
    task_seconds: float,
    task_spread: float,
    allow_http: bool,
    script: Path | None,
    seed: int | None,
    log_level: str,
) -> None:
    """Emulate image-generation APIs over real HTTP, with faults on request.

    Tasks run and end. Callbacks are sent and retried. Images are drawn. Charges are counted.
    Everything is in memory and is lost when the sandbox stops.
    """
    _configure_logs(log_level)
    seed = random.randrange(10**6) if seed is None else seed  # noqa: S311 - not a secret
    settings = SandboxSettings(
        host=host,
        port=port,
        api_key=api_key,
        webhook_secrets=webhook_secret
        | ({"hiapi": hiapi_webhook_secret} if hiapi_webhook_secret else {}),
        inbox_secret=inbox_secret,
        max_in_flight=max_in_flight,
        task_seconds=task_seconds,
        task_spread=task_spread,
        allow_http=allow_http,
        rules=_read(script) if script else (),
        seed=seed,
    )
    _serve(settings, script)


def _serve(settings: SandboxSettings, script: Path | None) -> None:
    """Run the sandbox until SIGTERM or SIGINT."""
    _require_port(settings)
    # The signals are blocked before a thread starts, so that only `sigwait` receives them.
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    with Sandbox(settings) as sandbox:
        click.echo(f"sandbox listening on {sandbox.url}")
        if script:
            click.echo(f"fault script {script}: {len(settings.rules)} rules, seed {settings.seed}")
        signal.sigwait(stop)


def _require_port(settings: SandboxSettings) -> None:
    """End the command when the address cannot be used. werkzeug would not name the options."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        raise click.ClickException(
            f"{settings.host}:{settings.port} cannot be used ({error.strerror}). Stop the process"
            " that listens there, or choose another address with --host and --port."
        ) from None


def _check_secret(secret: str | None) -> str | None:
    if not secret:
        return None
    try:
        read_secret(secret)
    except BadSecretError as error:
        raise click.BadParameter(str(error)) from error
    return secret


def _read_secrets(values: tuple[str, ...]) -> dict[str, str]:
    known, secrets = {provider.name: provider for provider in PROVIDERS}, {}
    for text in values:
        name, _, secret = text.partition("=")
        if name not in known or not secret:
            raise click.BadParameter(f"must be PROVIDER=SECRET, PROVIDER one of {', '.join(known)}")
        try:
            if known[name].standard_webhooks:
                read_secret(secret)
        except BadSecretError as error:
            raise click.BadParameter(f"the secret of {name} {error}") from error
        secrets[name] = secret
    return secrets


def _read_limits(values: tuple[str, ...]) -> dict[str, int]:
    limits = {}
    for text in values:
        name, _, number = text.partition("=")
        limit = read_limit(number)
        if name not in {provider.name for provider in PROVIDERS} or limit is None:
            names = ", ".join(provider.name for provider in PROVIDERS)
            message = f"must be PROVIDER=N, N {LIMIT_FORMAT}, PROVIDER one of {names}; got {text!r}"
            raise click.BadParameter(message)
        limits[name] = limit
    return limits


class _ScriptFailure(click.ClickException):
    exit_code = 2


def _read(script: Path) -> tuple[RuleSpec, ...]:
    try:
        return read_script(script)
    except ScriptError as error:
        raise _ScriptFailure(str(error)) from error


def _configure_logs(level: str) -> None:
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    main(prog_name="python -m sandbox")
