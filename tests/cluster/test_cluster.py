"""The ledger on a cluster: its own tests, waits, replicas that are away, and a dead master."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, TypeVar

import pytest
import requests

from orchestrator.cli.stack import ROOT
from orchestrator.jobs.model import Status, Step
from orchestrator.ledger import Idempotency, Ledger, LedgerUnavailable, identifiers, keys
from tests.cluster.conftest import SHARDS
from tests.ledger import kit
from tests.ledger.kit import NOW, SUCCESS, WAIT_SECONDS
from tests.support.fork_server import ForkedStack
from tests.support.redis_servers import ClusterServers
from tests.system.conftest import ONE_WEB_PROCESS, TIMES, Client

T = TypeVar("T")

#: These have the most different scripts and listings. All others pass, too:
#: make test ARGS='tests/ledger --redis-cluster'
LEDGER_TESTS = ("batches", "shards")
WORKERS = 4
#: A wait that reaches this timeout fails its test. Seconds.
LONG_TIMEOUT = WAIT_SECONDS + 30


def test_the_ledgers_tests_pass_on_a_cluster(cluster: ClusterServers) -> None:
    files = [f"tests/ledger/test_{name}.py" for name in LEDGER_TESTS]
    on_it = ["--redis-cluster", f"--redis-cluster-url={cluster.url}"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *on_it, *files]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-4000:]


def test_jobs_are_on_every_master(ledger: Ledger, cluster: ClusterServers) -> None:
    ids = [kit.create(ledger) for _ in range(60)]

    for node in cluster.masters():
        with node.client() as client:
            assert client.dbsize() > 0
    assert {identifiers.shard_of(job_id) for job_id in ids} == set(range(SHARDS))
    assert ledger.overview.counts()[Status.QUEUED] == 60


def test_a_settlement_ends_the_waits_for_jobs_of_every_shard(ledger: Ledger) -> None:
    ids = [kit.running(ledger) for _ in range(8)]
    with ThreadPoolExecutor(len(ids)) as pool:
        waiting = [pool.submit(ledger.outcomes.wait, job_id, LONG_TIMEOUT) for job_id in ids]
        for number, job_id in enumerate(ids, 1):
            ledger.settle_attempt(job_id, 1, f"task-{number}", SUCCESS, now=NOW)

        jobs = [each.result(WAIT_SECONDS) for each in waiting]

    assert [job.status for job in jobs if job] == [Status.SUCCEEDED] * len(ids)


@contextmanager
def stopped(cluster: ClusterServers) -> Iterator[None]:
    """Let no replica answer."""
    processes = [node.process for node in cluster.replicas() if node.process]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def test_without_a_replica_nothing_is_acknowledged(ledger: Ledger, cluster: ClusterServers) -> None:
    job_id = kit.create(ledger)
    unsure = Ledger.from_url(cluster.url, is_cluster=True, shards=SHARDS)

    with stopped(cluster):
        with pytest.raises(LedgerUnavailable, match="0 of 1 replicas have the last write"):
            kit.create(ledger)
        with pytest.raises(LedgerUnavailable):
            ledger.claim(job_id, Step.SUBMIT, now=NOW, lease_ms=1000)
        with pytest.raises(LedgerUnavailable, match="0 of 1 replicas have the last write"):
            ledger.access.revoke_key("key", now=NOW)
        with pytest.raises(LedgerUnavailable, match="0 of 1 replicas have the last write"):
            ledger.admission.pause("hiapi", by="test", now=NOW)
        with pytest.raises(LedgerUnavailable):
            ledger.installation.check_write()
        assert ledger.agenda.counts(now=NOW).open >= 1, "reads do not wait"
        assert kit.create(unsure)

    kit.eventually(cluster.is_whole, every=0.05)
    assert kit.create(ledger)
    ledger.access.revoke_key("key", now=NOW)
    ledger.admission.pause("hiapi", by="test", now=NOW)


@pytest.mark.parametrize("replicas", [0, 1])
def test_while_keys_move_calls_fail_without_blame_on_a_setting(
    cluster: ClusterServers, replicas: int
) -> None:
    ledger = Ledger.from_url(cluster.url, is_cluster=True, shards=SHARDS, wait_replicas=replicas)
    job_id = kit.create(ledger)

    def create_until_refused() -> None:
        for _ in range(100 * SHARDS):
            kit.create(ledger)

    with cluster.moved(keys.job(job_id)), pytest.raises(LedgerUnavailable) as error:
        create_until_refused()

    assert type(error.value) is LedgerUnavailable
    claim = partial(ledger.claim, job_id, Step.SUBMIT, now=NOW, lease_ms=kit.LEASE)
    assert insist(claim)


@dataclass
class Acknowledged:
    """What the ledger said is done: jobs, their tasks, and the jobs that are settled."""

    created: set[str] = field(default_factory=set)
    bound: dict[str, str] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)


def insist(call: Callable[[], T]) -> T:
    """Repeat a call until the cluster acknowledges it."""
    result: list[T] = []

    def tried() -> bool:
        with suppress(LedgerUnavailable):
            result.append(call())
        return bool(result)

    kit.eventually(tried, every=0.02)
    return result[0]


def work(ledger: Ledger, name: str, done: Acknowledged, ended: threading.Event) -> None:
    """Create, bind and settle jobs one after another until the end."""
    for number in count():
        if ended.is_set():
            return
        key, task_id = Idempotency("test", f"{name}-{number}"), f"task-{name}-{number}"
        job_id = insist(partial(create, ledger, key))
        done.created.add(job_id)
        insist(partial(ledger.claim, job_id, Step.SUBMIT, now=NOW, lease_ms=kit.LEASE))
        insist(partial(ledger.accepted, job_id, 1, task_id, now=NOW, due_at=kit.NEXT_DUE))
        done.bound[job_id] = task_id
        insist(partial(ledger.settle_attempt, job_id, 1, task_id, SUCCESS, now=NOW))
        done.settled.add(job_id)


def create(ledger: Ledger, key: Idempotency) -> str:
    made = ledger.create(kit.REQUEST, now=NOW, deadline_at=kit.DEADLINE, idempotency=key)
    return made.job_id


def test_a_killed_master_loses_nothing_that_was_acknowledged(
    ledger: Ledger, cluster: ClusterServers
) -> None:
    done, ended = [Acknowledged() for _ in range(WORKERS)], threading.Event()
    with ThreadPoolExecutor(WORKERS) as pool:
        working = [
            pool.submit(work, ledger, f"worker-{number}", each, ended)
            for number, each in enumerate(done)
        ]
        try:
            kit.eventually(lambda: sum(len(each.settled) for each in done) > 100, every=0.05)
            cluster.replace(cluster.masters()[0])
            before = [len(each.settled) for each in done]
            # Each worker has met every shard several times when it has ended many more jobs.
            kit.eventually(
                lambda: all(
                    len(each.settled) > least + 5 * SHARDS
                    for each, least in zip(done, before, strict=True)
                ),
                within=180,
                every=0.1,
            )
        finally:
            ended.set()
        for future in working:
            future.result(WAIT_SECONDS)

    for each in done:
        assert len(each.created) >= len(each.settled)
        for job_id in each.created:
            job = insist(partial(ledger.get, job_id))
            assert job, "an acknowledged job is lost"
            if job_id in each.bound:
                assert job.attempts[0].task_id == each.bound[job_id]
            assert job.status is Status.SUCCEEDED or job_id not in each.settled


def enqueue(client: Client, key: str) -> str:
    """Enqueue a job, again while the cluster is incomplete. Return its id."""
    headers = {**client.headers, "Idempotency-Key": key}
    body = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": key}
    answers: list[requests.Response] = []

    def accepted() -> bool:
        url = f"{client.stack.web_url}/v1/jobs"
        answers.append(requests.post(url, json=body, headers=headers, timeout=60))
        return answers[-1].status_code in (200, 202)

    kit.eventually(accepted, within=120, every=0.2)
    return str(answers[-1].json()["id"])


def settled_status(client: Client, job_id: str) -> str:
    """Return the status of a terminal job. Calls fail while the cluster is incomplete."""
    statuses: list[Any] = []

    def is_settled() -> bool:
        url = f"{client.stack.web_url}/v1/jobs/{job_id}"
        answer = requests.get(url, headers=client.headers, params={"wait": 5}, timeout=60)
        if answer.ok and answer.json()["settled_at"]:
            statuses.append(answer.json()["status"])
        return bool(statuses)

    kit.eventually(is_settled, within=180, every=0.2)
    return str(statuses[0])


def test_the_product_runs_on_a_cluster_whose_master_is_killed(
    cluster: ClusterServers, redis_url: str
) -> None:
    settings = {
        **TIMES,
        **ONE_WEB_PROCESS,
        "ORCHESTRATOR_REDIS_CLUSTER": "1",
        "ORCHESTRATOR_REDIS_WAIT_REPLICAS": "1",
        "ORCHESTRATOR_SHARDS": str(SHARDS),
        "ORCHESTRATOR_BROKER_URL": redis_url,
    }
    processes = ("web", "worker", "beat", "recorder")
    with ForkedStack(
        processes, redis_url=cluster.url, task_seconds=0.4, settings=settings
    ) as stack:
        client = Client(stack)
        first = [enqueue(client, f"before-{number}") for number in range(10)]
        cluster.replace(cluster.masters()[1])
        jobs = first + [enqueue(client, f"after-{number}") for number in range(10)]

        outcomes = [settled_status(client, job_id) for job_id in jobs]

        assert outcomes == ["succeeded"] * len(jobs)
        tasks = requests.get(f"{stack.sandbox_url}/control/tasks", timeout=60).json()
        assert len(tasks) == len(jobs), "a job was submitted twice"
