"""`orchestrator doctor`: check a deployment, and say how to mend what is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, Literal

import click
from kombu import Connection
from kombu.exceptions import OperationalError
from rich.table import Table
from rich.text import Text

from orchestrator.callbacks.spool import Spool
from orchestrator.cli.output import as_json, console, print_json
from orchestrator.clock import now_ms
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.messages import QUEUE
from orchestrator.providers import PROVIDERS
from orchestrator.settings.environment import ConfigError, redacted
from orchestrator.settings.settings import VARIABLES, Settings
from orchestrator.storage.storage import Storage, StorageError

#: A sweep older than this, and a clock further off than this, are wrong. Seconds.
SWEEP_STALE = 10.0
CLOCK_OFF = 2.0
#: More waiting messages than this mean that workers are gone, or too few.
BACKLOG = 100

Mark = Literal["ok", "warning", "wrong"]
_COLOURS = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at, and how to mend it if it is not well."""

    check: str
    mark: Mark
    found: str
    mend: str = ""


@click.command()
@as_json
def doctor(json_: bool) -> None:
    """Check this deployment: settings, archive, Redis, broker, worker and beat, clock.

    Exit status 0 only if nothing is wrong; warnings are allowed.
    """
    findings = list(examine())
    if json_:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.mark == "wrong" for finding in findings):
        sys.exit(1)


def examine() -> Iterator[Finding]:
    """Every finding, in the order in which to mend them."""
    yield from _unknown_variables()
    try:
        settings = Settings.from_env()
    except ConfigError as error:
        yield Finding("settings", "wrong", str(error), "correct this variable")
        return
    yield from _settings(settings)
    if settings.spool_dir:
        yield from _spool(Spool(settings.spool_dir))
    yield _archive(Storage.from_url(settings.archive_url))
    ledger = Ledger.from_url(settings.redis_url, shards=settings.shards)
    try:
        yield from _redis(ledger, ledger.server())
        yield _sweep(ledger)
    except LedgerUnavailable as error:
        found = f"no answer at {redacted(settings.redis_url)}: {error}"
        yield Finding("redis", "wrong", found, "start Redis, or correct ORCHESTRATOR_REDIS_URL")
    yield _broker(settings)


def _unknown_variables() -> Iterator[Finding]:
    for name in sorted(n for n in os.environ if n.startswith("ORCHESTRATOR_")):
        if name.removesuffix("_FILE") not in VARIABLES:
            near = get_close_matches(name, VARIABLES, 1)
            mend = f"did you mean {near[0]}?" if near else "this version does not use it: remove it"
            yield Finding("settings", "warning", f"{name} is not a setting", mend)


def _settings(settings: Settings) -> Iterator[Finding]:
    names = ", ".join(settings.providers)
    if names:
        yield Finding("providers", "ok", names)
    else:
        yield Finding("providers", "wrong", "none is on", f"set one of {_key_names()}")
    if settings.public_url:
        yield Finding("public URL", "ok", settings.public_url)
    else:
        mend = "set ORCHESTRATOR_PUBLIC_URL to where providers reach the web process"
        yield Finding("public URL", "warning", "not set: every job is polled", mend)
    if settings.api_keys:
        yield Finding("API keys", "ok", ", ".join(settings.api_keys))
    else:
        mend = "set ORCHESTRATOR_API_KEYS=name:key"
        yield Finding("API keys", "wrong", "none: the web process does not start", mend)
    if settings.notify_secrets:
        yield Finding("notifications", "ok", f"signed, secrets: {len(settings.notify_secrets)}")
    else:
        found = "no secret is set: jobs with a notify_url are refused"
        yield Finding("notifications", "warning", found, "set ORCHESTRATOR_NOTIFY_SECRET")


