"""Reads many keys in one round trip. A key that cannot be read spoils its own answer only.

Such a key has another type than the ledger gives it, or bytes that are not UTF-8. No version of the
product writes one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from orchestrator.jobs.tenant import DEFAULT_TENANT
from orchestrator.ledger import keys

#: A command: its name and arguments.
Command = tuple[str | int, ...]


class _Spoiled:
    """The answer for a key that cannot be read."""

    def __repr__(self) -> str:
        return "SPOILED"


SPOILED = _Spoiled()


def read_all(client: Redis, commands: Sequence[Command]) -> list[Any]:
    """Return the answer of each command; SPOILED for a key that cannot be read.

    Raises:
        RedisError: Redis is away, or refuses a command.
    """
    if not commands:
        return []
    try:
        with client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return [_checked(answer) for answer in pipe.execute(raise_on_error=False)]
    except UnicodeDecodeError:  # the client has closed its connection, so no answer is left in it
        if len(commands) == 1:
            return [SPOILED]
        half = len(commands) // 2
        return [*read_all(client, commands[:half]), *read_all(client, commands[half:])]


def read_fields(client: Redis, job_ids: Sequence[str]) -> list[Mapping[str, str]]:
    """Return the fields of each job; none for a job that has expired.

    A job that cannot be read has its tenant only, as far as it is known. `codec.read_job` refuses
    it.
    """
    stored = read_all(client, [("HGETALL", keys.job(job_id)) for job_id in job_ids])
    return [
        owner_only(client, job_id) if fields is SPOILED else fields
        for job_id, fields in zip(job_ids, stored, strict=True)
    ]


def owner_only(client: Redis, job_id: str) -> Mapping[str, str]:
    """Return the tenant of a job that cannot be read, as its only field."""
    [tenant] = read_all(client, [("HGET", keys.job(job_id), "tenant")])
    return {"tenant": tenant if isinstance(tenant, str) else DEFAULT_TENANT}


def _checked(answer: Any) -> Any:
    if not isinstance(answer, RedisError):
        return answer
    if str(answer).startswith("WRONGTYPE"):
        return SPOILED
    raise answer
