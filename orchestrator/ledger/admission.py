"""Admission: whether a provider may get one more submission now.

The scripts of the ledger decide, so the limits hold over all workers. docs/admission.md explains
the rules. This module has the limits, the reasons to wait, and the state of each provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis import Redis

from orchestrator.jobs.model import Job, JobError, Status, Step
from orchestrator.ledger import codec, identifiers, keys
from orchestrator.ledger.replication import wait_for_replicas
from orchestrator.ledger.script import Call, load, run_all
from orchestrator.ledger.script_runner import ScriptRunner


class WaitReason(StrEnum):
    """What an open job waits for."""

    #: A due job with one of these five reasons is not submitted.
    PAUSED = "paused"
    CIRCUIT_OPEN = "circuit_open"
    CIRCUIT_PROBING = "circuit_probing"
    RATE_LIMIT = "rate_limit"
    IN_FLIGHT_LIMIT = "in_flight_limit"
    #: It is due. A worker takes it next.
    WORKER = "worker"
    #: The provider refused the last attempt for now.
    RETRY = "retry"
    #: A worker submits it.
    ANSWER = "answer"
    #: The attempt may have been accepted.
    CALLBACK = "callback"
    #: The provider task runs.
    OUTCOME = "outcome"


#: The kinds of flows. Other open jobs are sent again.
_KINDS = {Status.QUEUED: "queued", Status.RUNNING: "poll"}


class ProviderSign(StrEnum):
    """What the result of a submission shows of its provider."""

    #: It takes no more for now.
    BUSY = "busy"
    #: It is down or refuses our account: another job would fail, too.
    FAILED = "failed"
    ANSWERED = "answered"
    NOTHING = ""


class CircuitState(StrEnum):
    """The state of a provider's circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    #: One job probes the provider.
    HALF_OPEN = "half_open"
    #: Paused by an operator.
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Waiting:
    """An open job waits. `until` is in ms, and None if it is not known."""

    reason: WaitReason
    until: int | None


@dataclass(frozen=True, slots=True)
class Moved:
    """A queued job has left its provider. It is due at `provider`, one of its fallbacks."""

    provider: str


class Departure(StrEnum):
    """Whether a job leaves its provider after a refusal, if it has a fallback."""

    #: It waits, and tries the same provider again.
    NONE = ""
    #: It leaves if a fallback may get it now.
    MAY = "may"
    MUST = "must"


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """The configured limits of a provider, over all workers. None is no limit.

    Attributes:
        max_in_flight: the most attempts between submission and outcome.
        requests_per_second: the most submissions per second.
        burst: submissions that may follow each other at once.
    """

    max_in_flight: int | None = None
    requests_per_second: float | None = None
    burst: int = 1

    def most_in_flight(self, shard: int, shards: int) -> int | None:
        """Return the share of a shard. Each shard counts its own attempts."""
        if self.max_in_flight is None:
            return None
        return self.max_in_flight // shards + (shard < self.max_in_flight % shards)


NO_LIMITS = ProviderLimits()


def flow_of(status: Status, provider: str, tenant: str) -> str:
    """Return the flow of an open job: what it waits for, its provider and its tenant."""
    return f"{_KINDS.get(status, 'resend')}:{provider}:{tenant}"


def _limits_text(limits: Mapping[str, ProviderLimits], shard: int, shards: int) -> str:
    """Return the limits as the scripts read them. Each shard has its share of a limit."""
    return " ".join(_limit_text(name, each, shard, shards) for name, each in limits.items())


