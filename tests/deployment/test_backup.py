"""docs/operations/backup.md: its commands save and restore an installation under load."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from redis import Redis

from orchestrator.cli.embedded_redis import EmbeddedRedis
from orchestrator.cli.stack import ROOT, Stack
from orchestrator.clock import now_ms
from orchestrator.history.history import History
from orchestrator.jobs.model import Status
from orchestrator.ledger import Ledger
from orchestrator.ledger.admission import CircuitState
from tests.docs.pages import DocPage, code
from tests.support import debian, postgres
from tests.support.fork_server import ForkedStack
from tests.system.conftest import TIMES, Client, eventually

PAGE = DocPage("docs/operations/backup.md")
#: Before the backup no job waits for a sweep.
PROCESSES_BEFORE = ("web", "worker", "recorder")
PROCESSES = (*PROCESSES_BEFORE, "beat")
#: The programs of the script, by their Debian packages.
PACKAGES = ("redis-tools", "rsync", "sqlite3")
#: Jobs that are acknowledged before the backup begins, and the most in all.
JOBS_BEFORE, MAX_JOBS = 20, 400
#: A job without a lease is due before that.
SOON_MS = 5000
#: The first provider takes idempotency keys. The second does not.
WITH_KEYS, WITHOUT_KEYS = "hiapi", "evolink"


@dataclass
class Load:
    """Enqueues jobs from enter to exit."""

    client: Client
    #: The ids of acknowledged jobs by prompt.
    jobs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers, self._stopped = count(), threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (number := next(self._numbers)) < MAX_JOBS and not self._stopped.is_set():
            provider, prompt = (WITH_KEYS, WITHOUT_KEYS)[number % 2], f"job {number}"
            self.jobs[prompt] = self.client.enqueue(provider, prompt)
            self._stopped.wait(0.1)


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    for package in PACKAGES:
        if debian.program(package) is None:
            pytest.skip(debian.missing(package))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    home = tmp_path / "old"
    settings = {**TIMES, "WEB_CONCURRENCY": "1", "ORCHESTRATOR_SPOOL_DIR": str(home / "spool")}
    with (
        EmbeddedRedis(home / "redis", appendfsync="always") as redis,
        ForkedStack(
            PROCESSES_BEFORE, redis_url=redis.url, task_seconds=0.5, settings=settings, folder=home
        ) as running,
    ):
        yield running


def test_a_backup_under_load_is_restored_elsewhere(stack: Stack, tmp_path: Path) -> None:
    client, new = Client(stack), tmp_path / "new"
    with Load(client) as load:
        eventually(lambda: len(load.jobs) >= JOBS_BEFORE and (tmp_path / "old/archive").exists())
        before = dict(load.jobs)
        ended = {id_: job for id_ in before.values() if (job := client.job(id_))["settled_at"]}
        backup = back_up(stack.env, tmp_path / "backup")
    assert rewrite_percentage(stack) == 100

    for name in PROCESSES_BEFORE:
        stack.kill(name)
    shutil.rmtree(tmp_path / "old/redis")
    shutil.rmtree(tmp_path / "old/archive")
    places = {
        "BACKUP": str(backup),
        "REDIS_DIR": str(new / "redis"),
        "ORCHESTRATOR_DATA_DIR": str(new),
        "ORCHESTRATOR_SPOOL_DIR": str(new / "spool"),
    }
    run(PAGE.text.split("1. Copy the files")[1], "sha256sum", {**stack.env, **places})
    with EmbeddedRedis(new / "redis", appendfsync="always") as redis:
        stack.env |= {**places, "ORCHESTRATOR_REDIS_URL": redis.url}
        stack.env["PROVIDERS"] = WITHOUT_KEYS  # the other finds a task by its key
        run(PAGE.text, "orchestrator pause", stack.env)
        queued, in_work = open_jobs(redis.url)
        assert paused(redis.url)
        for name in PROCESSES:
            stack.start(name)
        stack.wait_for("web", f"{stack.web_url}/readyz")
        for job_id, job in ended.items():
            assert client.job(job_id)["settled_at"] == job["settled_at"]
        run(PAGE.text, "orchestrator resume", stack.env)

        for job_id in before.values():
            # A step that was in work is done again when its lease ends.
            job = client.job(job_id) if job_id in in_work else client.outcome(job_id)
            assert job["status"] == "succeeded" or job_id in in_work
        paid = Counter(task["prompt"] for task in tasks(stack))
        twice = {load.jobs[prompt] for prompt, times in paid.items() if times > 1}
        assert twice <= queued
        assert all(client.job(job_id)["provider"] == WITHOUT_KEYS for job_id in twice)
        run(PAGE.text, "orchestrator verify", stack.env)


def test_the_history_in_postgresql_is_dumped_and_restored(tmp_path: Path) -> None:
    initdb = debian.program("postgresql")
    if initdb is None:
        pytest.skip(debian.missing("postgresql"))
    [command] = [
        c for row in PAGE.text.splitlines() for c in code(row) if c.startswith("pg_restore")
    ]
    with EmbeddedRedis(tmp_path / "redis") as redis, postgres.running(initdb.parent) as url:
        history = History(url)
        history.database.migrate()
        history.close()
        env = {
            "PATH": f"{initdb.parent}{os.pathsep}{os.environ['PATH']}",
            "ORCHESTRATOR_REDIS_URL": redis.url,
            "ORCHESTRATOR_HISTORY_URL": url,
            "ORCHESTRATOR_DATA_DIR": str(tmp_path / "data"),
        }
        env |= {"BACKUP": str(back_up(env, tmp_path / "backup"))}
        env |= {"DATABASE": url.replace("+psycopg", "")}
        with psycopg.connect(env["DATABASE"], autocommit=True) as connection:
            read = "SELECT version_num FROM alembic_version"
            version = connection.execute(read).fetchone()
            connection.execute("DELETE FROM alembic_version")
            subprocess.run(["/bin/sh", "-c", command], env=env, check=True)
            assert connection.execute(read).fetchone() == version


def test_a_backup_that_fails_leaves_redis_as_it_was(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, Redis.from_url(server.url) as redis:
        redis.config_set("auto-aof-rewrite-percentage", 70)
        env = {
            "PATH": os.environ["PATH"],
            "ORCHESTRATOR_REDIS_URL": server.url,
            "ORCHESTRATOR_DATA_DIR": str(tmp_path / "data"),
            "REDIS_DIR": str(tmp_path / "elsewhere"),
        }
        told = backup(env, tmp_path / "backup")
        assert told.returncode != 0
        assert "elsewhere" in told.stderr
        assert "There is no history" in told.stderr
        assert [path.suffix for path in (tmp_path / "backup").iterdir()] == [".partial"]
        value: Any = redis.config_get("auto-aof-rewrite-percentage")
    assert value == {"auto-aof-rewrite-percentage": "70"}


def backup(env: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "deploy/backup/backup.sh", folder]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def back_up(env: Mapping[str, str], folder: Path) -> Path:
    """Run the script. Return the folder of the new backup."""
    told = backup(env, folder)
    assert told.returncode == 0, told.stderr
    return Path(told.stdout.strip())


def run(text: str, mark: str, env: Mapping[str, str]) -> None:
    """Run the block of shell commands that contains `mark`."""
    [block] = [
        one.split("```")[0] for one in text.split("```sh\n")[1:] if mark in one.split("```")[0]
    ]
    told = subprocess.run(
        ["/bin/sh", "-euc", block], env=env, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


def open_jobs(redis_url: str) -> tuple[set[str], set[str]]:
    """Return the queued jobs, and those whose step was in work: they are due when it ends."""
    found = [each for each in Ledger.from_url(redis_url).overview.snapshots(0) if each.job]
    queued = {each.job_id for each in found if each.job and each.job.status is Status.QUEUED}
    soon = now_ms() + SOON_MS
    return queued, {each.job_id for each in found if each.due_at and each.due_at > soon}


def paused(redis_url: str) -> bool:
    admission = Ledger.from_url(redis_url).admission
    [state] = admission.states([WITHOUT_KEYS], now=now_ms()).values()
    return state.circuit is CircuitState.PAUSED


def tasks(stack: Stack) -> list[dict[str, Any]]:
    """Return the tasks that the providers charged."""
    found: list[dict[str, Any]] = requests.get(
        f"{stack.sandbox_url}/control/tasks", timeout=60
    ).json()
    return found


def rewrite_percentage(stack: Stack) -> int:
    with Redis.from_url(stack.env["ORCHESTRATOR_REDIS_URL"], decode_responses=True) as redis:
        value: Any = redis.config_get("auto-aof-rewrite-percentage")
    return int(value["auto-aof-rewrite-percentage"])
