"""The public keys with which providers sign their callbacks.

They are fetched in the background, when a callback needs them. The receiver never waits for them: a
callback that cannot be verified now is a hint.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from time import monotonic

from orchestrator import log
from orchestrator.forks import renew_in_children
from orchestrator.net.guard import Forbidden
from orchestrator.net.guarded_session import GuardedSession, RequestFailed
from orchestrator.security.public_keys import NotKeySet, read_key_set

#: Keys of this age are fetched again. The old ones are used until then. Seconds.
LIFETIME_SECONDS = 3600.0
#: The shortest time between two fetches, so that forged callbacks cause few. Seconds.
MIN_INTERVAL_SECONDS = 60.0
#: The time for a fetch, and the largest key set. Seconds, bytes.
FETCH_SECONDS, MAX_BYTES = 10.0, 64 * 1024


@dataclass(slots=True)
class _KeySet:
    keys: tuple[bytes, ...] = ()
    fetched_at: float | None = None
    tried_at: float | None = None


class SigningKeys:
    """The keys of each address, shared by all threads of a process.

    Args:
        clock: seconds, of any origin.
        start: runs a fetch in the background.
    """

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        start: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._clock = clock
        self._start = start or _in_background
        self._sets: dict[str, _KeySet] = {}
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin with a new lock, also in the child of a fork."""
        self._lock = threading.Lock()

    def known(self, url: str, session: GuardedSession) -> tuple[bytes, ...]:
        """Return the known keys of an address, also old ones. Fetch them if they are old or none.

        The fetch ends later. Keys stay known when it fails.
        """
        known = self._sets.get(url, _KeySet())
        if known.fetched_at is None or self._clock() - known.fetched_at > LIFETIME_SECONDS:
            self.refresh(url, session)
        return known.keys

    def refresh(self, url: str, session: GuardedSession) -> bool:
        """Fetch the keys of an address, unless they were fetched just now. Return whether we do."""
        with self._lock:
            known, now = self._sets.setdefault(url, _KeySet()), self._clock()
            if known.tried_at is not None and now - known.tried_at < MIN_INTERVAL_SECONDS:
                return False
            known.tried_at = now
        self._start(lambda: self._fetch(url, session, known))
        return True

    def _fetch(self, url: str, session: GuardedSession, known: _KeySet) -> None:
        body = BytesIO()
        try:
            session.fetch(url, body, seconds=FETCH_SECONDS, max_bytes=MAX_BYTES)
            keys = read_key_set(body.getvalue())
        except (Forbidden, RequestFailed, NotKeySet) as error:
            log.get().warning("signing_keys_failed", url=url, reason=str(error)[:200])
            return
        known.keys, known.fetched_at = keys, self._clock()
        log.get().info("signing_keys_fetched", url=url, keys=len(keys))


def _in_background(action: Callable[[], None]) -> None:
    threading.Thread(target=action, name="signing-keys", daemon=True).start()
