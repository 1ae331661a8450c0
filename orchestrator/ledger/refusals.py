"""What a refusal of Redis means: it is away for now, a setting is wrong, or our call is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping

from redis.exceptions import (
    ClusterError,
    InvalidResponse,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import MasterNotFoundError

from orchestrator.jobs.tenant import DEFAULT_TENANT

#: The format of the fields of jobs, and of the sets that hold them. Raise it when an older version
#: would misread what this one writes, also in `_prelude.lua`.
FORMAT = 2
#: The code with which a script refuses a job of a newer format.
NEWER_FORMAT = "NEWERFORMAT"
#: Codes of states that pass: a failover, a full memory or disk, a server that still loads its data,
#: or a script that Redis has forgotten again between two commands of ours.
TEMPORARY = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "NOSCRIPT",
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "UNKILLABLE",
    }
)
_CLUSTER = "ORCHESTRATOR_REDIS_URL names a node of a cluster; set ORCHESTRATOR_REDIS_CLUSTER=1"
_PASSWORD = "correct the user and the password in ORCHESTRATOR_REDIS_URL"  # noqa: S105  # no secret
#: The correction of a setting, by the code of the refusal.
CORRECTIONS: Mapping[str, str] = {
    "ASK": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "DENIED": "set a password in Redis and in ORCHESTRATOR_REDIS_URL: Redis is in protected mode",
    "MOVED": _CLUSTER,
    "NOAUTH": "add the password to ORCHESTRATOR_REDIS_URL",
    "NOPERM": "give the Redis user of ORCHESTRATOR_REDIS_URL the right to this command",
    "WRONGPASS": _PASSWORD,
}
#: The same, by words of a refusal with the code ERR.
_CORRECTIONS_BY_WORDS: Mapping[str, str] = {
    "DB index is out of range": "ORCHESTRATOR_REDIS_URL names a database that Redis does not have",
    "invalid DB index": "ORCHESTRATOR_REDIS_URL names a database that Redis does not have",
    "SELECT is not allowed in cluster mode": _CLUSTER,
    "without any password configured": "remove the password from ORCHESTRATOR_REDIS_URL",
    "no password is set": "remove the password from ORCHESTRATOR_REDIS_URL",
    "invalid password": _PASSWORD,
    "Cluster mode is not enabled": "ORCHESTRATOR_REDIS_URL names no node of a cluster;"
    " unset ORCHESTRATOR_REDIS_CLUSTER",
    "unknown command": "the Redis of ORCHESTRATOR_REDIS_URL does not know this command;"
    " use Redis 7 or Valkey with all commands",
}
#: Redis before 7 reports the error of a command in a script as "ERR Error running script ...:
#: -READONLY You can't write ...".
_INNER_CODE = re.compile(r": ?-([A-Z]{3,}) ")

#: Redis does not answer, or what answers is no Redis.
_AWAY = (RedisConnectionError, RedisClusterException, ClusterError, InvalidResponse)


class LedgerUnavailable(Exception):
    """Redis is away, or refuses to write. The call can be repeated later.

    Attributes:
        code: the code of the refusal, such as READONLY. Empty when Redis does not answer.
    """

    def __init__(self, text: str = "", code: str = "") -> None:
        super().__init__(text)
        self.code = code


class LedgerMisconfigured(LedgerUnavailable):
    """Redis refuses our calls because of a setting. The message names the correction."""

    def __init__(self, code: str, text: str, correction: str) -> None:
        super().__init__(f"Redis refuses the call ({code} {text}): {correction}", code)


class LedgerMismatch(LedgerMisconfigured):
    """This process does not fit the ledger: its number of shards, or the format of its jobs."""

    def __init__(self, text: str) -> None:
        LedgerUnavailable.__init__(self, text, NEWER_FORMAT)


class UnreadableJob(LedgerUnavailable):
    """This version cannot read a job. A newer one may have written it.

    Attributes:
        job_id: the job.
        tenant: its owner.
    """

    def __init__(self, job_id: str, tenant: str = DEFAULT_TENANT) -> None:
        super().__init__(f"{job_id} has fields that this version cannot read")
        self.job_id = job_id
        self.tenant = tenant


def newer_format(found: str) -> LedgerMismatch:
    """Return the refusal of a newer format than that of this process."""
    fix = "start this process from the newer version"
    return LedgerMismatch(
        f"the ledger has format {found}, and this version reads format {FORMAT}; {fix}"
    )


def meaning(error: RedisError | RedisClusterException) -> LedgerUnavailable | None:
    """Return what an error of redis-py means, or None for a mistake of ours, such as WRONGTYPE."""
    code, text = _code_and_text(error)
    if code == NEWER_FORMAT:
        return newer_format(text)
    words = (fix for words, fix in _CORRECTIONS_BY_WORDS.items() if words in text)
    correction = CORRECTIONS.get(code) or next(words, None)
    if correction:
        return LedgerMisconfigured(code, text, correction)
    if code in TEMPORARY:
        return LedgerUnavailable(f"{code} {text}", code)
    if isinstance(error, MasterNotFoundError):  # its own text has the objects of redis-py
        return LedgerUnavailable("no Sentinel that answers names the master")
    return LedgerUnavailable(text) if isinstance(error, _AWAY) else None


def _code_and_text(error: RedisError | RedisClusterException) -> tuple[str, str]:
    """Return the code and the rest of a refusal. redis-py removes the code of known errors."""
    text = str(error)
    status_code = getattr(error, "status_code", None)
    if not status_code and not isinstance(error, ResponseError):
        return "", text
    code = status_code or text.partition(" ")[0]
    inner = _INNER_CODE.search(text)
    return (inner[1] if inner else code), text.removeprefix(f"{code} ")
