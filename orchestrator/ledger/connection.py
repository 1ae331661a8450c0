"""The way to Redis: a client for each thread, and one error for all the ways Redis can be away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

#: How long Redis may take to connect, and to answer, before it counts as away. Seconds.
CONNECT_TIMEOUT = 1.0
ANSWER_TIMEOUT = 2.0
#: After a call that timed out, how long others fail at once in place of waiting too. Seconds.
PAUSE = 0.5
#: Refusals of Redis that pass, once it is mended: the state is unchanged.
_PASSING = frozenset(
    {"READONLY", "OOM", "MISCONF", "LOADING", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN"}
)


class LedgerUnavailable(Exception):
    """Redis is away, or refuses to write. Nothing is known to have changed; try again later."""


class Breaker:
    """Has calls fail at once while Redis does not answer: only one at a time waits for it.

    Each would hold its thread for the whole time-out, so that a web process took few callbacks a
    second and answered nothing else. A Redis that refuses connections needs none of this.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        #: When the next call may try; None while all is well.
        self._try_at: float | None = None
        self._trying: int | None = None
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Before a call.

        Raises:
            LedgerUnavailable: Redis did not answer a moment ago, and somebody else tries already.
        """
        if self._try_at is None:
            return
        with self._lock:
            now, thread = self._clock(), threading.get_ident()
            if self._try_at is None or self._trying == thread:
                return
            if now < self._try_at:
                raise LedgerUnavailable("no answer a moment ago")
            self._try_at = now + CONNECT_TIMEOUT + ANSWER_TIMEOUT
            self._trying = thread

    def answered(self) -> None:
        """A call came to an end in time, be it by a refusal."""
        if self._try_at is not None:
            with self._lock:
                self._try_at = self._trying = None

    def timed_out(self) -> None:
        """A call was not answered in time."""
        with self._lock:
            self._try_at, self._trying = self._clock() + PAUSE, None


class Clients:
    """Clients that are not shared between threads, which spares the connection pool's lock.

    Args:
        make: makes a client for the calling thread.
    """

    def __init__(self, make: Callable[[], Redis]) -> None:
        self._make = make
        self._local = threading.local()
        self._breaker = Breaker()

    @contextmanager
    def client(self) -> Iterator[Redis]:
        """This thread's client.

        Raises:
            LedgerUnavailable: in place of whatever redis raises when it is away.
        """
        self._breaker.enter()
        leave = self._breaker.answered
        try:
            if not hasattr(self._local, "client"):
                self._local.client = self._make()
            yield self._local.client
        except LedgerUnavailable:  # of a call within this one, which has told the breaker
            leave = _nothing
            raise
        except RedisTimeoutError as error:
            leave = self._breaker.timed_out
            raise LedgerUnavailable(str(error)) from error
        except RedisConnectionError as error:
            raise LedgerUnavailable(str(error)) from error
        except ResponseError as error:
            # redis-py takes the code off the words of the errors that it has a class for.
            code = error.status_code or str(error).partition(" ")[0]
            if code not in _PASSING:
                raise
            words = str(error).removeprefix(f"{code} ")
            raise LedgerUnavailable(f"{code} {words}") from error
        finally:
            leave()


def _nothing() -> None:
    pass


def listener(client: Redis) -> Any:
    """A connection that listens to channels."""
    return client.pubsub()  # type: ignore[no-untyped-call]


def connect(url: str) -> Redis:
    """A client of the Redis at `url`; a call whose connection broke is made once more."""
    return Redis.from_url(
        url,
        decode_responses=True,
        single_connection_client=True,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        # Not after a time-out: a Redis that did not answer in time would be waited for twice.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
