"""A connection that an event loop reads: each command has its own answer, or an error."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from orchestrator import step_loop
from orchestrator.ledger.connection import Clients, OpenConnection
from orchestrator.ledger.loop_connection import LoopConnection
from orchestrator.step_loop import StepLoop
from tests.ledger.kit import eventually
from tests.support.steps import begin

#: The longest wait for a step or for bytes. Seconds.
LIMIT = 60
#: Commands in one round trip.
MOST = 3
COMMAND = b"*1\r\n$4\r\nPING\r\n"


class Redis:
    """The other end of each connection, and the clients that open them."""

    def __init__(self, closing: ExitStack) -> None:
        self._closing = closing
        self.generation = 0
        self.answer_seconds = float(LIMIT)
        self.opened = 0

    def open_connection(self) -> OpenConnection:
        near, self.end = socket.socketpair()
        for each in (near, self.end):
            self._closing.callback(each.close)
        near.settimeout(self.answer_seconds)
        self.end.settimeout(LIMIT)
        self.opened += 1
        return OpenConnection(cast(Any, _Closing(near)), near, self.generation)

    def receive(self, commands: int) -> None:
        """Read some commands, and no byte more."""
        expected = COMMAND * commands
        received = b""
        while len(received) < len(expected):
            received += self.end.recv(len(expected) - len(received))
        assert received == expected


class _Closing:
    """The connection of redis-py as far as it is used."""

    def __init__(self, opened: socket.socket) -> None:
        self._opened = opened

    def disconnect(self) -> None:
        self._opened.close()


@pytest.fixture
def redis() -> Iterator[Redis]:
    with ExitStack() as closing:
        yield Redis(closing)


class Caller:
    """Uses a connection in the thread of its loop."""

    def __init__(self, steps: StepLoop, redis: Redis) -> None:
        self._steps, self._redis = steps, redis
        self.connection = begin(steps, self._make).result(LIMIT)
        self.open()

    def _make(self) -> LoopConnection:
        loop = step_loop.current_loop()
        assert loop
        return LoopConnection(loop, cast(Clients, self._redis), MOST)

    def open(self) -> None:
        """Wait until the connection is open."""

        def wait() -> None:
            while not self.connection.is_open():
                step_loop.sleep(0.001)

        begin(self._steps, wait).result(LIMIT)

    def is_open(self) -> bool:
        return begin(self._steps, self.connection.is_open).result(LIMIT)

    def send(self, commands: int) -> Sequence[Any]:
        """Run commands together. Return a future of each answer."""

        def run() -> Any:
            return step_loop.wait_for(self.connection.run(("PING",)))

        def begin_all() -> Sequence[Any]:
            return [begin(self._steps, run) for _ in range(commands)]

        # The steps that it begins run before a step that begins later.
        futures = begin(self._steps, begin_all).result(LIMIT)
        begin(self._steps, int).result(LIMIT)
        return futures


@pytest.fixture
def caller(steps: StepLoop, redis: Redis) -> Caller:
    return Caller(steps, redis)


def results(futures: Sequence[Any]) -> list[Any]:
    return [future.result(LIMIT) for future in futures]


def test_commands_share_round_trips_of_a_limited_size(caller: Caller, redis: Redis) -> None:
    futures = caller.send(MOST + 1)

    redis.receive(MOST)
    redis.end.setblocking(False)
    with pytest.raises(BlockingIOError):
        redis.end.recv(1)
    redis.end.settimeout(LIMIT)
    redis.end.sendall(b"+0\r\n+1\r\n+2\r\n")
    redis.receive(1)
    redis.end.sendall(b"+3\r\n")

    assert results(futures) == ["0", "1", "2", "3"]


def test_answers_may_arrive_in_any_pieces(caller: Caller, redis: Redis) -> None:
    futures = caller.send(2)
    redis.receive(2)

    for byte in "*2\r\n$4\r\nZür\r\n:7\r\n-ERR no such job\r\n".encode():
        redis.end.sendall(bytes([byte]))

    answer, error = results(futures)
    assert answer == ["Zür", 7]
    assert "no such job" in str(error)
    assert isinstance(error, Exception)
    assert caller.is_open()


def test_what_was_answered_before_the_connection_broke_has_its_answer(
    caller: Caller, redis: Redis
) -> None:
    futures = caller.send(MOST + 1)
    redis.receive(MOST)

    redis.end.sendall(b"+0\r\n")
    redis.end.close()

    first, *others = results(futures)
    assert first == "0"
    assert [type(each) for each in others] == [RedisConnectionError] * MOST
    caller.open()
    assert redis.opened == 2


def test_commands_that_redis_does_not_answer_end(steps: StepLoop, redis: Redis) -> None:
    redis.answer_seconds = 0.1
    futures = Caller(steps, redis).send(2)

    assert [type(each) for each in results(futures)] == [RedisTimeoutError] * 2


@pytest.mark.parametrize("sent", [b"+late\r\n", b"+la", b"?\r\n", b""])
def test_a_connection_with_bytes_that_nobody_waits_for_is_not_used(
    caller: Caller, redis: Redis, sent: bytes
) -> None:
    redis.end.sendall(sent)
    if not sent:
        redis.end.close()

    eventually(lambda: caller.is_open() and redis.opened == 2)
    futures = caller.send(1)
    redis.receive(1)
    redis.end.sendall(b"+1\r\n")

    assert results(futures) == ["1"]


def test_an_answer_too_many_closes_the_connection(caller: Caller, redis: Redis) -> None:
    futures = caller.send(1)
    redis.receive(1)

    redis.end.sendall(b"+0\r\n+1\r\n")

    assert results(futures) == ["0"]
    eventually(lambda: caller.is_open() and redis.opened == 2)


def test_a_connection_that_may_lead_to_an_old_master_is_not_used(
    caller: Caller, redis: Redis
) -> None:
    end = redis.end
    redis.generation += 1

    assert not caller.is_open()
    assert end.recv(1) == b""
    caller.open()
    assert redis.opened == 2


def test_a_long_answer_is_read_whole(caller: Caller, redis: Redis) -> None:
    long = "x" * 1_000_000
    futures = caller.send(1)
    redis.receive(1)

    redis.end.sendall(f"${len(long)}\r\n{long}\r\n".encode())

    assert results(futures) == [long]


def test_a_push_is_the_answer_of_no_command(caller: Caller, redis: Redis) -> None:
    futures = caller.send(2)
    redis.receive(2)

    redis.end.sendall(b">2\r\n+MOVING\r\n:1\r\n+0\r\n>1\r\n+MOVED\r\n+1\r\n")

    assert results(futures) == ["0", "1"]


def test_a_loop_that_is_late_reads_the_answer_first(
    caller: Caller, redis: Redis, steps: StepLoop
) -> None:
    """A claim that has run and that its step does not know of looks like a submission."""
    futures = caller.send(1)
    redis.receive(1)

    def answer_late() -> None:  # the loop reads nothing meanwhile
        redis.end.sendall(b"+0\r\n")
        caller.connection._time_out()

    begin(steps, answer_late).result(LIMIT)

    assert results(futures) == ["0"]
    assert caller.is_open()


def test_each_part_of_the_answers_has_the_time_limit(
    caller: Caller, redis: Redis, steps: StepLoop
) -> None:
    futures = caller.send(3)
    redis.receive(3)
    for part, answer in enumerate([b"+0\r\n", b"+1\r\n"]):
        redis.end.sendall(answer)
        assert futures[part].result(LIMIT) == str(part)
        begin(steps, caller.connection._time_out).result(LIMIT)

    begin(steps, caller.connection._time_out).result(LIMIT)

    assert isinstance(futures[2].result(LIMIT), RedisTimeoutError)


def test_any_number_of_commands_ends_with_the_connection(caller: Caller, redis: Redis) -> None:
    futures = caller.send(2000 * MOST)
    redis.receive(MOST)

    redis.end.close()

    assert {type(each) for each in results(futures)} == {RedisConnectionError}
    caller.open()
    futures = caller.send(1)
    redis.receive(1)
    redis.end.sendall(b"+1\r\n")
    assert results(futures) == ["1"]


def test_a_command_that_cannot_be_written_fails_alone(
    caller: Caller, redis: Redis, steps: StepLoop
) -> None:
    futures = caller.send(1)
    wrong = begin(steps, caller.connection.run, ("PING", "\ud800"))
    assert isinstance(wrong.exception(LIMIT), UnicodeEncodeError)
    redis.receive(1)
    redis.end.sendall(b"+1\r\n")

    assert results(futures) == ["1"]
    assert caller.is_open()


def test_a_redis_that_takes_no_bytes_does_not_answer(steps: StepLoop, redis: Redis) -> None:
    redis.answer_seconds = 0.1
    caller = Caller(steps, redis)

    def run() -> Any:
        return step_loop.wait_for(caller.connection.run(("PING", "x" * 10_000_000)))

    assert isinstance(begin(steps, run).result(LIMIT), RedisTimeoutError)


def test_a_refused_thread_is_not_asked_for_by_every_step(
    caller: Caller, redis: Redis, steps: StepLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An executor keeps a call for which it could start no thread, and does it later."""
    asked: list[Any] = []

    def refuse(*call: Any) -> None:
        asked.append(call)
        raise RuntimeError("can't start new thread")

    def use() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(caller.connection.loop, "run_in_executor", refuse)
            assert not any(caller.connection.is_open() for _ in range(3))

    redis.generation += 1
    begin(steps, use).result(LIMIT)

    assert len(asked) == 1
    caller.open()