def _spool(spool: Spool) -> Iterator[Finding]:
    """Seen as this user: the web process may be another."""
    try:
        spool.check()
        waiting, bad = len(spool.waiting()), len(spool.bad())
    except OSError as error:
        mend = "have web's user own the folder, or correct ORCHESTRATOR_SPOOL_DIR"
        yield Finding("spool", "wrong", f"{spool.folder}: {error.strerror}", mend)
        return
    if waiting:
        mend = "web brings them to the ledger once Redis answers; is a web process running?"
        yield Finding("spool", "warning", f"{waiting} callbacks wait", mend)
    else:
        yield Finding("spool", "ok", "no callbacks wait, and the folder can be written")
    if bad:
        mend = f"look at *.bad in {spool.folder}, then remove them"
        yield Finding("spool", "warning", f"{bad} files were no callbacks", mend)


def _archive(storage: Storage) -> Finding:
    """Seen from here: of a folder, every worker and web must see the same."""
    try:
        storage.check()
    except StorageError as error:
        mend = "correct ORCHESTRATOR_ARCHIVE_URL, or what the storage complains of"
        return Finding("archive", "wrong", str(error), mend)
    return Finding("archive", "ok", f"{storage} takes, gives and forgets")


def _key_names() -> str:
    return ", ".join(f"{name.upper()}_API_KEY" for name in PROVIDERS)


def _redis(ledger: Ledger, server: dict[str, Any]) -> Iterator[Finding]:
    yield Finding("redis", "ok", f"version {server.get('redis_version')}")
    if not server.get("aof_enabled"):
        mend = "start Redis with --appendonly yes --appendfsync always"
        yield Finding("durability", "wrong", "no append-only file: a restart forgets jobs", mend)
    elif server.get("appendfsync", "always") == "always":
        yield Finding("durability", "ok", "append-only file, synced always")
    else:
        found = f"appendfsync {server['appendfsync']}: a crash of the host may lose the last second"
        yield Finding("durability", "warning", found, "set appendfsync always")
    policy = server.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield Finding("eviction", "ok", policy)
    else:
        found = f"{policy}: a full Redis throws jobs away"
        yield Finding("eviction", "wrong", found, "set maxmemory-policy noeviction")
    installed = ledger.installed_shards()
    if installed != ledger.shards:
        mend = f"set ORCHESTRATOR_SHARDS={installed}"
        found = f"installed with {installed}, now set to {ledger.shards}"
        yield Finding("shards", "wrong", found, mend)
    off = (now_ms() - server["now_ms"]) / 1000
    mark: Mark = "ok" if abs(off) < CLOCK_OFF else "warning"  # jobs' times are Redis', not ours
    yield Finding("clock", mark, f"{off:+.2f} s off Redis'", "" if mark == "ok" else "run NTP")


def _sweep(ledger: Ledger) -> Finding:
    swept = ledger.last_sweep()
    age = None if swept is None else (ledger.time() - swept) / 1000
    if age is not None and age < SWEEP_STALE:
        return Finding("worker, beat", "ok", f"both alive: last sweep {max(age, 0):.1f} s ago")
    found = "no sweep ever" if age is None else f"last sweep {age:.0f} s ago"
    return Finding("worker, beat", "wrong", found, "start `worker` and `beat` of the Procfile")


def _broker(settings: Settings) -> Finding:
    with Connection(settings.broker_url, connect_timeout=2) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0)
            waiting = connection.SimpleQueue(QUEUE).qsize()
        except connection.channel_errors:  # a queue that was drained does not exist
            waiting = 0
        except (OSError, OperationalError, *connection.connection_errors) as error:
            found = f"no answer at {redacted(settings.broker_url)}: {error}"
            mend = "start the broker, or correct ORCHESTRATOR_BROKER_URL"
            return Finding("broker", "wrong", found, mend)
    if waiting > BACKLOG:
        mend = "is a worker running? if so, start more"
        return Finding("broker", "warning", f"{waiting} messages wait", mend)
    return Finding("broker", "ok", f"{waiting} messages wait")


def _print(findings: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        told = Text(finding.found)
        if finding.mend:
            told.append(f"\n-> {finding.mend}", "bold")
        table.add_row(Text(finding.mark, _COLOURS[finding.mark]), finding.check, told)
    console().print(table)
