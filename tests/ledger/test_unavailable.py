"""Redis is away or refuses to write: every method raises LedgerUnavailable, and nothing changes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from orchestrator.cli.embedded_redis import embedded_redis
from orchestrator.cli.ports import free_port
from orchestrator.ledger import Ledger, LedgerUnavailable, Result
from orchestrator.ledger import connection as module
from tests.ledger import kit
from tests.ledger.calls import (
    CALLS,
    FREES_MEMORY,
    PUBLIC,
    WRITES,
    lease_on_unknown_job,
    prepare,
)

pytestmark = pytest.mark.one_server

Change = Callable[[Redis], object]

#: Changes that make a server refuse writes, by the error code of the refusal.
REFUSALS: Mapping[str, Change] = {
    "OOM": lambda redis: redis.config_set("maxmemory", 1),
    "READONLY": lambda redis: redis.replicaof("127.0.0.1", 1),
    "MASTERDOWN": lambda redis: (
        redis.config_set("replica-serve-stale-data", "no"),
        redis.replicaof("127.0.0.1", 1),
    ),
    "NOREPLICAS": lambda redis: redis.config_set("min-replicas-to-write", 1),
}
#: Methods that write in each way: one script, one command, a pipeline.
EACH_WAY = ("create", "rejected.keep", "follow_ups.publish")
#: A full Redis refuses a script at its first write that needs memory. So each method runs on a full
#: Redis, or on a read-only one if it only deletes. One method of each way runs on the others.
REFUSED = [
    *((name, "READONLY" if name in FREES_MEMORY else "OOM") for name in WRITES),
    *((name, code) for code in REFUSALS if code != "OOM" for name in EACH_WAY),
]


def repair(redis: Redis) -> None:
    redis.replicaof("NO", "ONE")
    redis.config_set("maxmemory", 0)
    redis.config_set("replica-serve-stale-data", "yes")
    redis.config_set("min-replicas-to-write", 0)


@pytest.fixture(scope="module")
def spare_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module. The tests break it."""
    with embedded_redis(tmp_path_factory.mktemp("spare")) as url:
        yield url


@pytest.fixture
def spare(spare_url: str) -> Iterator[Redis]:
    with Redis.from_url(spare_url, decode_responses=True) as client:
        client.flushdb()
        yield client
        repair(client)


def test_every_public_method_is_tested_here() -> None:
    assert sorted(CALLS) == PUBLIC


# Redis does not answer ------------------------------------------------------------------------


def error_of(ledger: Ledger, name: str) -> str:
    """Return the message of LedgerUnavailable. Empty if a method raises nothing."""
    try:
        CALLS[name](ledger, lease_on_unknown_job())
    except LedgerUnavailable as error:
        return str(error)
    return ""


def test_every_method_raises_when_the_connection_is_refused() -> None:
    ledger = Ledger.from_url(f"redis://127.0.0.1:{free_port()}/0")

    assert [name for name in PUBLIC if "refused" not in error_of(ledger, name)] == []


def test_every_method_raises_when_the_server_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT", 0.02)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=1024) as silent,
        ThreadPoolExecutor(32) as threads,
    ):
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"

        # A new ledger per method, because a ledger does not call Redis just after a time-out.
        errors = threads.map(lambda name: error_of(Ledger.from_url(url), name), PUBLIC)
        assert [name for name, error in zip(PUBLIC, errors, strict=True) if not error] == []


def test_every_method_connects_again_after_a_dropped_connection(
    real_redis: Redis, shared_ledger: Ledger
) -> None:
    for name in PUBLIC:
        lease = prepare(shared_ledger, name)
        real_redis.client_kill_filter(_type="normal", skipme=True)

        CALLS[name](shared_ledger, lease)


def test_every_method_sends_its_script_again_after_a_flush_of_the_scripts(
    real_redis: Redis, shared_ledger: Ledger
) -> None:
    for name in PUBLIC:
        lease = prepare(shared_ledger, name)
        real_redis.script_flush()

        CALLS[name](shared_ledger, lease)


def test_a_ledger_recovers_after_a_restart_with_all_its_jobs(tmp_path: Path) -> None:
    port = free_port()
    with embedded_redis(tmp_path, port) as url:
        ledger = Ledger.from_url(url)
        lease = kit.submitting(ledger)

    with pytest.raises(LedgerUnavailable):
        ledger.get(lease.job.id)

    with embedded_redis(tmp_path, port):
        assert ledger.get(lease.job.id) == lease.job
        assert kit.requeue(ledger, lease) is Result.QUEUED


# Redis refuses to write -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), REFUSED)
def test_a_method_that_redis_refuses_changes_nothing(
    spare: Redis, spare_url: str, name: str, code: str
) -> None:
    ledger = Ledger.from_url(spare_url)
    lease = prepare(ledger, name)
    before = kit.state(spare)
    REFUSALS[code](spare)

    with pytest.raises(LedgerUnavailable, match=rf"^({code}|READONLY) "):
        CALLS[name](ledger, lease)

    repair(spare)
    assert kit.state(spare) == before
    CALLS[name](ledger, lease)
    assert kit.state(spare) != before, "the call works after the repair"


def test_jobs_can_be_read_from_a_full_server(spare: Redis, spare_url: str) -> None:
    ledger = Ledger.from_url(spare_url)
    job_id = kit.running(ledger)
    REFUSALS["OOM"](spare)

    assert kit.job(ledger, job_id).status == "running"


def test_a_programming_error_is_not_reported_as_unavailable(spare: Redis, spare_url: str) -> None:
    ledger = Ledger.from_url(spare_url)
    job_id = kit.create(ledger)
    spare.delete(*kit.every_key(spare))
    spare.set(f"{{orch:0}}:job:{job_id}", "no hash")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        ledger.cancel(job_id, now=kit.NOW)
