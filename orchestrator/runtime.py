"""What every step needs, put together once for each process."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from orchestrator.archive.storage import Storage
from orchestrator.clock import LedgerClock, now_ms
from orchestrator.config import ProviderSettings, Settings
from orchestrator.http import Http
from orchestrator.jobs import Job
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.notify.hosts import Turns
from orchestrator.nudges import Broker, Nudger
from orchestrator.providers import PROVIDERS, Provider
from orchestrator.schemas import job_view
from orchestrator.security.session import GuardedSession

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of one process, wired. Tests put other parts in."""

    settings: Settings
    ledger: Ledger
    http: Http
    nudger: Nudger
    providers: Mapping[str, Provider]
    #: For addresses that somebody else chose: image links, callers' servers.
    session: GuardedSession
    storage: Storage
    #: For callers who are told by Celery task.
    broker: Broker
    turns: Turns = field(default_factory=Turns)
    clock: Callable[[], int] = now_ms
    random: Callable[[], float] = random.random

    @classmethod
    def from_settings(cls, settings: Settings) -> Runtime:
        """The real parts. Nothing connects before its first use."""
        nudger = Nudger(Broker(settings.broker_url).send)
        ledger = Ledger.from_url(
            settings.redis_url,
            shards=settings.shards,
            retention_ms=int(settings.retention_days * DAY_MS),
            follow=nudger.follow,
        )
        http = Http(
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.read_timeout_seconds,
        )
        session = GuardedSession(settings.guard, connect_timeout=settings.connect_timeout_seconds)
        return cls(
            settings,
            ledger,
            http,
            nudger,
            PROVIDERS,
            session=session,
            storage=Storage.from_url(settings.archive_url),
            broker=Broker(settings.broker_url),
            clock=LedgerClock(ledger.time, LedgerUnavailable),
        )

    def view(self, job: Job) -> dict[str, Any]:
        """A job as callers see it, JSON-ready."""
        return job_view(job, self.settings.public_url)

    def provider(self, name: str) -> tuple[Provider, ProviderSettings] | None:
        """A provider that is on, with its settings; None when it is off or unknown."""
        settings = self.settings.providers.get(name)
        return (self.providers[name], settings) if settings else None

    def calls_back(self, provider: Provider) -> bool:
        """Whether we ask for callbacks: the provider must offer them, and take our URLs."""
        public_url = self.settings.public_url
        if not provider.capabilities.callbacks or public_url is None:
            return False
        # Where private networks are allowed, the provider is a sandbox that takes any URL.
        private = self.settings.allow_private_networks
        return private or provider.callback_refusal(public_url) is None


@cache
def default() -> Runtime:
    """The runtime of this process' environment.

    Raises:
        ConfigError: a setting is missing or wrong.
    """
    return Runtime.from_settings(Settings.from_env())
