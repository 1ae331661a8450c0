"""Measures the CPU time of a job with one shard and with several, the recorder's included.

All shards are on one Redis. docs/scaling.md takes its factors from the medians: several shards to
one, and with an image to without.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import stub_provider
from benchmarks.completions import Round, alternate, play
from benchmarks.product import PLAIN, JobKind, Product
from benchmarks.report import Report
from orchestrator.clock import now_ms
from orchestrator.history.history import History
from orchestrator.ledger import Ledger
from orchestrator.operations.history_state import history_report

SHARDS = 16
#: Jobs of a round.
JOBS = 400
ROUNDS = 3
PROCESSES = ("web", "worker", "beat", "recorder")
KINDS = {"no image": PLAIN, "an image of 64x64 archived": JobKind(images=True)}


def run(jobs: int = JOBS, rounds: int = ROUNDS) -> Report:
    """Measure both numbers of shards, one after the other, with each kind of job."""
    results: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        provider, _ = stack.enter_context(stub_provider.running(folder))
        for shards in (1, SHARDS):
            settings = {"ORCHESTRATOR_SHARDS": str(shards)}
            product = _RecordedProduct(
                folder / str(shards), provider, processes=PROCESSES, settings=settings
            )
            place = f"sqlite:///{product.folder / 'history' / 'history.db'}"
            with product, closing(History(place)) as product.history:
                product.ledger = Ledger.from_url(product.stack.redis_url or "", shards=shards)
                players = {
                    f"{title}, {shards} shards": partial(play, product, provider, kind)
                    for title, kind in KINDS.items()
                }
                results |= alternate(players, jobs, rounds)
    report = Report("shards", f"{rounds} rounds of {jobs} jobs")
    for title, played in results.items():
        parts = {name: [each.cpu_us[name] for each in played] for name in played[0].cpu_us}
        report.add(f"CPU of a job: {title}", "us", parts)
    for kind in KINDS:
        one, several = (results[f"{kind}, {shards} shards"] for shards in (1, SHARDS))
        report.add(f"several shards to one: {kind}", "x", _ratios(one, several))
    return report


class _RecordedProduct(Product):
    """A product whose jobs have come to their end when the recorder has written them, too."""

    history: History

    def completed(self, kind: JobKind = PLAIN) -> list[int]:
        """Return how many jobs have come to each end; none until the history has all changes."""
        ended = super().completed(kind)
        return ended if self._is_recorded() else [0] * len(ended)

    def _is_recorded(self) -> bool:
        return history_report(self.ledger, self.history, now=now_ms()).lag_seconds == 0


def _ratios(one: list[Round], several: list[Round]) -> dict[str, list[float]]:
    """Return the ratio of the medians of each process."""

    def of(rounds: list[Round], name: str) -> float:
        return median(each.cpu_us[name] for each in rounds)

    return {name: [of(several, name) / of(one, name)] for name in one[0].cpu_us}
