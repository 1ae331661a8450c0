"""Checks a deployment, and names the correction of each problem."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from kombu.exceptions import OperationalError

from orchestrator.callbacks.spool import Spool
from orchestrator.clock import now_ms
from orchestrator.history import open_history
from orchestrator.jsonio import rfc3339
from orchestrator.ledger import Ledger, LedgerMisconfigured, LedgerMismatch, LedgerUnavailable
from orchestrator.ledger.admission import CircuitState
from orchestrator.ledger.installation import SWEEP_STALE_SECONDS
from orchestrator.messages import ARCHIVE_QUEUE, QUEUE, Broker
from orchestrator.operations.history_state import HistoryState, history_report
from orchestrator.providers import PROVIDERS
from orchestrator.runtime import open_ledger
from orchestrator.settings.dangers import dangers
from orchestrator.settings.environment import ConfigError, redacted
from orchestrator.settings.settings import VARIABLES, Settings
from orchestrator.storage.storage import Storage, StorageError

if TYPE_CHECKING:
    from orchestrator.history.history import History

#: The largest difference between our clock and Redis' clock. Seconds.
MAX_CLOCK_OFFSET_SECONDS = 2.0
#: With more waiting messages, workers are missing or too few.
MAX_WAITING_MESSAGES = 100

#: Every installation needs a process of these kinds. `intake` is for other Celery services only.
NEEDED_PROCESSES = ("web", "worker", "beat", "recorder")

Mark = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. `fix` is the correction, empty when none is needed."""

    check: str
    mark: Mark
    found: str
    fix: str = ""


_WAIT = "wait until Redis is ready, and run this command again"
#: The correction of a refusal, by its code.
_REFUSAL_FIXES = {
    "MISCONF": "free disk space for Redis, or correct its directory",
    "OOM": "raise maxmemory of Redis, or run `orchestrator prune --days N`",
    "READONLY": "let ORCHESTRATOR_REDIS_URL name the master; this is a replica",
}


def examine() -> Iterator[CheckResult]:
    """Yield the result of each check. Correct problems in this order."""
    yield from _unknown_variables()
    try:
        settings = Settings.from_env()
    except ConfigError as error:
        yield CheckResult("settings", "wrong", str(error), "correct this variable")
        return
    yield from _settings(settings)
    for danger in dangers(settings):
        yield CheckResult("safety", "warning", danger.allows, danger.fix)
    if settings.spool_dir:
        yield from _spool(Spool(settings.spool_dir))
    yield _archive(Storage.from_url(settings.archive_url))
    yield from _ledger(settings)
    yield _broker(settings)


def _ledger(settings: Settings) -> Iterator[CheckResult]:
    ledger = open_ledger(settings)
    address = redacted(settings.redis_url)
    try:
        ledger.installation.check_write()
        yield from _redis(ledger, ledger.installation.server())
        yield _sweep(ledger)
        yield from missing_processes(ledger)
        yield from circuits(ledger, settings)
        yield check_history(ledger, open_history(settings.history_url))
    except LedgerMisconfigured as error:
        yield CheckResult("redis", "wrong", str(error), "correct the setting that is named")
    except LedgerUnavailable as error:
        if error.code:
            fix = _REFUSAL_FIXES.get(error.code, _WAIT)
            yield CheckResult("redis", "wrong", f"{address} refuses writes: {error}", fix)
            return
        fix = "start Redis, or correct ORCHESTRATOR_REDIS_URL"
        yield CheckResult("redis", "wrong", f"no answer at {address}: {error}", fix)


def _unknown_variables() -> Iterator[CheckResult]:
    for name in sorted(n for n in os.environ if n.startswith("ORCHESTRATOR_")):
        if name.removesuffix("_FILE") not in VARIABLES:
            near = get_close_matches(name, VARIABLES, 1)
            fix = f"did you mean {near[0]}?" if near else "remove it; this version does not read it"
            yield CheckResult("settings", "warning", f"{name} is not a setting", fix)


def _settings(settings: Settings) -> Iterator[CheckResult]:
    names = ", ".join(settings.providers)
    if names:
        yield CheckResult("providers", "ok", names)
    else:
        yield CheckResult("providers", "wrong", "no provider is on", f"set one of {_key_names()}")
    if settings.public_url:
        yield CheckResult("public URL", "ok", settings.public_url)
    else:
        fix = "set ORCHESTRATOR_PUBLIC_URL to where providers reach the web process"
        yield CheckResult("public URL", "warning", "not set, so every job is polled", fix)
    if callers := [*settings.api_keys, *settings.admin_keys]:
        yield CheckResult("API keys", "ok", ", ".join(callers))
    else:
        fix = "set ORCHESTRATOR_API_KEYS=name:key, or use: orchestrator keys create"
        detail = "none in the settings; without a key in the ledger, web does not start"
        yield CheckResult("API keys", "warning", detail, fix)
    if settings.notify_secrets:
        yield CheckResult(
            "notifications", "ok", f"signed with {len(settings.notify_secrets)} secrets"
        )
    else:
        detail = "no secret is set, so jobs with a notify_url are refused"
        yield CheckResult("notifications", "warning", detail, "set ORCHESTRATOR_NOTIFY_SECRET")


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


