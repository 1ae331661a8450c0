"""Loads the Lua scripts. Each file is one transition, which Redis runs atomically."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, RedisError

from orchestrator.ledger.replication import replicas_of, run_replicated

_FOLDER = files("orchestrator.ledger") / "scripts"

_PRELUDE = ("_adoption", "_prelude")
#: The files with functions that come before a script.
PARTS: Mapping[str, tuple[str, ...]] = {
    "create": (*_PRELUDE, "_admission", "_tenants"),
    "waits": (*_PRELUDE, "_admission"),
    "claim": (*_PRELUDE, "_admission", "_fallback", "_claims"),
    "requeue": (*_PRELUDE, "_admission", "_learning", "_fallback"),
    "unconfirmed": (*_PRELUDE, "_admission", "_learning"),
    "accepted": (*_PRELUDE, "_durations"),
    "observe": (*_PRELUDE, "_late_results"),
    "settle": (*_PRELUDE, "_late_results", "_durations"),
    "agenda_counts": ("_admission",),
    "obstacle": ("_admission",),
    "due": ("_adoption", "_admission", "_turns", "_flows"),
    "due_follow_ups": ("_turns", "_old_follow_ups"),
    # Scripts that do not work on one job need no prelude.
    **dict.fromkeys(
        (
            *("hold_provider", "host_failed", "host_probe", "join", "recorder_lease"),
            *("snapshots", "tidy", "open_batch", "seal_batch", "complete_batch", "claim_batch"),
            *("notify_batch", "notify_batch_again", "waiting_add", "waiting_done"),
        ),
        (),
    ),
    **dict.fromkeys(("bulk_save", "bulk_start", "bulk_claim", "bulk_advance", "bulk_stop"), ()),
}
#: A definition in such a file: from a `local` at the start of a line to the next one.
_DEFINITION = re.compile(
    r"^local (?:function )?([\w, ]+?)(?= =|\(|$).*?(?=^local |\Z)", re.M | re.S
)


#: Scripts that write nothing. They do not wait for replicas.
_READ_ONLY = frozenset({"agenda_counts", "obstacle", "snapshots", "waits"})


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. It is run by its SHA-1 digest, and sent only when Redis does not know it."""

    name: str
    source: str
    sha: str

    def waits_for_replicas(self, client: Redis) -> bool:
        """Return whether replicas must have what the script writes before it counts."""
        return replicas_of(client) > 0 and self.name not in _READ_ONLY

    def run(self, client: Redis, keys: list[str], args: list[str | int]) -> list[str]:
        """Run the script in one round trip. The first run after a Redis restart takes two."""
        if self.waits_for_replicas(client):
            return run_all(client, [(self, keys, args)])[0]  # type: ignore[no-any-return]
        try:
            answer = client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            answer = client.eval(self.source, len(keys), *keys, *args)
        return answer  # type: ignore[no-any-return]  # redis-py types every reply as Any


#: A script with its keys and arguments.
Call = tuple[Script, list[str], list[str | int]]


def run_together(client: Redis, calls: Sequence[Call]) -> list[Any]:
    """Run scripts in one round trip, and return the answer or the error of each.

    Scripts that Redis does not know since a restart take two more round trips. The error may say
    that Redis has been away since the first one.

    Raises:
        RedisError: Redis is away.
    """
    if len(calls) == 1 and not calls[0][0].waits_for_replicas(client):
        script, keys, args = calls[0]
        return [script.run(client, keys, args)]
    answers = _pipelined(client, calls)
    unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        for i, answer in zip(unknown, _loaded(client, [calls[i] for i in unknown]), strict=True):
            answers[i] = answer
    return answers


def run_all(client: Redis, calls: Sequence[Call]) -> list[Any]:
    """Run scripts in one round trip, and return their answers.

    Raises:
        RedisError: Redis refused one of them. The others have run.
    """
    answers = run_together(client, calls)
    if refusal := next((each for each in answers if isinstance(each, RedisError)), None):
        raise refusal
    return answers


def _loaded(client: Redis, calls: Sequence[Call]) -> list[Any]:
    """Load scripts and run them. An error is an answer, because other scripts have run already."""
    try:
        for script in {script for script, _, _ in calls}:
            client.script_load(script.source)
        return _pipelined(client, calls)
    except RedisError as error:
        return [error] * len(calls)


def _pipelined(client: Redis, calls: Sequence[Call]) -> list[Any]:
    if not calls:
        return []
    commands = [("EVALSHA", script.sha, len(keys), *keys, *args) for script, keys, args in calls]
    if any(script.waits_for_replicas(client) for script, _, _ in calls):
        return run_replicated(client, commands, [keys[0] for _, keys, _ in calls])
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute(raise_on_error=False)


@cache
def load(name: str) -> Script:
    """Read a script from the package, once in a process.

    Raises:
        FileNotFoundError: the script does not exist.
    """
    parts = "\n".join(_text(part) for part in PARTS.get(name, _PRELUDE))
    source = _used(parts, script := _text(name)) + script
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha)


def _text(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text("utf-8")


def _used(parts: str, script: str) -> str:
    """Return the definitions of `parts` that a script uses. Redis runs all of them at each call."""
    kept: list[str] = []
    words = _words(script)
    for definition in reversed(list(_DEFINITION.finditer(parts))):
        if words & set(definition[1].split(", ")):
            code = _without_comments(definition[0])
            kept.append(code)
            words |= _words(code)
    return "".join(reversed(kept))


def _words(code: str) -> set[str]:
    return set(re.findall(r"\w+", _without_comments(code)))


def _without_comments(code: str) -> str:
    return re.sub(r"^\s*--.*\n", "", code, flags=re.M)
