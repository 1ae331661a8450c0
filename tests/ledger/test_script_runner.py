"""Scripts of a step loop: they share round trips, and each step gets its own answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from orchestrator import step_loop
from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.jobs.model import Step
from orchestrator.ledger import Lease, Ledger, LedgerUnavailable
from orchestrator.ledger.connection import Clients, connect
from orchestrator.ledger.script import Script
from orchestrator.ledger.script_runner import MAX_SCRIPTS, ScriptRunner
from orchestrator.servers.redis_server import RedisServer
from orchestrator.step_loop import StepLoop
from tests.ledger.kit import LEASE, NOW, create
from tests.support.steps import begin, open_connection

pytestmark = pytest.mark.one_server

#: The longest wait for a step. Seconds.
LIMIT = 60


def script(source: str) -> Script:
    return Script("test", source, sha1(source.encode(), usedforsecurity=False).hexdigest())


ECHO = script("return {ARGV[1]}")
SPOILED = script("return {'\\255'}")
WRONG = script("return redis.call('LLEN', KEYS[1])")
FULL = script("return redis.error_reply('OOM command not allowed')")
REFUSING = script(
    "if redis.call('EXISTS', KEYS[1]) == 1 then"
    " return redis.error_reply('READONLY You can not write against a read only replica.') end"
    " return {ARGV[1]}"
)


class Counted:
    """A client that counts its round trips."""

    wait_replicas = 0

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.trips = 0

    def __getattr__(self, name: str) -> Any:
        self.trips += name != "connection_pool"  # it opens another connection
        return getattr(self._redis, name)

    def clients(self) -> Clients:
        return Clients(lambda: cast(Redis, self))


def run_all(steps: StepLoop, runner: ScriptRunner, number: int, script: Script) -> list[Any]:
    """Return the answer or the error of each of many runs that begin together."""

    def begin_all() -> list[Any]:
        return [begin(steps, runner.run, script, ["key"], [str(each)]) for each in range(number)]

    futures = begin(steps, begin_all).result(LIMIT)
    return [future.exception(LIMIT) or future.result() for future in futures]


def test_steps_that_wait_together_share_round_trips_and_get_their_own_answers(
    steps: StepLoop, redis: Redis
) -> None:
    counted = Counted(redis)
    redis.script_load(ECHO.source)

    answers = run_all(steps, ScriptRunner(counted.clients()), 2 * MAX_SCRIPTS, ECHO)

    assert answers == [[str(each)] for each in range(2 * MAX_SCRIPTS)]
    assert counted.trips == 2


def clients_of(url: str) -> Clients:
    """Return clients of a server. Each thread has its own, which it alone may close."""
    return Clients(lambda: connect(RedisServer.parse(url)))


def until_open(steps: StepLoop, runner: ScriptRunner) -> None:
    """Wait until the loop has a connection of its own."""
    begin(steps, open_connection, runner).result(LIMIT)


def test_an_open_connection_needs_no_client(steps: StepLoop, redis: Redis) -> None:
    counted = Counted(redis)
    runner = ScriptRunner(counted.clients())
    redis.script_load(ECHO.source)
    until_open(steps, runner)

    answers = run_all(steps, runner, 2 * MAX_SCRIPTS, ECHO)

    assert answers == [[str(each)] for each in range(2 * MAX_SCRIPTS)]
    assert counted.trips == 0


def test_a_client_does_what_an_open_connection_cannot(
    steps: StepLoop, redis: Redis, redis_url: str
) -> None:
    runner = ScriptRunner(clients_of(f"{redis_url}?client_name=killed"))
    until_open(steps, runner)

    redis.script_flush()
    assert run_all(steps, runner, 3, ECHO) == [["0"], ["1"], ["2"]]
    for client in redis.client_list():
        if client["name"] == "killed":
            redis.client_kill_filter(_id=client["id"])
    assert run_all(steps, runner, 3, ECHO) == [["0"], ["1"], ["2"]]


def test_a_connection_to_an_old_master_is_replaced_though_the_clients_have_a_new_one(
    steps: StepLoop, redis: Redis, redis_url: str, empty_redis: Callable[[], Redis]
) -> None:
    """Two databases stand for two servers. The first one refuses, as a replica does."""
    new = empty_redis().connection_pool.connection_kwargs["db"]
    urls = [redis_url]
    runner = ScriptRunner(Clients(lambda: connect(RedisServer.parse(urls[-1]))))
    until_open(steps, runner)
    redis.set("key", "of the old master")
    redis.script_load(REFUSING.source)
    urls.append(f"{redis_url.rpartition('/')[0]}/{new}")

    assert run_all(steps, runner, 3, REFUSING) == [["0"], ["1"], ["2"]]

    def run_on_own_connection() -> Any:
        command = ("EVALSHA", REFUSING.sha, 1, "key", "3")
        return step_loop.wait_for(open_connection(runner).run(command))

    assert begin(steps, run_on_own_connection).result(LIMIT) == ["3"]


def test_a_redis_that_does_not_answer_an_open_connection_is_away(
    steps: StepLoop, tmp_path: Path
) -> None:
    with embedded_redis(tmp_path) as url:
        clients = clients_of(f"{url}?socket_timeout=0.2")
        runner = ScriptRunner(clients)
        until_open(steps, runner)
        with clients.client() as client:
            pid = int(client.info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            answers = run_all(steps, runner, 3, ECHO)
        finally:
            os.kill(pid, signal.SIGCONT)

    assert [type(answer) for answer in answers] == [LedgerUnavailable] * 3
    assert clients.is_silent


def test_a_script_that_redis_does_not_know_is_sent(
    steps: StepLoop, redis: Redis, redis_url: str
) -> None:
    redis.script_flush()

    answers = run_all(steps, ScriptRunner(clients_of(redis_url)), 3, ECHO)

    assert answers == [["0"], ["1"], ["2"]]


@pytest.fixture(params=["client", "open connection"])
def runner(request: pytest.FixtureRequest, steps: StepLoop, redis_url: str) -> ScriptRunner:
    made = ScriptRunner(clients_of(redis_url))
    if request.param == "open connection":
        until_open(steps, made)
    return made


def test_the_fault_of_one_script_fails_its_own_step_only(
    steps: StepLoop, redis: Redis, runner: ScriptRunner
) -> None:
    redis.set("key", "not a list")

    def begin_all() -> list[Any]:
        return [begin(steps, runner.run, each, ["key"], ["1"]) for each in (ECHO, WRONG, ECHO)]

    first, second, third = begin(steps, begin_all).result(LIMIT)

    assert isinstance(second.exception(LIMIT), ResponseError)
    assert first.result(LIMIT) == third.result(LIMIT) == ["1"]


def test_an_answer_that_is_not_utf_8_fails_its_own_step_only(
    steps: StepLoop, runner: ScriptRunner
) -> None:
    """The claims of the other jobs have run."""

    def begin_all() -> list[Any]:
        return [begin(steps, runner.run, each, ["key"], ["1"]) for each in (ECHO, SPOILED, ECHO)]

    first, second, third = begin(steps, begin_all).result(LIMIT)

    assert isinstance(second.exception(LIMIT), UnicodeDecodeError)
    assert first.result(LIMIT) == third.result(LIMIT) == ["1"]


def test_a_step_whose_script_has_run_is_not_told_of_the_refusal_of_another(
    steps: StepLoop, runner: ScriptRunner
) -> None:
    """A claim that has run and that its step does not know of looks like a submission."""

    def begin_all() -> list[Any]:
        return [begin(steps, runner.run, each, ["key"], ["1"]) for each in (ECHO, FULL, ECHO)]

    for _ in range(2):  # the first time, Redis does not know the scripts
        first, second, third = begin(steps, begin_all).result(LIMIT)

        assert first.result(LIMIT) == third.result(LIMIT) == ["1"]
        assert isinstance(second.exception(LIMIT), LedgerUnavailable)


def test_a_step_whose_script_has_run_is_not_told_that_another_could_not_be_sent(
    steps: StepLoop, redis: Redis, runner: ScriptRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.script_flush()
    redis.script_load(ECHO.source)

    def away(_: Redis, __: str) -> None:
        raise RedisConnectionError("away")

    monkeypatch.setattr(Redis, "script_load", away)

    def begin_all() -> list[Any]:
        return [begin(steps, runner.run, each, ["key"], ["1"]) for each in (ECHO, FULL, ECHO)]

    first, second, third = begin(steps, begin_all).result(LIMIT)

    assert first.result(LIMIT) == third.result(LIMIT) == ["1"]
    assert isinstance(second.exception(LIMIT), LedgerUnavailable)


def test_a_script_that_redis_forgets_again_can_be_run_later(
    steps: StepLoop, redis: Redis, runner: ScriptRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.script_flush()
    load = Redis.script_load

    def load_in_vain(client: Redis, source: str) -> None:
        load(client, source)
        client.script_flush()

    monkeypatch.setattr(Redis, "script_load", load_in_vain)

    answers = run_all(steps, runner, 3, ECHO)

    assert [type(answer) for answer in answers] == [LedgerUnavailable] * 3
    monkeypatch.undo()
    assert run_all(steps, runner, 3, ECHO) == [["0"], ["1"], ["2"]]


def test_every_step_learns_that_redis_is_away(steps: StepLoop) -> None:
    runner = ScriptRunner(Clients(lambda: Redis(port=1, single_connection_client=True)))

    answers = run_all(steps, runner, 3, ECHO)

    assert [type(answer) for answer in answers] == [LedgerUnavailable] * 3
    assert not any(isinstance(answer, RedisConnectionError) for answer in answers)


def test_transitions_of_a_step_loop_change_the_ledger(steps: StepLoop, ledger: Ledger) -> None:
    job_ids = [create(ledger) for _ in range(3)]
    options: dict[str, Any] = {"now": NOW, "lease_ms": LEASE}
    claims = [begin(steps, ledger.claim, each, Step.SUBMIT, **options) for each in job_ids]

    leases = [claim.result(LIMIT) for claim in claims]

    assert [isinstance(each, Lease) and each.job.id for each in leases] == job_ids
