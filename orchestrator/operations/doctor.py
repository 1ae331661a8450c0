"""Checks a deployment by using its parts, and names the correction of each problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from orchestrator import log
from orchestrator.callbacks.spool import Spool
from orchestrator.history import open_history
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.messages import Broker
from orchestrator.operations.check_broker import check_broker, check_queues
from orchestrator.operations.check_callbacks import check_callbacks
from orchestrator.operations.check_proxy import check_proxy
from orchestrator.operations.check_redis import (
    away,
    check_redis,
    check_sweep,
    circuits,
    missing_processes,
    other_versions,
)
from orchestrator.operations.check_result import CheckResult
from orchestrator.operations.check_settings import check_settings, unknown_variables
from orchestrator.operations.history_state import HistoryState, history_report
from orchestrator.plain_text import masked
from orchestrator.runtime import has_archived, open_ledger
from orchestrator.settings.environment import ConfigError, one_line
from orchestrator.settings.settings import Settings
from orchestrator.storage.storage import Storage, StorageError

if TYPE_CHECKING:
    from orchestrator.history.history import History

__all__ = ["CheckResult", "examine"]


def examine() -> Iterator[CheckResult]:
    """Yield the result of each check. Correct problems in this order. Nothing is raised."""
    yield from unknown_variables()
    try:
        settings = Settings.from_env()
    except ConfigError as error:
        yield CheckResult("settings", "wrong", str(error), "correct this variable")
        return
    ledger, broker = open_ledger(settings), Broker(settings.broker_url)
    checks: dict[str, Callable[[], Iterable[CheckResult]]] = {
        "settings": lambda: check_settings(settings),
        "outbound proxy": lambda: check_proxy(settings),
        "spool": lambda: _spool(Spool(settings.spool_dir)) if settings.spool_dir else [],
        "archive": lambda: [_archive(settings, ledger)],
        "redis": lambda: check_redis(ledger, settings),
        "processes": lambda: _processes(ledger, settings),
        "history": lambda: [check_history(ledger, open_history(settings.history_url))],
        "broker": lambda: check_broker(settings, broker),
        "queues": lambda: check_queues(ledger, broker),
        "callbacks": lambda: check_callbacks(settings, now=ledger.installation.time()),
    }
    redis_is_away = False
    for name, check in checks.items():
        if redis_is_away and name in ("processes", "history", "queues", "callbacks"):
            continue
        for result in _results(name, check, settings):
            redis_is_away |= result.check == "redis" and result.mark == "wrong"
            yield result


def _results(
    name: str, check: Callable[[], Iterable[CheckResult]], settings: Settings
) -> Iterator[CheckResult]:
    """Yield the results of a check. What it raises becomes a result, too."""
    try:
        yield from check()
    except LedgerUnavailable as error:
        yield away(settings, error)
    except Exception as error:  # noqa: BLE001  # a check of a broken part may meet anything
        log.get().debug("check_crashed", check=name, error=type(error).__name__)
        found = f"the check broke off with {type(error).__name__}: {one_line(masked(str(error)))}"
        yield CheckResult(name, "wrong", found, "correct what the message names")


def _processes(ledger: Ledger, settings: Settings) -> Iterator[CheckResult]:
    yield check_sweep(ledger)
    yield from missing_processes(ledger)
    yield from other_versions(ledger)
    yield from circuits(ledger, settings)


def _spool(spool: Spool) -> Iterator[CheckResult]:
    """Check as the user of this command. The web process may run as another user."""
    try:
        spool.check()
        waiting, bad = len(spool.waiting()), len(spool.bad())
    except OSError as error:
        fix = "give the folder to the user of web, or correct ORCHESTRATOR_SPOOL_DIR"
        yield CheckResult("spool", "wrong", f"{spool.folder}: {error.strerror}", fix)
        return
    if waiting:
        fix = "check that a web process runs; it applies them when Redis answers"
        yield CheckResult("spool", "warning", f"{waiting} callbacks are waiting", fix)
    else:
        yield CheckResult("spool", "ok", "no callbacks are waiting, and the folder is writable")
    if bad:
        fix = f"inspect *.bad in {spool.folder}, then remove them"
        yield CheckResult("spool", "warning", f"{bad} files are not callbacks", fix)


def _archive(settings: Settings, ledger: Ledger) -> CheckResult:
    """Check from this host. A folder must be shared by web and every worker."""
    if not settings.archive:
        found = "switched off, so images are lost when their links expire"
        return CheckResult("archive", "warning", found, "unset ORCHESTRATOR_ARCHIVE")

    def is_used() -> bool:
        try:
            return has_archived(ledger)
        except LedgerUnavailable:  # the check of Redis says so
            return False

    storage = Storage.from_url(settings.archive_url, is_used)
    try:
        storage.check()
    except StorageError as error:
        fix = "correct ORCHESTRATOR_ARCHIVE_URL, or solve the problem at the storage"
        return CheckResult("archive", "wrong", str(error), fix)
    return CheckResult("archive", "ok", f"{storage} can be written, read and deleted")


def check_history(ledger: Ledger, history: History) -> CheckResult:
    """Check that searches find every job, and that the recorder runs."""
    report, place = history_report(ledger, history, now=ledger.installation.time()), history.place
    history.close()
    start = "run: orchestrator recorder"
    match report.state:
        case HistoryState.CURRENT:
            return CheckResult("history", "ok", f"up to date, at {place}")
        case HistoryState.ABSENT:
            found = "no recorder has run, so searches find the jobs of Redis only"
            return CheckResult("history", "warning", found, start)
        case HistoryState.AWAY:
            fix = "start the database, or correct ORCHESTRATOR_HISTORY_URL"
            return CheckResult("history", "wrong", f"no answer at {place}: {report.reason}", fix)
        case HistoryState.FILLING:
            fix = f"wait, or {start}; for older jobs: orchestrator history rebuild"
            return CheckResult("history", "warning", "it does not have every job yet", fix)
    found = f"the oldest missing change is {report.lag_seconds:.0f} s old"
    return CheckResult("history", "warning", found, start)
