"""A transition that is ready to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redis import Redis

from orchestrator.ledger.script import Call, Script

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
    def call(self) -> Call:
        """The script with its keys and arguments."""
        return self.script, self.keys, self.args

    def run(self, client: Redis) -> T:
        """Run it in one round trip."""
        return self.read(self.script.run(client, self.keys, self.args))
