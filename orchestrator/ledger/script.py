"""Loads the Lua scripts. Each file is one transition, which Redis runs atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from redis import Redis
from redis.exceptions import NoScriptError

_FOLDER = files("orchestrator.ledger") / "scripts"

#: The files with functions that come before a script.
PARTS: Mapping[str, tuple[str, ...]] = {
    "create": ("_prelude", "_tenants"),
    "waits": ("_prelude", "_admission"),
    "claim": ("_prelude", "_admission", "_claims", "_fallback"),
    "requeue": ("_prelude", "_admission", "_learning", "_fallback"),
    "unconfirmed": ("_prelude", "_admission", "_learning"),
    **dict.fromkeys(("observe", "settle"), ("_prelude", "_late_results")),
    "due": ("_admission", "_flows"),
    # Scripts that do not work on one job need no prelude.
    **dict.fromkeys(
        ("due_archive", "hold_provider", "host_failed", "host_probe", "recorder_lease", "tidy"), ()
    ),
}


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. It is run by its SHA-1 digest, and sent only when Redis does not know it."""

    name: str
    source: str
    sha: str

    def run(self, client: Redis, keys: list[str], args: list[str | int]) -> list[str]:
        """Run the script in one round trip. The first run after a Redis restart takes two."""
        try:
            answer = client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:
            answer = client.eval(self.source, len(keys), *keys, *args)
        return answer  # type: ignore[no-any-return]  # redis-py types every reply as Any

    def run_many(
        self, client: Redis, calls: Sequence[tuple[list[str], list[str | int]]]
    ) -> list[list[str]]:
        """Run the script once for each pair of keys and arguments, in two round trips."""
        if not calls:
            return []
        first = self.run(client, *calls[0])  # Redis knows the script now
        if len(calls) == 1:
            return [first]
        with client.pipeline(transaction=False) as pipe:
            for keys, args in calls[1:]:
                pipe.evalsha(self.sha, len(keys), *keys, *args)
            return [first, *pipe.execute()]


def load(name: str) -> Script:
    """Read a script from the package.

    Raises:
        FileNotFoundError: the script does not exist.
    """
    names = (*PARTS.get(name, ("_prelude",)), name)
    source = "\n".join((_FOLDER / f"{each}.lua").read_text("utf-8") for each in names)
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha)
