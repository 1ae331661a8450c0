"""How long the tasks of providers took lately. docs/polling.md explains what it is used for.

The scripts note the duration of each result, and use the durations when they record an acceptance
(`_durations.lua`). This module says what they may use, and reads the durations for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis import Redis

from orchestrator.jobs.model import ErrorCode, Outcome, SettledBy
from orchestrator.ledger import keys

#: The outcomes that a provider reports. The others come from us.
_BY_PROVIDER = frozenset({SettledBy.CALLBACK, SettledBy.POLL})
#: Errors of ours: the provider did not report that its task failed.
NOT_REPORTED = frozenset({ErrorCode.DEADLINE_EXCEEDED, ErrorCode.NOT_FOUND, ErrorCode.UNKNOWN})
#: The field with the durations of all jobs of a provider. Those of a model begin with `model `.
_ALL, _MODEL = "all", "model "


class LearnedWait(StrEnum):
    """Which learned duration decides when a job is polled first."""

    NONE = ""
    #: Few results come before it. For a job without a callback.
    EARLY = "early"
    #: Most results come before it. For a job whose callback is expected.
    LATE = "late"


@dataclass(frozen=True, slots=True)
class FirstPoll:
    """How learned durations decide when a job is polled first.

    Attributes:
        wait: which duration counts.
        earliest: no poll is before this time. ms.
    """

    wait: LearnedWait = LearnedWait.NONE
    earliest: int = 0


#: The job is polled first when its acceptance says, whatever was learned.
AS_PLANNED = FirstPoll()


@dataclass(frozen=True, slots=True)
class ModelDurations:
    """How long the tasks of one model took lately, from the submission to the result.

    Attributes:
        model: its name in requests; empty: all models of the provider.
        seconds: the latest durations in ascending order.
    """

    model: str
    seconds: tuple[float, ...]

    def quantile(self, part: float) -> float:
        """Return the time before which this part of the results came, seconds."""
        return self.seconds[min(int(part * len(self.seconds)), len(self.seconds) - 1)]


class Durations:
    """Reads the durations of all shards.

    Args:
        client: returns the client of this thread.
        shards: the number of shards.
    """

    def __init__(
        self, client: Callable[[], AbstractContextManager[Redis]], shards: int = 1
    ) -> None:
        self._redis = client
        self._shards = shards

    def of(self, providers: Iterable[str]) -> dict[str, list[ModelDurations]]:
        """Return the durations of each provider: of all its jobs first, then by model."""
        names = list(providers)
        with self._redis() as client, client.pipeline(transaction=False) as pipe:
            for name in names:
                for shard in range(self._shards):
                    pipe.hgetall(keys.durations(shard, name))
            answers: Any = pipe.execute()
        parts = (answers[i : i + self._shards] for i in range(0, len(answers), self._shards))
        return {name: _merged(part) for name, part in zip(names, parts, strict=True)}


def is_reported(outcome: Outcome, by: SettledBy) -> bool:
    """Return whether a provider ended a running task with this outcome, so that it took a time."""
    error = outcome.error
    return by in _BY_PROVIDER and not (error and error.code in NOT_REPORTED)


def _merged(shards: Iterable[dict[str, str]]) -> list[ModelDurations]:
    seconds: dict[str, list[float]] = {}
    for fields in shards:
        for field, text in fields.items():
            model = "" if field == _ALL else field.removeprefix(_MODEL)
            took = [int(ms) / 1000 for ms in text.split()[1:]]  # the first number is a time
            seconds.setdefault(model, []).extend(took)
    return [ModelDurations(model, tuple(sorted(seconds[model]))) for model in sorted(seconds)]
