"""Loads the Lua scripts. Each file is one transition, which Redis runs atomically."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from redis import Redis
from redis.exceptions import NoScriptError

_FOLDER = files("orchestrator.ledger") / "scripts"
_PRELUDE = (_FOLDER / "_prelude.lua").read_text("utf-8")
_TENANTS = (_FOLDER / "_tenants.lua").read_text("utf-8")

#: Scripts that do not work on one job. They need no prelude.
_WITHOUT_PRELUDE = frozenset({"due", "due_archive", "host_failed", "host_probe", "tidy"})


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


def load(name: str) -> Script:
    """Read a script from the package.

    Raises:
        FileNotFoundError: the script does not exist.
    """
    text = (_FOLDER / f"{name}.lua").read_text("utf-8")
    if name == "create":
        text = f"{_TENANTS}\n{text}"
    source = text if name in _WITHOUT_PRELUDE else f"{_PRELUDE}\n{text}"
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha)
