"""The ledger: its parts, the creation of a job, and jobs as they are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from redis import Redis

from orchestrator.jobs.event import Event
from orchestrator.jobs.model import (
    Cost,
    Job,
)
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.tenant import DEFAULT_TENANT, Tenant
from orchestrator.ledger import codec, identifiers, keys
from orchestrator.ledger.access import AccessBook
from orchestrator.ledger.admission import (
    Admission,
    ProviderLimits,
)
from orchestrator.ledger.agenda import Agenda
from orchestrator.ledger.audit import AuditTrail
from orchestrator.ledger.batches import Batches
from orchestrator.ledger.bulk import BulkActions
from orchestrator.ledger.changes import ChangeStreams
from orchestrator.ledger.circuit_breaker import CircuitBreaker
from orchestrator.ledger.connection import Clients, connect
from orchestrator.ledger.creation import Creations, NewJob
from orchestrator.ledger.durations import Durations
from orchestrator.ledger.echoes import Echoes
from orchestrator.ledger.follow_ups import FollowUps
from orchestrator.ledger.idempotency import IdempotencyKeys
from orchestrator.ledger.installation import Installation, from_master
from orchestrator.ledger.job_transitions import JobTransitions
from orchestrator.ledger.outcomes import Outcomes
from orchestrator.ledger.overview import Overview
from orchestrator.ledger.processes import Processes
from orchestrator.ledger.refusals import UnreadableJob
from orchestrator.ledger.rejected_messages import RejectedMessages
from orchestrator.ledger.repeats import RepeatedRequests
from orchestrator.ledger.results import Created, Idempotency
from orchestrator.ledger.script_runner import ScriptRunner
from orchestrator.ledger.sessions import Sessions
from orchestrator.ledger.spoiled import SPOILED, Command, read_all, read_fields
from orchestrator.ledger.task_owners import TaskOwners
from orchestrator.ledger.timeline import read_events
from orchestrator.ledger.timings import TimingSums
from orchestrator.ledger.uploads import Uploads
from orchestrator.ledger.waiting_messages import WaitingMessages
from orchestrator.servers.redis_server import RedisServer


class Ledger(JobTransitions):
    """The jobs of one installation. Each part of it is an attribute.

    Args:
        client: makes a client for the calling thread.
        shards: the number of shards. It is chosen at the installation and never changes.
        retention_ms: how long a job is kept after its last follow-up.
        idempotency_ms: how long an idempotency key is kept.
        limits: the configured limits of providers.
        archives: whether images are archived.
    """

    def __init__(
        self,
        client: Callable[[], Redis],
        *,
        shards: int = 1,
        retention_ms: int = 30 * 86_400_000,
        idempotency_ms: int = 86_400_000,
        limits: Mapping[str, ProviderLimits] = {},
        archives: bool = True,
    ) -> None:
        self.connections = Clients(client)
        self._redis = redis = self.connections.client
        scripts = ScriptRunner(self.connections)
        admission, owners = Admission(redis, scripts, limits, shards), TaskOwners(redis)
        super().__init__(scripts, admission, owners, shards, retention_ms, archives=archives)
        self.access = AccessBook(redis)
        self.agenda = Agenda(redis, self.admission)
        self.audit = AuditTrail(redis)
        self.bulk = BulkActions(redis)
        self.changes = ChangeStreams(redis, shards)
        self.circuit_breaker = CircuitBreaker(redis)
        self.creations = Creations(shards, idempotency_ms, self.admission.limits)
        self.durations = Durations(redis, shards)
        self.echoes = Echoes(redis)
        self.follow_ups = FollowUps(redis, scripts, shards, retention_ms)
        self.idempotency_keys = IdempotencyKeys(redis, shards)
        self.installation = Installation(redis, shards)
        self.overview = Overview(redis, shards)
        self.processes = Processes(redis, self.installation)
        self.rejected = RejectedMessages(redis)
        self.repeats = RepeatedRequests(redis, shards, idempotency_ms)
        self.sessions = Sessions(redis, shards)
        self.timings = TimingSums(redis)
        self.uploads = Uploads(redis)
        self.waiting_messages = WaitingMessages(redis)
        self.batches = Batches(redis, shards, retention_ms, idempotency_ms, self.creations)
        self.outcomes = Outcomes(redis, self.get, self.batches.get)

    @classmethod
    def from_url(
        cls, url: str, *, is_cluster: bool = False, wait_replicas: int = 0, **options: Any
    ) -> Ledger:
        """Return a ledger on a Redis. It connects at the first call, and repeats a broken call.

        Args:
            url, is_cluster, wait_replicas: see `RedisServer.parse`.
            options: of the ledger.

        Raises:
            BadServerUrl: the URL is wrong.
        """
        server = RedisServer.parse(url, is_cluster=is_cluster, wait_replicas=wait_replicas)
        return cls(lambda: connect(server), **options)

    def create(
        self,
        request: JobRequest,
        *,
        now: int,
        deadline_at: int,
        tenant: str = DEFAULT_TENANT,
        limits: Tenant | None = None,
        reserve: Mapping[str, Cost] = {},
        idempotency: Idempotency | None = None,
        upload: bytes | None = None,
        retry_of: str = "",
    ) -> Created:
        """Create a queued job that is due at once, or return the job of the idempotency key.

        Args:
            request: a checked request.
            now, deadline_at: ms.
            tenant, limits: the owner and its limits.
            reserve: the expected cost at each provider where the owner has a daily budget.
            idempotency: the key that makes the call safe to repeat.
            upload: a file for the provider.
            retry_of: the id of the job that it retries.

        Returns:
            CREATED, REPLAYED, MISMATCH (the key had another request), GONE (its job has expired),
            with the job's id; or LIMITED (a limit of the tenant is reached).
        """
        new = NewJob(request, deadline_at, tenant, limits, reserve, idempotency, retry_of=retry_of)
        job_id, creation = self.creations.of(new, now=now)

        def create() -> Created:
            return creation.read(self._scripts.run(*creation.call))

        return self.uploads.create_with(job_id, upload, deadline_at - now, create)

    def get(self, job_id: str) -> Job | None:
        """Return a job, or None. Text of another form than a job id is not sent to Redis.

        Raises:
            UnreadableJob: this version cannot read it.
        """
        if not identifiers.is_job_id(job_id):
            return None
        fields = from_master(self._redis, lambda client: read_fields(client, [job_id])[0])
        return codec.read_job(job_id, fields) if fields else None

    def events(self, job_id: str) -> list[Event]:
        """Return the timeline of a job, oldest event first. It is empty for an unknown job.

        Raises:
            UnreadableJob: Redis cannot read it.
        """
        if not identifiers.is_job_id(job_id):
            return []
        reads: list[Command] = [
            ("LRANGE", keys.events(job_id), 0, -1),
            ("HGETALL", keys.job(job_id)),  # it knows what the lines leave out
        ]
        with self._redis() as client:
            lines, fields = read_all(client, reads)
        if lines is SPOILED or fields is SPOILED:
            raise UnreadableJob(job_id)
        return read_events(lines, fields)
