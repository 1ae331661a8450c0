"""The prune step: finished jobs are deleted, unfinished jobs and the archive are kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from orchestrator.cli import main
from orchestrator.clock import DAY_MS
from orchestrator.jobs.model import FollowUpStatus, Step
from orchestrator.ledger import Ledger, LedgerUnavailable, identifiers, keys, overview
from orchestrator.ledger.circuit_breaker import HOST_RECORD_TTL_MS
from orchestrator.messages import ARCHIVE_QUEUE, Broker
from orchestrator.steps.prune import prune
from orchestrator.storage.storage import StorageError
from tests.ledger.kit import eventually
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, archived, picture
from tests.support.fakes import Answer, Harness, unavailable_ledger, use_runtime
from tests.support.worker_app import worker

DAY = 86_400
OVER = 7 * DAY + 0.001


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    return archive_kit.harness(start, tmp_path)


def followed(harness: Harness, step: Step, job_id: str, how: FollowUpStatus) -> str:
    now = harness.clock.now
    lease = harness.ledger.follow_ups.claim(job_id, step, now=now, lease_ms=1000)
    assert lease is not None
    harness.ledger.follow_ups.done(lease, step, how, now=now, tries=1)
    return job_id


def unanswered(harness: Harness) -> str:
    """Return a failed job with a pending notification."""
    return job_states.ended(harness, job_states.failure(), notify_stream="told")


OVER_AND_DONE: dict[str, Callable[[Harness], str]] = {
    "failed": lambda harness: job_states.ended(harness, job_states.failure()),
    "refused": job_states.refused,
    "cancelled": job_states.cancelled,
    "given up": job_states.given_up,
    "archived": lambda harness: followed(
        harness, Step.ARCHIVE, job_states.ended(harness), FollowUpStatus.DONE
    ),
    "lost": lambda harness: followed(
        harness, Step.ARCHIVE, job_states.ended(harness), FollowUpStatus.DEAD
    ),
    "not told": lambda harness: followed(
        harness, Step.NOTIFY, unanswered(harness), FollowUpStatus.DEAD
    ),
}
NOT_YET: dict[str, Callable[[Harness], str]] = {
    "queued": Harness.enqueue,
    "submitting": lambda harness: job_states.submitting(harness).job.id,
    "unconfirmed": job_states.unconfirmed,
    "running": job_states.running,
    "not archived": job_states.ended,
    "archived, not told": lambda harness: followed(
        harness, Step.ARCHIVE, job_states.ended(harness, notify_stream="told"), FollowUpStatus.DONE
    ),
    "told, not archived": lambda harness: followed(
        harness, Step.NOTIFY, job_states.ended(harness, notify_stream="told"), FollowUpStatus.DONE
    ),
}


@pytest.mark.parametrize("life", OVER_AND_DONE)
def test_a_finished_job_is_deleted_after_the_retention_time(harness: Harness, life: str) -> None:
    job_id = OVER_AND_DONE[life](harness)
    harness.clock.forward(7 * DAY)

    assert prune(harness.runtime) == [], "the retention time is not over"
    assert prune(harness.runtime, dry_run=True) == []
    harness.clock.forward(0.001)
    assert prune(harness.runtime) == [job_id]

    assert harness.ledger.get(job_id) is None
    assert [key for key in harness.redis.keys() if job_id in str(key)] == []  # noqa: SIM118
    assert prune(harness.runtime) == []


@pytest.mark.parametrize("life", NOT_YET)
def test_an_unfinished_job_is_kept_at_any_age(harness: Harness, life: str) -> None:
    job_id = NOT_YET[life](harness)
    harness.clock.forward(3650 * DAY)

    assert prune(harness.runtime, dry_run=True) == []
    assert prune(harness.runtime) == prune(harness.runtime, days=0) == []

    assert harness.ledger.get(job_id) is not None


@pytest.mark.parametrize("life", [*OVER_AND_DONE, *NOT_YET])
def test_a_dry_run_returns_the_same_and_deletes_nothing(harness: Harness, life: str) -> None:
    job_id = {**OVER_AND_DONE, **NOT_YET}[life](harness)
    harness.clock.forward(OVER)
    before = {key: harness.redis.dump(key) for key in harness.redis.keys()}  # noqa: SIM118

    result = prune(harness.runtime, dry_run=True)

    assert result == ([job_id] if life in OVER_AND_DONE else [])
    assert {key: harness.redis.dump(key) for key in harness.redis.keys()} == before  # noqa: SIM118
    assert prune(harness.runtime) == result


def test_the_age_can_be_given(harness: Harness) -> None:
    old = job_states.refused(harness)
    harness.clock.forward(2 * DAY)
    young = job_states.refused(harness)
    harness.clock.forward(DAY + 60)

    assert prune(harness.runtime, days=3.5, dry_run=True) == []
    assert prune(harness.runtime, days=2.5, dry_run=True) == [old]
    assert prune(harness.runtime, days=0.5, dry_run=True) == [old, young]
    assert prune(harness.runtime, days=2.5) == [old]
    assert prune(harness.runtime, days=0) == [young]


def test_a_shorter_retention_time_has_effect_at_once(harness: Harness) -> None:
    """The expiry of a job in Redis keeps the setting of its end."""
    job_id = job_states.refused(harness)
    harness.clock.forward(2 * DAY)
    shorter = harness.with_settings(retention_days=1).runtime

    assert prune(harness.runtime) == []
    assert prune(shorter) == [job_id]


def test_the_retention_time_starts_at_the_end_of_the_job(harness: Harness) -> None:
    job_id = job_states.running(harness)
    harness.clock.forward(20 * DAY)
    task = job_states.task_of(job_id)
    harness.ledger.settle_attempt(job_id, 1, task, job_states.failure(), now=harness.clock.now)
    harness.clock.forward(6 * DAY)

    assert prune(harness.runtime) == prune(harness.runtime, dry_run=True) == []
    harness.clock.forward(DAY + 0.001)
    assert prune(harness.runtime) == [job_id]


@pytest.mark.parametrize("shards", [1, 3])
def test_every_shard_is_cleared_page_by_page(
    harness: Harness, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PAGE_JOBS", 4)
    sharded = harness.on(Ledger(lambda: harness.redis, shards=shards))
    old = {job_states.refused(sharded) for _ in range(20)}
    kept = {sharded.enqueue() for _ in range(20)}
    assert len({identifiers.shard_of(job_id) for job_id in old}) == shards
    sharded.clock.forward(OVER)

    assert set(prune(sharded.runtime, dry_run=True)) == old
    assert set(prune(sharded.runtime)) == old

    assert set(sharded.ledger.overview.newest(100, below=identifiers.LAST_ID)) == kept


def test_an_expired_job_leaves_the_index_and_is_not_counted(harness: Harness) -> None:
    gone = job_states.refused(harness)
    harness.redis.delete(keys.job(gone), keys.events(gone))
    harness.clock.forward(OVER)

    assert prune(harness.runtime, dry_run=True) == prune(harness.runtime) == []

    assert harness.ledger.overview.size() == 0


def test_the_archive_keeps_the_images_of_a_deleted_job(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(picture()))
    kept = archive_kit.files(harness)
    assert len(kept) == 2  # the image and the manifest; a thumbnail is made on first use
    harness.clock.forward(OVER)

    assert prune(harness.runtime) == [job_id]

    assert archive_kit.files(harness) == kept
    assert archive_kit.manifest(harness, job_id)["id"] == job_id


def test_a_job_with_a_pending_archive_is_kept(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(Answer(404)))
    harness.clock.forward(OVER)

    assert prune(harness.runtime) == []
    assert harness.job(job_id)


# Other old records -------------------------------------------------------------------------


def test_old_host_records_are_deleted(harness: Harness) -> None:
    hosts, now = harness.ledger.circuit_breaker, harness.clock.now
    hosts.failed("old.example", now=now)
    hosts.failed("young.example", now=now + 1)
    harness.clock.now = now + HOST_RECORD_TTL_MS

    prune(harness.runtime)
    assert set(hosts.failing()) == {"old.example", "young.example"}
    harness.clock.forward(0.001)
    prune(harness.runtime, dry_run=True)
    assert set(hosts.failing()) == {"old.example", "young.example"}
    prune(harness.runtime)
    assert set(hosts.failing()) == {"young.example"}


def test_temporary_files_of_killed_processes_are_deleted(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = []
    monkeypatch.setattr(harness.runtime.storage, "sweep", lambda: swept.append(1))

    prune(harness.runtime, dry_run=True)
    assert swept == []
    prune(harness.runtime)
    assert swept == [1]


def test_jobs_are_deleted_while_the_storage_is_away(harness: Harness, tmp_path: Path) -> None:
    job_id = job_states.refused(harness)
    (tmp_path / "archive").write_text("a file in the folder's place")
    harness.clock.forward(OVER)

    with pytest.raises(StorageError):
        prune(harness.runtime)

    assert harness.ledger.get(job_id) is None


def test_prune_raises_while_redis_is_away(harness: Harness) -> None:
    with pytest.raises(LedgerUnavailable):
        prune(away(harness).runtime)


def away(harness: Harness) -> Harness:
    return harness.on(unavailable_ledger())


# Command and schedule -----------------------------------------------------------------------


@pytest.fixture
def old(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job that ended two days ago, in the ledger of the commands."""
    job_id = job_states.refused(harness)
    harness.clock.forward(2 * DAY)
    use_runtime(monkeypatch, harness.runtime)
    return job_id


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["prune", *arguments])


