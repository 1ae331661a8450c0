"""Compares whole jobs with peers: the same provider, the same clients, one machine, one run.

Each system does what `completions` measures without images. benchmarks/peers/README.md describes
the peers, their settings and what they sync to the disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import stub_provider
from benchmarks.completions import CLIENTS, Round, add, alternate, play, shortened
from benchmarks.peers.celery import Celery
from benchmarks.peers.dbos import DBOS, DBOSOnPostgres
from benchmarks.peers.installation import MissingPeer
from benchmarks.peers.restate import Restate
from benchmarks.product import PLAIN, Product
from benchmarks.report import Report, progress, ratios
from benchmarks.stub_provider import Provider
from benchmarks.system import System

ROUNDS = 3
#: Jobs of a round.
JOBS = 1500
#: Slow systems get this part of the jobs, so that a round takes a similar time.
PARTS = {"DBOS on SQLite": 0.06, "DBOS on PostgreSQL": 0.06, "Celery by hand": 0.2}
OURS, RESTATE = "ours", "Restate, JavaScript service"
#: How many times the rate of each system ours must have.
GOALS = {RESTATE: 1.1, "Celery by hand": 3.0, "DBOS on SQLite": 20.0, "DBOS on PostgreSQL": 20.0}
SYSTEMS: dict[str, Callable[[Path, Provider], System]] = {
    OURS: Product,
    RESTATE: Restate,
    "Celery by hand": Celery,
    "DBOS on SQLite": DBOS,
    "DBOS on PostgreSQL": DBOSOnPostgres,
}


def run(jobs: int = JOBS, rounds: int = ROUNDS) -> Report:
    """Measure all systems in turns."""
    title = f"{rounds} rounds of {jobs} jobs (slow systems fewer), {CLIENTS} clients"
    report = Report("comparison", title)
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        provider, _ = closing.enter_context(stub_provider.running(folder))
        players: dict[str, Callable[[int], Round]] = {}
        for number, (name, make) in enumerate(SYSTEMS.items()):
            progress(f"starting {name}")
            try:
                system = closing.enter_context(make(folder / str(number), provider))
            except MissingPeer as error:
                report.missing.append(f"{name}: {error}")
            else:
                whole = partial(play, system, provider, PLAIN)
                players[name] = shortened(whole, PARTS.get(name, 1))
        results = alternate(players, jobs, rounds)
    add(report, results)
    _compare(report, results)
    return report


def _compare(report: Report, results: dict[str, list[Round]]) -> None:
    rates = {name: [each.rate for each in rounds] for name, rounds in results.items()}
    times = {name: ratios(rates[OURS], rates[name]) for name in rates if name != OURS}
    report.add("the rate of ours to that of", "x", times)
    cpu = {name: [each.whole_cpu_us for each in rounds] for name, rounds in results.items()}
    report.add(
        "the CPU time of ours to that of",
        "x",
        {name: ratios(cpu[OURS], cpu[name]) for name in times},
    )
    for name, values in times.items():
        report.goal(f"ours to {name}:", median(values), GOALS[name])
