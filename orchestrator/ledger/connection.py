"""The way to Redis: a client for each thread, and one error for all the ways Redis can be away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
#: Refusals of Redis that pass, once it is mended: the state is unchanged.
_PASSING = frozenset(
    {"READONLY", "OOM", "MISCONF", "LOADING", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN"}
)


class LedgerUnavailable(Exception):
    """Redis is away, or refuses to write. Nothing is known to have changed; try again later."""


class Clients:
    """Clients that are not shared between threads, which spares the connection pool's lock.

    Args:
        make: makes a client for the calling thread.
    """

    def __init__(self, make: Callable[[], Redis]) -> None:
        self._make = make
        self._local = threading.local()

    @contextmanager
    def client(self) -> Iterator[Redis]:
        """This thread's client.

        Raises:
            LedgerUnavailable: in place of whatever redis raises when it is away.
        """
        try:
            if not hasattr(self._local, "client"):
                self._local.client = self._make()
            yield self._local.client
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise LedgerUnavailable(str(error)) from error
        except ResponseError as error:
            # redis-py takes the code off the words of the errors that it has a class for.
            code = error.status_code or str(error).partition(" ")[0]
            if code not in _PASSING:
                raise
            words = str(error).removeprefix(f"{code} ")
            raise LedgerUnavailable(f"{code} {words}") from error


def listener(client: Redis) -> Any:
    """A connection that listens to channels."""
    return client.pubsub()  # type: ignore[no-untyped-call]


def connect(url: str) -> Redis:
    """A client of the Redis at `url`; a call that failed on the network is made once more."""
    return Redis.from_url(
        url,
        decode_responses=True,
        single_connection_client=True,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        retry=Retry(NoBackoff(), 1),
    )
