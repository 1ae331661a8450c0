"""Runs the scripts of transitions. Steps of one step loop share round trips.

So many transitions cost one call to the operating system and one wait for Redis' disk.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator.forks import renew_in_children
from orchestrator.ledger.connection import Clients
from orchestrator.ledger.loop_connection import LoopConnection
from orchestrator.ledger.refusals import meaning
from orchestrator.ledger.script import Call, Script, run_together
from orchestrator.rounds import Rounds
from orchestrator.step_loop import current_loop, wait_for

#: The most scripts in one round trip. Redis answers nobody else while it runs them.
MAX_SCRIPTS = 64


class ScriptRunner:
    """Runs a script at once in a plain thread, and together with others in a step loop.

    The loop reads the answers on a connection of its own. A thread runs what does not work that
    way, because it may wait: before there is a connection, in a cluster, with replicas to wait for,
    and after each error. Scripts can be run again.

    Args:
        clients: of Redis.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._trips: Rounds[Call, list[str]] = Rounds(
            self._answers, name="scripts", most=MAX_SCRIPTS
        )
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without connections, also in a child of a fork: they are its parent's."""
        self._of_thread = threading.local()

    def run(self, script: Script, keys: list[str], args: list[str | int]) -> list[str]:
        """Run a script, and return its answer.

        Raises:
            LedgerUnavailable: Redis is away. The script may have run: it can be run again.
        """
        connection = self._loop_connection()
        if connection is None:
            return self._trips.do((script, keys, args))
        answer = wait_for(connection.run(("EVALSHA", script.sha, len(keys), *keys, *args)))
        if isinstance(answer, RedisTimeoutError):
            raise self._clients.timed_out()
        if isinstance(answer, Exception):
            if _is_of_another_server(answer):
                connection.close()
            return self._trips.do((script, keys, args))
        return answer  # type: ignore[no-any-return]

    def _loop_connection(self) -> LoopConnection | None:
        """Return the open connection of the step loop, or None."""
        loop = current_loop()
        if loop is None or self._clients.is_silent:
            return None
        known: LoopConnection | None = getattr(self._of_thread, "connection", None)
        if known is None or known.loop is not loop:
            known = LoopConnection(loop, self._clients, MAX_SCRIPTS)
            self._of_thread.connection = known
        return known if known.is_open() else None

    def _answers(self, calls: Sequence[Call]) -> list[Any]:
        """Return the answer or the error of each script. A script that has run has its answer."""
        answers: list[Any] = []
        try:
            with self._clients.client() as client:
                answers = run_together(client, calls)
                if away := next(filter(_is_away, answers), None):
                    raise away  # so the next call connects anew
        except UnicodeDecodeError as error:  # of one job that is not UTF-8
            if len(calls) == 1:
                return [error]
            return [answer for call in calls for answer in self._answers([call])]
        except Exception as error:  # noqa: BLE001  # each step raises it
            if not answers:
                return [error] * len(calls)
            return [meaning(each) or error if _is_away(each) else each for each in answers]
        return answers


def _is_of_another_server(answer: Exception) -> bool:
    """Return whether a refusal comes from an old master, which is a replica since a failover.

    The clients may have connected anew since then. So they would notice nothing.
    """
    refusal = meaning(ResponseError(str(answer)))
    return refusal is not None and refusal.code == "READONLY"


def _is_away(answer: Any) -> bool:
    """Return whether a script did not run, because Redis is away or refuses to write."""
    if isinstance(answer, RedisTimeoutError):
        return True
    return isinstance(answer, RedisError) and meaning(answer) is not None
