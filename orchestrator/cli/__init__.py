"""The `orchestrator` command."""

from __future__ import annotations

import logging
from typing import Any

import click

from orchestrator import log
from orchestrator.cli.admission import pause, resume
from orchestrator.cli.alive import alive
from orchestrator.cli.batches import batch_command
from orchestrator.cli.bulk import bulk
from orchestrator.cli.dashboard_link import dashboard_link
from orchestrator.cli.demo import demo
from orchestrator.cli.dev import dev, sandbox
from orchestrator.cli.doctor import doctor
from orchestrator.cli.drain import drain
from orchestrator.cli.follow_ups import archive, notify, prune
from orchestrator.cli.history import history, recorder
from orchestrator.cli.jobs import cancel, enqueue, get, poll, retry, watch
from orchestrator.cli.keys import keys
from orchestrator.cli.ledger import list_, reconcile, stats, verify
from orchestrator.cli.mcp import mcp
from orchestrator.cli.output import Group
from orchestrator.cli.processes import CannotStart, beat, intake, web, worker
from orchestrator.cli.providers import providers
from orchestrator.cli.rejected import rejected
from orchestrator.cli.report import report
from orchestrator.cli.stack_error import StackError
from orchestrator.cli.tenants import audit, tenants
from orchestrator.enqueuing import IdempotencyGone, IdempotencyMismatch, TenantLimitReached
from orchestrator.history import HistoryUnavailable
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.ledger import (
    LedgerMisconfigured,
    LedgerMismatch,
    LedgerUnavailable,
    UnreadableJob,
)
from orchestrator.operations.unreadable_jobs import NEXT_STEP
from orchestrator.plain_text import escaped
from orchestrator.runtime import default_runtime
from orchestrator.settings.environment import ConfigError
from orchestrator.storage.storage import StorageError

_EXPECTED = (
    ConfigError,
    HistoryUnavailable,
    IdempotencyGone,
    IdempotencyMismatch,
    InvalidRequest,
    LedgerUnavailable,
    StackError,
    StorageError,
    TenantLimitReached,
)


class _Group(Group):
    """Shows an expected error as one message without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except _EXPECTED as error:
            is_wrong = isinstance(error, (ConfigError, InvalidRequest, LedgerMismatch))
            kind = CannotStart if is_wrong else click.ClickException
            raise kind(_message(error)) from None
        except click.ClickException as error:
            error.message = escaped(error.message, keep="\n")  # type: ignore[misc]
            raise


def _message(error: Exception) -> str:
    if isinstance(error, InvalidRequest):
        return "\n       ".join(escaped(str(each)) for each in error.violations)
    if isinstance(error, LedgerUnavailable):
        return _ledger_message(error)
    if isinstance(error, HistoryUnavailable):
        fix = "Check ORCHESTRATOR_HISTORY_URL and the recorder, or run `orchestrator doctor`."
        return f"The history is not available ({escaped(str(error))}). {fix}"
    return escaped(str(error), keep="\n" if isinstance(error, StackError) else "")


def _ledger_message(error: LedgerUnavailable) -> str:
    if isinstance(error, UnreadableJob):
        return f"{error}. {NEXT_STEP}"
    if isinstance(error, LedgerMisconfigured):
        return escaped(str(error))
    if error.code:
        return f"Redis refuses the call ({error}). Run `orchestrator doctor`."
    return (
        f"Redis does not answer ({error}). Check ORCHESTRATOR_REDIS_URL, or run"
        " `orchestrator doctor`."
    )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="image-orchestrator")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Enqueue an image job once; get exactly one outcome, pay once, keep the image.

    Begin with `orchestrator demo`. It starts everything on this machine, needs no account, and runs
    jobs that meet lost, repeated, early and forged callbacks. `orchestrator dev` runs the same
    processes until Ctrl-C, so that you can write a client.

    The other commands use the installation of the ORCHESTRATOR_ variables in the environment.
    `orchestrator doctor` checks it. `web`, `worker`, `beat`, `intake` and `recorder` are its
    processes. `mcp` is the server for agents; it needs only the address of the API and a key.

    Exit status 0 only if what was asked happened; 2 if an option or a setting is wrong.
    """
    log.configure(logging.WARNING)
    if ctx.invoked_subcommand in _USERS_OF_THE_LEDGER and not ctx.resilient_parsing:
        _check_fit()


def _check_fit() -> None:
    """Check that this version and its settings fit the ledger. A job could be lost otherwise.

    Raises:
        LedgerMismatch: they do not. What else is wrong is left to the command.
    """
    try:
        default_runtime().ledger.installation.check()
    except LedgerMismatch:
        raise
    except (ConfigError, LedgerUnavailable) as error:
        log.get().debug("fit_not_checked", reason=str(error))


_JOBS = (enqueue, batch_command, get, watch, cancel, poll, retry, notify, archive, list_, bulk)
_INSTALLATION = (
    *(providers, pause, resume, stats, report, verify, reconcile, drain, prune, history, doctor),
    *(alive, rejected),
)
_ACCESS = (keys, tenants, dashboard_link, audit)
_USERS_OF_THE_LEDGER = frozenset(
    command.name for command in (*_JOBS, *_INSTALLATION, *_ACCESS) if command is not doctor
)
_PROCESSES = (web, worker, beat, intake, recorder)
for _command in (demo, dev, sandbox, mcp, *_PROCESSES, *_JOBS, *_INSTALLATION, *_ACCESS):
    main.add_command(_command)