def _limit_text(name: str, limits: ProviderLimits, shard: int, shards: int) -> str:
    most, interval = limits.most_in_flight(shard, shards), "-"
    if limits.requests_per_second is not None:
        interval = f"{1000 * shards / limits.requests_per_second:.3f}"
    return f"{name} {'-' if most is None else most} {interval} {max(1, limits.burst // shards)}"


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What the ledger knows of a provider.

    Attributes:
        circuit: of its circuit breaker.
        until: when an open circuit lets a job probe, ms. None while it is closed or paused.
        reason: why it is open: the last refusal or outage. None while it is closed.
        in_flight: attempts between submission and outcome.
        found_limit: the most tasks that ran when the provider refused one more, or None.
        paused_by: who paused it.
        pause_reason: why, in the words of who paused it.
    """

    name: str
    circuit: CircuitState = CircuitState.CLOSED
    until: int | None = None
    reason: JobError | None = None
    in_flight: int = 0
    found_limit: int | None = None
    paused_by: str | None = None
    pause_reason: str = ""


class Admission:
    """The states of the providers.

    Args:
        client: returns the client of this thread.
        limits: the configured limits.
        shards: the number of shards. Each shard has its own state of a provider.
    """

    def __init__(
        self,
        client: Callable[[], AbstractContextManager[Redis]],
        scripts: ScriptRunner,
        limits: Mapping[str, ProviderLimits],
        shards: int,
    ) -> None:
        self._redis = client
        self._scripts = scripts
        self._shards = range(shards)
        #: The limits of each shard as the scripts read them.
        self.limits = [_limits_text(limits, shard, shards) for shard in self._shards]
        self._hold = load("hold_provider")
        self._waits = load("waits")
        self._obstacle = load("obstacle")

    def hold(self, provider: str, step: Step, error: JobError, *, now: int, ends_at: int) -> None:
        """Postpone a step (SUBMIT or POLL) of all jobs of a provider until a time (ms).

        A held submission opens the circuit breaker: after that time one job probes the provider.
        A job at its deadline is claimed as usual.
        """
        args: list[str | int] = [now, step, ends_at, codec.dumps(error)]
        for shard in self._shards:
            self._scripts.run(self._hold, [keys.provider(shard, provider)], args)

    def pause(self, provider: str, *, by: str, now: int, reason: str = "") -> None:
        """Stop the submissions of a provider until `resume`. Polls go on."""
        stored = codec.dumps({"by": by, "at": now, "reason": reason})
        with self._redis() as client:
            for shard in self._shards:
                client.hset(keys.provider(shard, provider), "paused", stored)
                wait_for_replicas(client, keys.provider(shard, provider))

    def resume(self, provider: str, *, now: int) -> None:
        """End a pause, and close the circuit breaker of a provider."""
        fields = (
            *("paused", "failures", "failing_since", "open_until", "probe_until", "prober"),
            *("openings", "reason", "polls_paused_until"),
        )
        with self._redis() as client:
            for shard in self._shards:
                with client.pipeline(transaction=False) as pipe:
                    pipe.hdel(keys.provider(shard, provider), *fields)
                    pipe.hset(keys.provider(shard, provider), "waited_until", now)
                    resumed, _ = pipe.execute(raise_on_error=False)
                if isinstance(resumed, Exception):
                    raise resumed  # a full Redis refuses the time only, which is for figures

    def states(self, providers: Iterable[str], *, now: int) -> dict[str, ProviderState]:
        """Return the state of each provider. With several shards, the worst one counts."""
        names = list(providers)
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            for name in names:
                for shard in self._shards:
                    pipe.hgetall(keys.provider(shard, name))
                    pipe.zcard(keys.in_flight(shard, name))
            answers: Any = pipe.execute()
        size = 2 * len(self._shards)
        parts = (answers[start : start + size] for start in range(0, len(answers), size))
        return {n: _state(n, p[::2], p[1::2], now) for n, p in zip(names, parts, strict=True)}

    def waits(self, jobs: Iterable[Job], *, now: int) -> dict[str, Waiting]:
        """Return what each open job waits for, and until when, by job id."""
        open_jobs = [job for job in jobs if not job.status.terminal]
        calls: list[Call] = [
            (self._waits, keys.of(job.id), [now, self.limits[identifiers.shard_of(job.id)]])
            for job in open_jobs
        ]
        with self._redis() as client:
            answers = run_all(client, calls)
        return {
            job.id: _wait(job, now, *answer)
            for job, answer in zip(open_jobs, answers, strict=True)
            if answer[0]
        }

    def obstacle(self, shard: int, provider: str, *, is_new: bool, now: int) -> WaitReason | None:
        """Return why a provider must not get a submission now, or None.

        `is_new` is for a queued job. Another one has an attempt in flight already.
        """
        args: list[str | int] = [now, self.limits[shard], int(is_new)]
        with self._redis() as client:
            [reason] = self._obstacle.run(client, [keys.provider(shard, provider)], args)
        return WaitReason(reason) if reason else None


def _state(name: str, stored: list[dict[str, str]], flights: list[int], now: int) -> ProviderState:
    """Return the state of a provider from what each shard has stored."""
    worst = max(stored, key=lambda fields: _severity(fields, now))
    limits = [int(fields["found"]) for fields in stored if "found" in fields]
    paused, circuit = codec.loads(worst.get("paused")), _circuit(worst, now)
    failing = circuit in (CircuitState.OPEN, CircuitState.HALF_OPEN)
    return ProviderState(
        name,
        circuit,
        int(float(worst["open_until"])) if failing else None,
        codec.read_error(worst.get("reason")) if circuit is not CircuitState.CLOSED else None,
        in_flight=sum(flights),
        found_limit=sum(limits) if limits else None,
        paused_by=paused["by"] if paused else None,
        pause_reason=paused["reason"] if paused else "",
    )


def _wait(job: Job, now: int, due: str, reason: str, until: str) -> Waiting:
    """Return what an open job waits for. `reason` is why its provider may not get it."""
    if reason and job.status is not Status.SUBMITTING:
        return Waiting(WaitReason(reason), int(until) if until else None)
    due_at = int(due)
    match job.status:
        case Status.SUBMITTING:
            return Waiting(WaitReason.ANSWER, None)
        case Status.UNCONFIRMED:
            return Waiting(WaitReason.CALLBACK, due_at)
        case Status.RUNNING:
            return Waiting(WaitReason.OUTCOME, due_at)
        case _ if due_at > now:
            return Waiting(WaitReason.RETRY, due_at)
        case _:
            return Waiting(WaitReason.WORKER, None)


def _circuit(fields: dict[str, str], now: int) -> CircuitState:
    if "paused" in fields:
        return CircuitState.PAUSED
    if "open_until" not in fields:
        return CircuitState.CLOSED
    return CircuitState.OPEN if now < float(fields["open_until"]) else CircuitState.HALF_OPEN


def _severity(fields: dict[str, str], now: int) -> int:
    order = (CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN, CircuitState.PAUSED)
    return order.index(_circuit(fields, now))
