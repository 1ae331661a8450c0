"""Who kills: SIGKILL after SIGKILL as planned, each victim started again at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, time
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from orchestrator.cli.embedded_redis import EmbeddedRedis
from orchestrator.cli.stack import Stack
from orchestrator.clock import now_ms
from orchestrator.jobs.model import Status, Step
from orchestrator.ledger import Ledger, LedgerUnavailable, keys
from orchestrator.ledger.follow_ups import follow_up_sets
from orchestrator.steps.archive import LEASE_MARGIN_MS
from orchestrator.steps.delivery import LEASE_MS
from tests.chaos.plan import ARCHIVE, DOWNLOAD, NOTIFICATION, REDIS, SUBMISSION, Blow

#: A sweep must be finished so soon after Redis is back; else worker or beat has fallen silent.
#: Seconds.
RECOVERS_WITHIN = 30.0
#: A worker is killed when what it is to die at has just begun, if it does so soon; and how often to
#: look.
#: Seconds.
AIM, GLANCE = 1.0, 0.003
#: The leases on what follows from an outcome; one that has about all its time left was just taken.
#: ms.
FOLLOW_UP = {
    ARCHIVE: (Step.ARCHIVE, int(DOWNLOAD * 2000) + LEASE_MARGIN_MS),
    NOTIFICATION: (Step.NOTIFY, LEASE_MS),
}
JUST_NOW = 300
#: What could be recorded when Redis was back is, so long after. Seconds.
RECORDED = 5.0


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart of Redis: how long it was away, and until the next sweep was done. Seconds."""

    away: float
    #: None: no sweep came
    recovered: float | None
    #: what else died meanwhile, by itself
    ended: str | None


@dataclass(frozen=True, slots=True)
class Death:
    """One kill: when, and when the victim was started again. Unix seconds."""

    victim: str
    at: float
    back: float


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
    deaths: list[Death] = field(default_factory=list)
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

    def bury(self) -> None:
        """End the leases on archives of workers that died, or could not record, as time would."""
        ended = {"worker": time(), REDIS: time() - RECORDED}
        died = max((d.at for d in self.deaths if d.back < ended.get(d.victim, 0)), default=0.0)
        step, lease = FOLLOW_UP[ARCHIVE]
        with Redis.from_url(self.redis.url, decode_responses=True) as client:
            tenants: Any = client.zrange(keys.followed(0, step), 0, -1)
            for tenant in tenants:
                flow = keys.follow_up(0, step, tenant)
                taken: Any = client.zrange(flow, 0, -1, withscores=True)
                for job_id, ends in taken:
                    held = client.hexists(keys.job(job_id), f"{step}.lease")
                    if held and ends - lease < died * 1000:
                        client.zadd(flow, {job_id: now_ms()}, xx=True, lt=True)
                        client.zadd(keys.followed(0, step), {tenant: now_ms()}, xx=True, lt=True)

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
            self._aim(blow)
        at = time()
        self.stack.kill(blow.victim)
        self.stack.start(blow.victim)
        self.deaths.append(Death(blow.victim, at, time()))

    def _aim(self, blow: Blow) -> None:
        """Wait for a step to begin: what a dead worker leaves behind shows only then."""
        ends = monotonic() + AIM
        url = self.redis.url
        with suppress(RedisError), Redis.from_url(url, decode_responses=True) as client:
            under_way = partial(self._under_way, client, blow.aim)
            # Those that died with an earlier worker count as under way until their lease ends.
            before = under_way()
            while monotonic() < ends and not self._stop.wait(GLANCE):
                now = under_way()
                if now > before:
                    self._stop.wait(blow.linger)
                    return
                before = now

    def _under_way(self, client: Redis, aim: str) -> int:
        """How many submissions are; or how many archives or notifications were begun just now."""
        if aim == SUBMISSION:
            return int(client.hget(keys.counts(0), Status.SUBMITTING) or 0)
        step, lease = FOLLOW_UP[aim]
        ends = now_ms() + lease
        flows = follow_up_sets(client, 0, step)
        return sum(int(client.zcount(flow, ends - JUST_NOW, ends + JUST_NOW)) for flow in flows)

    def _note_the_dead(self) -> str | None:
        dead = self.stack.dead()
        if dead:
            self.ended.append(dead)
            self.stack.running.pop(dead)
            self.stack.start(dead)
        return dead

    def _restart(self, away: float) -> Restart:
        began, at = monotonic(), time()
        self.redis.kill()
        self._stop.wait(away)
        self.redis.start()
        back, since = monotonic(), now_ms()
        self.deaths.append(Death(REDIS, at, time()))
        recovered = self._next_sweep(since)
        ended = self._note_the_dead()
        told = None if recovered is None else round(recovered - back, 2)
        return Restart(round(back - began, 2), told, ended)

    def _next_sweep(self, since: int) -> float | None:
        """When a sweep was finished that began after `since` (ms); None if none was in time."""
        ledger, ends = Ledger.from_url(self.redis.url), monotonic() + RECOVERS_WITHIN
        while monotonic() < ends and not self._stop.wait(0.05):
            try:
                if (ledger.installation.last_sweep() or 0) > since:
                    return monotonic()
            except LedgerUnavailable:
                pass
        return None
