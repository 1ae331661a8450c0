"""The command: ``python -m sandbox``."""

import signal
import sys

import click
import structlog

from .server import Sandbox
from .settings import Settings

_EPILOG = """\b
Point a client at http://HOST:PORT/hiapi, http://HOST:PORT/evolink,
http://HOST:PORT/uniall or http://HOST:PORT/aigptimage in place of the provider's
own scheme and host:
\b
  curl http://127.0.0.1:8700/hiapi/v1/tasks \\
    -H 'Authorization: Bearer sandbox' \\
    -d '{"model": "Nano-Banana-2", "input": {"prompt": "A red cube"}}'
\b
Ask for trouble in the prompt, "A red cube [sandbox: duplicate=5, slow=2s]", or by
POST /control/faults. The page at / shows what was asked, charged and sent, and
lists every fault. Options can also be set as SANDBOX_PORT, SANDBOX_API_KEY and so on.
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
    "--task-seconds", default=1.0, type=click.FloatRange(0, 86_400), help="How long a task runs."
)
@click.option(
    "--allow-http/--https-only",
    default=False,
    help="Take callback URLs that are plain HTTP or on this machine; the providers do not.",
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
    task_seconds: float,
    allow_http: bool,
    log_level: str,
) -> None:
    """Emulate image-generation APIs over real HTTP, with any fault on demand.

    Tasks run and finish, callbacks are sent and retried, pictures are drawn, and every charge
    is counted. Nothing is stored: stopping it forgets everything.
    """
    _configure_logs(log_level)
    settings = Settings(
        host=host,
        port=port,
        api_key=api_key,
        hiapi_webhook_secret=hiapi_webhook_secret or None,
        task_seconds=task_seconds,
        allow_http=allow_http,
    )
    # Blocked before any thread starts, so that they come here and nowhere else.
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    with Sandbox(settings) as sandbox:
        click.echo(f"sandbox listening on {sandbox.url}")
        signal.sigwait(stop)


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
