"""The command: ``python -m sandbox``."""

import random
import signal
import sys
from pathlib import Path

import click
import structlog

from .rule_spec import Terms
from .script import ScriptError, read_script
from .server import Sandbox
from .settings import Settings
from .signing import BadSecretError, read_secret

_EPILOG = """\b
Point a client at http://HOST:PORT/hiapi, http://HOST:PORT/evolink,
http://HOST:PORT/uniall or http://HOST:PORT/aigptimage in place of the provider's
own scheme and host:
\b
  curl http://127.0.0.1:8700/hiapi/v1/tasks \\
    -H 'Authorization: Bearer sandbox' \\
    -d '{"model": "Nano-Banana-2", "input": {"prompt": "A red cube"}}'
\b
Ask for trouble in the prompt, "A red cube [sandbox: duplicate=5, slow=2s]", in a
fault script, by POST /control/faults, or on the page at /, which also lists every
fault and shows what was asked, charged and sent. Options can also be set as
SANDBOX_PORT, SANDBOX_API_KEY and so on. A fault script:
\b
  - match: lighthouse
    times: 1
    faults: {lost_response: , duplicate: 5}
  - share: 20%
    faults: {late: 30s}
"""


@click.command(
    epilog=_EPILOG,
    context_settings={
        "auto_envvar_prefix": "SANDBOX",
        "show_default": True,
        "max_content_width": 96,
    },
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8700, type=click.IntRange(0, 65535), help="0 picks a free port.")
@click.option("--api-key", default="sandbox", help="The key every provider accepts.")
@click.option("--hiapi-webhook-secret", help="Sign HiAPI's callbacks with it.  [default: unsigned]")
@click.option(
    "--inbox-secret",
    callback=lambda _, __, value: _checked(value),
    help="whsec_…; has the inbox check who signed a notification.  [default: unchecked]",
)
@click.option(
    "--task-seconds", default=1.0, type=click.FloatRange(0, 86_400), help="How long a task runs."
)
@click.option(
    "--allow-http/--https-only",
    default=False,
    help="Take callback URLs that are plain HTTP or on this machine; the providers do not.",
)
@click.option(
    "--script", type=click.Path(path_type=Path), help="A YAML file of faults.  [default: none]"
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Decides what a share of a rule falls on.  [default: another one each time]",
)
@click.option(
    "--log-level", default="info", type=click.Choice(["info", "warning"]), help="Logs go to stderr."
)
def main(
    *,
    host: str,
    port: int,
    api_key: str,
    hiapi_webhook_secret: str | None,
    inbox_secret: str | None,
    task_seconds: float,
    allow_http: bool,
    script: Path | None,
    seed: int | None,
    log_level: str,
) -> None:
    """Emulate image-generation APIs over real HTTP, with any fault on demand.

    Tasks run and finish, callbacks are sent and retried, pictures are drawn, and every charge
    is counted. Nothing is stored: stopping it forgets everything.
    """
    _configure_logs(log_level)
    seed = random.randrange(10**6) if seed is None else seed  # noqa: S311 - no secret
    settings = Settings(
        host=host,
        port=port,
        api_key=api_key,
        hiapi_webhook_secret=hiapi_webhook_secret or None,
        inbox_secret=inbox_secret,
        task_seconds=task_seconds,
        allow_http=allow_http,
        rules=_read(script) if script else (),
        seed=seed,
    )
    # Blocked before any thread starts, so that they come here and nowhere else.
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    with Sandbox(settings) as sandbox:
        click.echo(f"sandbox listening on {sandbox.url}")
        if script:
            click.echo(f"fault script {script}: {len(settings.rules)} rules, seed {seed}")
        signal.sigwait(stop)


def _checked(secret: str | None) -> str | None:
    if not secret:
        return None
    try:
        read_secret(secret)
    except BadSecretError as error:
        raise click.BadParameter(str(error)) from error
    return secret


class _BadScript(click.ClickException):
    exit_code = 2


def _read(script: Path) -> tuple[Terms, ...]:
    try:
        return read_script(script)
    except ScriptError as error:
        raise _BadScript(str(error)) from error


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
