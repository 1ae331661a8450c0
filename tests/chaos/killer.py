"""Who kills: SIGKILL after SIGKILL as planned, each victim started again at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from orchestrator.cli.stack import EmbeddedRedis, Stack
from orchestrator.clock import now_ms
from orchestrator.jobs import Status
from orchestrator.ledger import Ledger, LedgerUnavailable
from tests.chaos.plan import REDIS, Blow

#: A sweep must be finished so soon after Redis is back; else worker or beat has fallen silent.
#: Seconds.
RECOVERS_WITHIN = 30.0
#: A worker is killed when a submission has just begun, if one does so soon; and how often to look.
#: Seconds.
AIM, GLANCE = 1.0, 0.003


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart of Redis: how long it was away, and until the next sweep was done. Seconds."""

    away: float
    #: None: no sweep came
    recovered: float | None
    #: what else died meanwhile, by itself
    ended: str | None


@dataclass
class Killer:
    """Deals the blows from a thread of its own, one after the other.

    After Redis it waits for the sweeps to come back, so that worker and beat have to do it by
    themselves.
    """

    stack: Stack
    redis: EmbeddedRedis
    blows: Sequence[Blow]
    kills: Counter[str] = field(default_factory=Counter)
    restarts: list[Restart] = field(default_factory=list)
    #: processes that ended by themselves
    ended: list[str] = field(default_factory=list)
    #: what broke the killer itself
    broke: BaseException | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Kill nobody any more; what was killed is started again first."""
        self._stop.set()
        self._thread.join()

    @property
    def finished(self) -> bool:
        """Whether the last blow was dealt."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for blow in self.blows:
                if self._stop.wait(blow.after):
                    return
                self._deal(blow)
        except BaseException as error:  # noqa: BLE001 # told in the report
            self.broke = error

    def _deal(self, blow: Blow) -> None:
        self._note_the_dead()
        self.kills[blow.victim] += 1
        if blow.victim == REDIS:
            self.restarts.append(self._restart(blow.away))
            return
        if blow.victim == "worker":
            self._aim()
        self.stack.kill(blow.victim)
        self.stack.start(blow.victim)

    def _aim(self) -> None:
        """Wait for a submission to begin: what a dead worker leaves behind shows only then."""
        ledger, ends = Ledger.from_url(self.redis.url), monotonic() + AIM
        with suppress(LedgerUnavailable):
            # Those that died with an earlier worker count as under way until their lease ends.
            before = ledger.overview.counts().get(Status.SUBMITTING, 0)
            while monotonic() < ends and not self._stop.wait(GLANCE):
                now = ledger.overview.counts().get(Status.SUBMITTING, 0)
                if now > before:
                    return
                before = now

    def _note_the_dead(self) -> str | None:
        dead = self.stack.dead()
        if dead:
            self.ended.append(dead)
            self.stack.running.pop(dead)
            self.stack.start(dead)
        return dead

    def _restart(self, away: float) -> Restart:
        began = monotonic()
        self.redis.kill()
        self._stop.wait(away)
        self.redis.start()
        back, since = monotonic(), now_ms()
        recovered = self._next_sweep(since)
        ended = self._note_the_dead()
        told = None if recovered is None else round(recovered - back, 2)
        return Restart(round(back - began, 2), told, ended)

    def _next_sweep(self, since: int) -> float | None:
        """When a sweep was finished that began after `since` (ms); None if none was in time."""
        ledger, ends = Ledger.from_url(self.redis.url), monotonic() + RECOVERS_WITHIN
        while monotonic() < ends and not self._stop.wait(0.05):
            try:
                if (ledger.last_sweep() or 0) > since:
                    return monotonic()
            except LedgerUnavailable:
                pass
        return None
