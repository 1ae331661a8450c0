"""Checks Redis by using it, and the processes that record themselves there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.clock import now_ms
from orchestrator.heartbeat import product_version
from orchestrator.jsonio import rfc3339
from orchestrator.ledger import Ledger, LedgerMisconfigured, LedgerMismatch, LedgerUnavailable
from orchestrator.ledger.admission import CircuitState
from orchestrator.ledger.installation import SWEEP_STALE_SECONDS
from orchestrator.operations.check_result import CheckResult, Mark
from orchestrator.settings.environment import redacted
from orchestrator.settings.settings import Settings

#: The oldest version that has everything that the scripts use.
MIN_VERSION = (7, 0)
#: The largest difference between our clock and Redis' clock. Seconds.
MAX_CLOCK_OFFSET_SECONDS = 2.0
#: Every installation needs a process of these kinds. `intake` is for other Celery services only.
NEEDED_PROCESSES = ("web", "worker", "beat", "recorder")

_WAIT = "wait until Redis is ready, and run this command again"
#: The correction of a refusal, by its code.
_REFUSAL_FIXES = {
    "MISCONF": "free disk space for Redis, or correct its directory",
    "OOM": "raise maxmemory of Redis, or run `orchestrator prune --days N`",
    "READONLY": "let ORCHESTRATOR_REDIS_URL name the master; this is a replica",
    "NOREPLICAS": "start the replicas, or lower ORCHESTRATOR_REDIS_WAIT_REPLICAS",
}


def check_redis(ledger: Ledger, settings: Settings) -> Iterator[CheckResult]:
    """Write, run a script in each shard, use a channel, and check each server."""
    try:
        ledger.installation.check_write()
        ledger.agenda.counts(now=now_ms())
        ledger.echoes.check_channel()
        servers = ledger.installation.servers()
    except LedgerUnavailable as error:
        yield away(settings, error)
        return
    yield CheckResult("ledger", "ok", "scripts of every shard run, and channels deliver")
    for name, server in servers.items():
        yield from _server(name, server)
    try:
        ledger.installation.check()
    except LedgerMismatch as error:
        found, _, fix = str(error).partition("; ")
        yield CheckResult("installation", "wrong", found, fix)
    yield _clock(ledger)


def away(settings: Settings, error: LedgerUnavailable) -> CheckResult:
    """Return what a failure of Redis means, and its correction."""
    address = redacted(settings.redis_url)
    if isinstance(error, LedgerMisconfigured):
        return CheckResult("redis", "wrong", str(error), "correct the setting that is named")
    if error.code:
        fix = _REFUSAL_FIXES.get(error.code, _WAIT)
        return CheckResult("redis", "wrong", f"{address} refuses writes: {error}", fix)
    fix = "start Redis, or correct ORCHESTRATOR_REDIS_URL"
    return CheckResult("redis", "wrong", f"no answer at {address}: {error}", fix)


def _server(name: str, server: dict[str, Any]) -> Iterator[CheckResult]:
    """Check the version and the settings of a server. `name` is empty unless there are several."""
    at = f"{name}: " if name else ""
    version = str(server.get("redis_version", "unknown"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MIN_VERSION:
        fix = "use Redis 7 or Valkey, or newer"
        yield CheckResult("redis", "wrong", f"{at}version {version} is too old", fix)
    else:
        yield CheckResult("redis", "ok", f"{at}version {version}")
    if not server.get("aof_enabled"):
        fix = "start Redis with --appendonly yes --appendfsync always"
        found = f"{at}no append-only file, so a restart loses jobs"
        yield CheckResult("durability", "wrong", found, fix)
    elif server.get("appendfsync", "always") == "always":
        yield CheckResult("durability", "ok", f"{at}append-only file, synced always")
    else:
        detail = f"{at}appendfsync {server['appendfsync']}: a host crash may lose the last second"
        yield CheckResult("durability", "warning", detail, "set appendfsync always")
    policy = server.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield CheckResult("eviction", "ok", f"{at}{policy}")
    else:
        detail = f"{at}{policy}: a full Redis deletes jobs"
        yield CheckResult("eviction", "wrong", detail, "set maxmemory-policy noeviction")


def _clock(ledger: Ledger) -> CheckResult:
    """All times of jobs come from Redis, so a difference is no danger for them."""
    off = (now_ms() - ledger.installation.time()) / 1000
    mark: Mark = "ok" if abs(off) < MAX_CLOCK_OFFSET_SECONDS else "warning"
    fix = "" if mark == "ok" else "run NTP"
    return CheckResult("clock", mark, f"{off:+.2f} s different from Redis", fix)


def check_sweep(ledger: Ledger) -> CheckResult:
    """Check that beat asks for sweeps, and that a worker does them."""
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
        found = f"no {kind} process gives signs of life"
        if last is not None:
            found = f"the last sign of life of a {kind} process is {(now - last) / 1000:.0f} s old"
        yield CheckResult("processes", "warning", found, f"start the {kind} process")


def other_versions(ledger: Ledger) -> Iterator[CheckResult]:
    """Warn of running processes with another version than this command."""
    now, own = ledger.installation.time(), product_version()
    running = [each for each in ledger.processes.alive(now=now) if not each.is_silent(now)]
    for version in sorted({each.version for each in running} - {own}):
        kinds = ", ".join(sorted({each.kind for each in running if each.version == version}))
        found = f"{kinds}: version {version}, and this command has {own}"
        yield CheckResult("versions", "warning", found, "end the upgrade: restart these processes")


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