def _archive(storage: Storage) -> CheckResult:
    """Check from this host. A folder must be shared by web and every worker."""
    try:
        storage.check()
    except StorageError as error:
        fix = "correct ORCHESTRATOR_ARCHIVE_URL, or solve the problem at the storage"
        return CheckResult("archive", "wrong", str(error), fix)
    return CheckResult("archive", "ok", f"{storage} can be written, read and deleted")


def _key_names() -> str:
    return ", ".join(f"{name.upper()}_API_KEY" for name in PROVIDERS)


def _redis(ledger: Ledger, server: dict[str, Any]) -> Iterator[CheckResult]:
    yield CheckResult("redis", "ok", f"version {server.get('redis_version')}")
    if not server.get("aof_enabled"):
        fix = "start Redis with --appendonly yes --appendfsync always"
        yield CheckResult(
            "durability", "wrong", "no append-only file, so a restart loses jobs", fix
        )
    elif server.get("appendfsync", "always") == "always":
        yield CheckResult("durability", "ok", "append-only file, synced always")
    else:
        detail = f"appendfsync {server['appendfsync']}: a host crash may lose the last second"
        yield CheckResult("durability", "warning", detail, "set appendfsync always")
    policy = server.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield CheckResult("eviction", "ok", policy)
    else:
        detail = f"{policy}: a full Redis deletes jobs"
        yield CheckResult("eviction", "wrong", detail, "set maxmemory-policy noeviction")
    try:
        ledger.installation.check()
    except LedgerMismatch as error:
        found, _, fix = str(error).partition("; ")
        yield CheckResult("installation", "wrong", found, fix)
    off = (now_ms() - server["now_ms"]) / 1000
    # All times of jobs come from Redis, so a difference is no danger for them.
    mark: Mark = "ok" if abs(off) < MAX_CLOCK_OFFSET_SECONDS else "warning"
    yield CheckResult(
        "clock", mark, f"{off:+.2f} s different from Redis", "" if mark == "ok" else "run NTP"
    )


def _sweep(ledger: Ledger) -> CheckResult:
    swept = ledger.installation.last_sweep()
    age = None if swept is None else (ledger.installation.time() - swept) / 1000
    if age is not None and age < SWEEP_STALE_SECONDS:
        return CheckResult("worker, beat", "ok", f"both alive: last sweep {max(age, 0):.1f} s ago")
    detail = "no sweep yet" if age is None else f"last sweep {age:.0f} s ago"
    return CheckResult(
        "worker, beat", "wrong", detail, "run: orchestrator worker, and: orchestrator beat"
    )


def missing_processes(ledger: Ledger) -> Iterator[CheckResult]:
    """Warn of each kind of needed process that gives no sign of life.

    The checks of the sweep and of the history say whether worker, beat and recorder do their work.
    """
    now = ledger.installation.time()
    known = ledger.processes.alive(now=now)
    for kind in NEEDED_PROCESSES:
        seen = [process for process in known if process.kind == kind]
        if any(not process.is_silent(now) for process in seen):
            continue
        last = max((process.seen_at for process in seen), default=None)
        found = f"no {kind} process has given a sign of life for an hour"
        if last is not None:
            found = f"the last sign of life of a {kind} process is {(now - last) / 1000:.0f} s old"
        yield CheckResult("processes", "warning", found, f"start the {kind} process")


def circuits(ledger: Ledger, settings: Settings) -> Iterator[CheckResult]:
    """Warn of each enabled provider that gets no submissions now."""
    for state in ledger.admission.states(
        settings.providers, now=ledger.installation.time()
    ).values():
        name, shown = state.name, rfc3339(state.until)
        if state.circuit is CircuitState.PAUSED:
            reason = f": {state.pause_reason}" if state.pause_reason else ""
            detail = f"{name} is paused by {state.paused_by}{reason}"
            yield CheckResult("admission", "warning", detail, f"orchestrator resume {name}")
        elif state.circuit is CircuitState.OPEN:
            reason = f": {state.reason.code}, {state.reason.message}" if state.reason else ""
            detail = f"the circuit breaker of {name} is open until {shown}{reason}"
            fix = f"solve it at the provider, then: orchestrator resume {name}"
            yield CheckResult("admission", "warning", detail, fix)


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


def _broker(settings: Settings) -> CheckResult:
    try:
        waiting = Broker(settings.broker_url).waiting([QUEUE, ARCHIVE_QUEUE])
    except (OSError, OperationalError) as error:
        detail = f"no answer at {redacted(settings.broker_url)}: {error}"
        fix = "start the broker, or correct ORCHESTRATOR_BROKER_URL"
        return CheckResult("broker", "wrong", detail, fix)
    queue = max(waiting, key=lambda each: waiting[each])
    if waiting[queue] > MAX_WAITING_MESSAGES:
        fix = "start a worker that reads this queue, or more workers; see WORKER_QUEUES"
        found = f"{waiting[queue]} messages are waiting in {queue}"
        return CheckResult("broker", "warning", found, fix)
    return CheckResult("broker", "ok", f"{sum(waiting.values())} messages are waiting")
