"""Runs the scripts of transitions. Steps of one step loop share round trips.

So many transitions cost one call to the operating system and one wait for Redis' disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.ledger.refusals import meaning
from orchestrator.ledger.script import Call, Script, run_together
from orchestrator.rounds import Rounds

#: The most scripts in one round trip. Redis answers nobody else while it runs them.
MAX_SCRIPTS = 64


class ScriptRunner:
    """Runs a script at once in a plain thread, and together with others in a step loop.

    Args:
        client: returns the client of this thread.
    """

    def __init__(self, client: Callable[[], AbstractContextManager[Redis]]) -> None:
        self._redis = client
        self._trips: Rounds[Call, list[str]] = Rounds(
            self._answers, name="scripts", most=MAX_SCRIPTS
        )

    def run(self, script: Script, keys: list[str], args: list[str | int]) -> list[str]:
        """Run a script, and return its answer.

        Raises:
            LedgerUnavailable: Redis is away. The script may have run: it can be run again.
        """
        return self._trips.do((script, keys, args))

    def _answers(self, calls: Sequence[Call]) -> list[Any]:
        """Return the answer or the error of each script. A script that has run has its answer."""
        answers: list[Any] = []
        try:
            with self._redis() as client:
                answers = run_together(client, calls)
                if away := next(filter(_is_away, answers), None):
                    raise away  # so the next call connects anew
        except Exception as error:  # noqa: BLE001  # each step raises it
            if not answers:
                return [error] * len(calls)
            return [meaning(each) or error if _is_away(each) else each for each in answers]
        return answers


def _is_away(answer: Any) -> bool:
    """Return whether a script did not run, because Redis is away or refuses to write."""
    if isinstance(answer, RedisTimeoutError):
        return True
    return isinstance(answer, RedisError) and meaning(answer) is not None
