"""A transition that is ready to run, and many of them in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from orchestrator.ledger.script import Script

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Transition(Generic[T]):
    """One call of a script. It can be run again: a script that has run changes nothing.

    Attributes:
        script: the script.
        keys, args: its keys and arguments.
        read: returns the result in the answer of the script.
    """

    script: Script
    keys: list[str]
    args: list[str | int]
    read: Callable[[Any], T]

    @property
    def call(self) -> tuple[Script, list[str], list[str | int]]:
        """The script with its keys and arguments."""
        return self.script, self.keys, self.args

    def run(self, client: Redis) -> T:
        """Run it in one round trip."""
        return self.read(self.script.run(client, self.keys, self.args))


def run_all(client: Redis, transitions: Sequence[Transition[T]]) -> list[T | RedisError]:
    """Run transitions in one round trip. A refusal of Redis stands in the place of a result.

    A script that Redis does not know takes another round trip.
    """
    if len(transitions) == 1:
        return [transitions[0].run(client)]
    with client.pipeline(transaction=False) as pipe:
        for each in transitions:
            pipe.evalsha(each.script.sha, len(each.keys), *each.keys, *each.args)
        answers = pipe.execute(raise_on_error=False)
    return [_result(client, each, one) for each, one in zip(transitions, answers, strict=True)]


def _result(client: Redis, transition: Transition[Any], answer: Any) -> Any:
    if isinstance(answer, NoScriptError):
        return transition.run(client)
    return answer if isinstance(answer, RedisError) else transition.read(answer)
