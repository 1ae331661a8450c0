"""The connected objects of one process."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from math import ceil
from typing import TYPE_CHECKING

from orchestrator import log, tracing
from orchestrator.clock import DAY_MS, LedgerClock, now_ms
from orchestrator.history import open_history
from orchestrator.host_limiter import HostLimiter
from orchestrator.jobs.model import Step
from orchestrator.ledger import Ledger, LedgerUnavailable, Result, Settlement
from orchestrator.messages import Broker, Nudger
from orchestrator.metrics import Timings
from orchestrator.metrics import definitions as metrics
from orchestrator.metrics.labels import CallKind, call_result, provider_label
from orchestrator.net.guarded_session import GuardedSession
from orchestrator.net.http_types import Call, Reply
from orchestrator.place_shares import PlaceShares
from orchestrator.providers import PROVIDERS, Provider
from orchestrator.providers.client import NoAnswer, NotSent, ProviderClient
from orchestrator.retry_queue import RetryQueue
from orchestrator.settings.provider_settings import ProviderSettings
from orchestrator.settings.settings import DEFAULT_ARCHIVE_THREADS, DEFAULT_NOTIFY_THREADS, Settings
from orchestrator.signing_keys import SigningKeys
from orchestrator.step_loop import sleep as sleep_seconds
from orchestrator.step_threads import StepThreads
from orchestrator.storage.storage import Storage

if TYPE_CHECKING:
    from orchestrator.history.history import History

#: Connections to providers that a process keeps open between calls.
MAX_IDLE_CONNECTIONS = 256
#: The name of the threads for archives.
ARCHIVE_THREAD_NAME = "archive"
#: The downloads of a process at once, as a multiple of ORCHESTRATOR_ARCHIVE_THREADS. So one domain,
#: which holds at most two thirds of them, can have as many as this setting says.
DOWNLOADS_PER_THREAD = 1.5
#: The longest expected wait of an image for the share of its domain. Seconds.
ARCHIVE_SHARE_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """The objects that steps and operations need. Tests replace some of them."""

    settings: Settings
    ledger: Ledger
    provider_client: ProviderClient
    nudger: Nudger
    providers: Mapping[str, Provider]
    #: Calls URLs that somebody else chose: image links, callers' servers.
    session: GuardedSession
    storage: Storage
    #: Sends notifications by Celery task.
    broker: Broker
    #: Shares the places for notifications.
    host_limiter: HostLimiter = field(default_factory=lambda: HostLimiter(DEFAULT_NOTIFY_THREADS))
    #: The threads for archives.
    archive_threads: StepThreads = field(
        default_factory=lambda: StepThreads(DEFAULT_ARCHIVE_THREADS, ARCHIVE_THREAD_NAME)
    )
    #: Shares their downloads between hosts and tenants.
    archive_shares: PlaceShares = field(
        default_factory=lambda: PlaceShares(DEFAULT_ARCHIVE_THREADS)
    )
    #: Records what providers answered while Redis was away.
    retry_queue: RetryQueue = field(default_factory=RetryQueue)
    #: The public keys with which providers sign their callbacks.
    signing_keys: SigningKeys = field(default_factory=SigningKeys)
    #: Returns the history. Most processes never need it.
    open_history: Callable[[], History] = field(default_factory=lambda: cache(open_history))
    #: Counts and timings of this process, for `/metrics`.
    timings: Timings = field(default_factory=Timings)
    clock: Callable[[], int] = now_ms
    #: Waits for this many seconds.
    sleep: Callable[[float], None] = sleep_seconds
    random: Callable[[], float] = random.random

    @classmethod
    def from_settings(cls, settings: Settings) -> Runtime:
        """Return the runtime of these settings. Nothing connects before its first use."""
        ledger = open_ledger(settings)
        clock = LedgerClock(ledger.installation.time, LedgerUnavailable)
        nudger = Nudger(Broker(settings.broker_url, clock.estimate).send)
        http = ProviderClient(
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.read_timeout_seconds,
            connections=MAX_IDLE_CONNECTIONS,
            ca_bundle=settings.ca_bundle,
            proxy=settings.outbound_proxy,
        )
        session = GuardedSession(
            settings.guard,
            connect_timeout=settings.connect_timeout_seconds,
            ca_bundle=settings.ca_bundle,
            proxy=settings.outbound_proxy,
        )
        downloads = ceil(DOWNLOADS_PER_THREAD * settings.archive_threads)
        return cls(
            settings,
            ledger,
            http,
            nudger,
            PROVIDERS,
            session=session,
            storage=Storage.from_url(settings.archive_url, partial(has_archived, ledger)),
            broker=Broker(settings.broker_url, confirms=True),
            host_limiter=HostLimiter(settings.notify_threads),
            archive_threads=StepThreads(downloads, ARCHIVE_THREAD_NAME),
            archive_shares=PlaceShares(downloads, max_wait=ARCHIVE_SHARE_WAIT_SECONDS),
            open_history=cache(partial(open_history, settings.history_url)),
            timings=Timings(ledger.timings.add),
            clock=clock,
        )

    @property
    def history(self) -> History:
        """The record of all jobs in SQL. It decides nothing, and may be away."""
        return self.open_history()

    def tell_time(self, time: int) -> None:
        """Take the time of a process that sent a message, if our clock is behind."""
        if isinstance(self.clock, LedgerClock):
            self.clock.tell(time)

    def call_provider(
        self,
        provider: Provider,
        call: Call,
        settings: ProviderSettings,
        *,
        kind: CallKind,
        model: str | None = None,
        fresh_connection: bool = False,
    ) -> Reply | NotSent | NoAnswer:
        """Make one call to a provider with our account there. Network errors are not raised.

        `kind` says what the call is for, in `/metrics`. A `model` says that the call starts a
        generation. With `fresh_connection` no idle connection is used. See `ProviderClient.call`.
        """
        labels = (provider_label(provider.name), kind.value)
        with (
            self.timings.measured(metrics.PROVIDER_CALL_SECONDS, *labels),
            tracing.call_span(call.method, settings.base_url, provider.name, model) as span,
        ):
            answer = self.provider_client.call(
                provider,
                call,
                base_url=settings.base_url,
                api_key=settings.api_key,
                fresh_connection=fresh_connection,
            )
            if isinstance(answer, Reply):
                span.answered(answer.status)
            else:
                span.fail("not_sent" if isinstance(answer, NotSent) else "no_answer")
        self.timings.add(metrics.PROVIDER_CALLS, *labels, call_result(answer).value)
        return answer

    def nudge_due(self, job_id: str, settlement: Settlement) -> Result:
        """Nudge the steps that a settlement made due, and return its result."""
        self.nudger.nudge_steps(job_id, settlement.due)
        if settlement.next_job:
            self.nudger.nudge(Step.SUBMIT, [settlement.next_job])
        if settlement.batch:
            self.nudger.nudge(Step.BATCH, [settlement.batch])
        return settlement.result

    def audit(self, actor: str, action: str, target: str, **detail: str) -> None:
        """Record who did what in the audit trail. The action has happened, so nothing is raised."""
        try:
            self.ledger.audit.record(
                now=self.clock(), actor=actor, action=action, target=target, **detail
            )
        except LedgerUnavailable as error:
            fields = {"actor": actor, "action": action, "target": target, **detail}
            log.get().error("audit_lost", reason=str(error), **fields)

    def enabled_provider(self, name: str) -> tuple[Provider, ProviderSettings] | None:
        """Return an enabled provider with its settings, or None."""
        settings = self.settings.providers.get(name)
        return (self.providers[name], settings) if settings else None

    def calls_back(self, provider: Provider) -> bool:
        """Return whether we request callbacks: the provider offers them and accepts our URL."""
        public_url = self.settings.public_url
        if not provider.capabilities.callbacks or public_url is None:
            return False
        # With private networks allowed, the provider is a sandbox that accepts any URL.
        private = self.settings.allow_private_networks
        return private or provider.callback_refusal(public_url) is None

    def callbacks_are_hints(self, name: str) -> bool:
        """Return whether a callback of this enabled provider only makes a poll due at once."""
        settings = self.settings.providers.get(name)
        confirmed = settings is not None and settings.confirm_callbacks
        return confirmed or self.providers[name].capabilities.callback_is_hint


def open_ledger(settings: Settings) -> Ledger:
    """Return the ledger of these settings. It connects at its first use."""
    return Ledger.from_url(
        settings.redis_url,
        is_cluster=settings.redis_cluster,
        wait_replicas=settings.redis_wait_replicas,
        shards=settings.shards,
        retention_ms=int(settings.retention_days * DAY_MS),
        limits=settings.limits,
        archives=settings.archive,
    )


def has_archived(ledger: Ledger) -> bool:
    """Return whether images of a job that still exists were archived, as far as is easy to see.

    The oldest jobs of each shard are read.

    Raises:
        LedgerUnavailable: Redis is away.
    """
    now = ledger.installation.time()
    for shard in range(ledger.shards):
        oldest = next(ledger.overview.created_before(shard, now), [])
        jobs, _ = ledger.overview.readable_jobs(oldest)
        if any(image.copy for job in jobs.values() for image in job.all_images):
            return True
    return False


@cache
def default_runtime() -> Runtime:
    """Return the runtime of this process's environment.

    Raises:
        ConfigError: a setting is missing or wrong.
    """
    return Runtime.from_settings(Settings.from_env())