def test_the_command_deletes_by_the_retention_time(harness: Harness, old: str) -> None:
    assert cli().output == "jobs deleted: 0\n"
    harness.clock.forward(28 * DAY + 1)
    assert cli("--dry-run").output == "jobs to delete: 1\n"
    assert cli().output == "jobs deleted: 1\n"
    assert harness.ledger.get(old) is None


def test_the_command_speaks_json(harness: Harness, old: str) -> None:
    result = cli("--days", "1", "--dry-run", "--json")
    assert json.loads(result.stdout) == {"forgotten": [old], "dry_run": True}
    assert harness.ledger.get(old)
    result = cli("--days", "1.5", "--json")
    assert json.loads(result.stdout) == {"forgotten": [old], "dry_run": False}
    assert harness.ledger.get(old) is None


@pytest.mark.parametrize("days", ["-1", "soon", "inf", "4000"])
def test_the_command_refuses_an_invalid_age(harness: Harness, old: str, days: str) -> None:
    result = cli("--days", days)

    assert result.exit_code == 2
    assert "--days" in result.output
    assert harness.ledger.get(old)


def test_the_command_names_the_service_that_is_away(
    harness: Harness, old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    result = cli()
    assert result.exit_code == 1
    assert "Error: file:///" in result.output
    use_runtime(monkeypatch, away(harness).runtime)
    result = cli()
    assert result.exit_code == 1
    assert "Redis does not answer" in result.output


@pytest.fixture
def workers(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return worker(harness, monkeypatch)


def test_beat_runs_prune_daily(workers: ModuleType) -> None:
    entry = workers.app.conf.beat_schedule["prune"]

    assert entry["task"] == "orchestrator.prune"
    assert entry["task"] in workers.app.tasks
    assert (entry["schedule"].hour, entry["schedule"].minute) == ({3}, {17})
    assert len(entry["schedule"].day_of_week) == 7
    assert workers.app.conf.enable_utc


def prune_by(workers: ModuleType) -> None:
    """Run the worker's task, and wait for its thread."""
    workers.prune()
    eventually(lambda: all(thread.name != "prune" for thread in threading.enumerate()))


def test_the_workers_task_deletes_jobs(harness: Harness, workers: ModuleType) -> None:
    job_id = job_states.refused(harness)
    harness.clock.forward(OVER)

    prune_by(workers)

    assert harness.ledger.get(job_id) is None


def test_the_workers_task_survives_an_outage(
    harness: Harness, workers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    prune_by(workers)
    use_runtime(monkeypatch, away(harness).runtime)
    prune_by(workers)


def test_days_are_days() -> None:
    assert DAY_MS == DAY * 1000


def test_nudges_that_nobody_reads_do_not_fill_the_broker(
    harness: Harness, redis_url: str, real_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.steps.prune.MAX_UNREAD_NUDGES", 1)
    broker, left = Broker(redis_url), []

    for number in range(2):
        broker.send(Step.ARCHIVE, {"": [f"job_{number}"]})
        prune(replace(harness.runtime, broker=broker))
        left.append(real_redis.llen(ARCHIVE_QUEUE))

    assert left == [1, 0]
