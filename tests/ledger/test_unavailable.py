"""Redis is away, or will not write: every method says LedgerUnavailable, and the ledger heals."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from orchestrator.cli.stack import embedded_redis, free_port
from orchestrator.ledger import Ledger, LedgerUnavailable
from orchestrator.ledger import connection as module
from tests.ledger import kit
from tests.ledger.calls import CALLS, FREEING, PUBLIC, WRITING, prepared, unheard_of

Change = Callable[[Redis], object]

#: How a server comes to refuse writes, by the word it refuses them with; and how it is mended.
REFUSALS: Mapping[str, Change] = {
    "OOM": lambda redis: redis.config_set("maxmemory", 1),
    "READONLY": lambda redis: redis.replicaof("127.0.0.1", 1),
    "MASTERDOWN": lambda redis: (
        redis.config_set("replica-serve-stale-data", "no"),
        redis.replicaof("127.0.0.1", 1),
    ),
    "NOREPLICAS": lambda redis: redis.config_set("min-replicas-to-write", 1),
}


def mend(redis: Redis) -> None:
    redis.replicaof("NO", "ONE")
    redis.config_set("maxmemory", 0)
    redis.config_set("replica-serve-stale-data", "yes")
    redis.config_set("min-replicas-to-write", 0)


@pytest.fixture(scope="module")
def spare_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module's own, to be broken."""
    with embedded_redis(tmp_path_factory.mktemp("spare")) as url:
        yield url


@pytest.fixture
def spare(spare_url: str) -> Iterator[Redis]:
    with Redis.from_url(spare_url, decode_responses=True) as client:
        client.flushdb()
        yield client
        mend(client)


def test_every_public_method_is_tested_here() -> None:
    assert sorted(CALLS) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_method_says_at_once_that_nobody_listens(name: str) -> None:
    ledger = Ledger.from_url(f"redis://127.0.0.1:{free_port()}/0")
    begun = monotonic()

    with pytest.raises(LedgerUnavailable, match="refused"):
        CALLS[name](ledger, unheard_of())

    assert monotonic() - begun < module.CONNECT_TIMEOUT + module.ANSWER_TIMEOUT


@pytest.mark.parametrize("name", PUBLIC)
def test_a_method_gives_up_on_a_server_that_does_not_answer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = module.ANSWER_TIMEOUT
    monkeypatch.setattr(module, "ANSWER_TIMEOUT", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ledger = Ledger.from_url(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        begun = monotonic()

        with pytest.raises(LedgerUnavailable):
            CALLS[name](ledger, unheard_of())

        assert monotonic() - begun < usual


@pytest.mark.parametrize(
    ("name", "refusal"),
    [(n, r) for n in WRITING for r in REFUSALS if not (n in FREEING and r == "OOM")],
)
def test_a_method_says_that_redis_refuses_to_write_and_has_changed_nothing(
    spare: Redis, spare_url: str, name: str, refusal: str
) -> None:
    ledger = Ledger.from_url(spare_url)
    lease = prepared(ledger, name)
    before = kit.everything(spare)
    REFUSALS[refusal](spare)

    with pytest.raises(LedgerUnavailable, match=rf"^({refusal}|READONLY) "):
        CALLS[name](ledger, lease)

    mend(spare)
    assert kit.everything(spare) == before
    CALLS[name](ledger, lease)
    assert kit.everything(spare) != before, "mended: the call does its work"


def test_jobs_can_be_read_from_a_server_that_is_full(spare: Redis, spare_url: str) -> None:
    ledger = Ledger.from_url(spare_url)
    job_id = kit.running(ledger)
    REFUSALS["OOM"](spare)

    assert kit.job(ledger, job_id).status == "running"


def test_a_mistake_of_ours_is_not_taken_for_an_outage(spare: Redis, spare_url: str) -> None:
    ledger = Ledger.from_url(spare_url)
    job_id = kit.create(ledger)
    spare.delete(*kit.every_key(spare))
    spare.set(f"{{orch:0}}:job:{job_id}", "no hash")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        ledger.cancel(job_id, now=kit.NOW)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_dropped_connection_is_made_again_unnoticed(
    real_redis: Redis, crowd: Ledger, name: str
) -> None:
    lease = prepared(crowd, name)
    real_redis.client_kill_filter(_type="normal", skipme=True)

    CALLS[name](crowd, lease)


def test_a_ledger_heals_by_itself_and_has_kept_its_jobs(tmp_path: Path) -> None:
    port = free_port()
    with embedded_redis(tmp_path, port) as url:
        ledger = Ledger.from_url(url)
        lease = kit.submitting(ledger)

    with pytest.raises(LedgerUnavailable):
        ledger.get(lease.job.id)

    with embedded_redis(tmp_path, port):
        assert ledger.get(lease.job.id) == lease.job
        assert kit.requeue(ledger, lease) == "queued"


def test_a_server_that_forgot_the_scripts_is_sent_them_again(
    real_redis: Redis, crowd: Ledger
) -> None:
    for name in PUBLIC:
        lease = prepared(crowd, name)
        real_redis.script_flush()

        CALLS[name](crowd, lease)
