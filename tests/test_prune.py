"""Clearing away: what is over is forgotten, what is not is kept, and the archive stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import fakeredis
import pytest
from click.testing import CliRunner, Result

from orchestrator import runtime as runtime_module
from orchestrator.archive.storage import StorageError
from orchestrator.cli import main
from orchestrator.clock import now_ms
from orchestrator.jobs import FollowUpStatus, Step
from orchestrator.ledger import Ledger, LedgerUnavailable, keys, overview
from orchestrator.ledger.hosts import FORGOTTEN_AFTER
from orchestrator.prune import prune
from orchestrator.runtime import DAY_MS
from tests import lives
from tests.archive import kit
from tests.archive.kit import Gallery, archived, picture
from tests.fakes import Answer, World
from tests.worker import worker

DAY = 86_400
OVER = 30 * DAY + 0.001


@pytest.fixture
def world(start: Callable[..., World], tmp_path: Path) -> World:
    """A world whose clock is an hour ahead of the one that ids are made by."""
    made = kit.world(start, tmp_path)
    made.clock.now = now_ms() + 3_600_000
    return made


def followed(world: World, step: Step, job_id: str, how: FollowUpStatus) -> str:
    now = world.clock.now
    lease = world.ledger.follow_ups.claim(job_id, step, now=now, lease_ms=1000)
    assert lease is not None
    world.ledger.follow_ups.done(lease, step, how, now=now, tries=1)
    return job_id


def unanswered(world: World) -> str:
    """A job that failed, whose caller is to be told; its id."""
    return lives.ended(world, lives.failure(), notify_stream="told")


OVER_AND_DONE: dict[str, Callable[[World], str]] = {
    "failed": lambda world: lives.ended(world, lives.failure()),
    "refused": lives.refused,
    "cancelled": lives.cancelled,
    "given up": lives.given_up,
    "archived": lambda world: followed(
        world, Step.ARCHIVE, lives.ended(world), FollowUpStatus.DONE
    ),
    "lost": lambda world: followed(world, Step.ARCHIVE, lives.ended(world), FollowUpStatus.DEAD),
    "not told": lambda world: followed(world, Step.NOTIFY, unanswered(world), FollowUpStatus.DEAD),
}
NOT_YET: dict[str, Callable[[World], str]] = {
    "queued": World.enqueue,
    "submitting": lambda world: lives.submitting(world).job.id,
    "unconfirmed": lives.unconfirmed,
    "running": lives.running,
    "not archived": lives.ended,
    "archived, not told": lambda world: followed(
        world, Step.ARCHIVE, lives.ended(world, notify_stream="told"), FollowUpStatus.DONE
    ),
    "told, not archived": lambda world: followed(
        world, Step.NOTIFY, lives.ended(world, notify_stream="told"), FollowUpStatus.DONE
    ),
}


@pytest.mark.parametrize("life", OVER_AND_DONE)
def test_a_job_that_is_over_is_forgotten_after_the_retention_time(world: World, life: str) -> None:
    job_id = OVER_AND_DONE[life](world)
    world.clock.forward(30 * DAY)

    assert prune(world.runtime) == [], "not a moment sooner"
    assert prune(world.runtime, dry_run=True) == []
    world.clock.forward(0.001)
    assert prune(world.runtime) == [job_id]

    assert world.ledger.get(job_id) is None
    assert [key for key in world.redis.keys() if job_id in str(key)] == []  # noqa: SIM118
    assert prune(world.runtime) == []


@pytest.mark.parametrize("life", NOT_YET)
def test_a_job_that_is_not_over_is_kept_however_old(world: World, life: str) -> None:
    job_id = NOT_YET[life](world)
    world.clock.forward(3650 * DAY)

    assert prune(world.runtime, dry_run=True) == []
    assert prune(world.runtime) == prune(world.runtime, days=0) == []

    assert world.ledger.get(job_id) is not None


@pytest.mark.parametrize("life", [*OVER_AND_DONE, *NOT_YET])
def test_a_dry_run_tells_the_same_and_forgets_nothing(world: World, life: str) -> None:
    job_id = {**OVER_AND_DONE, **NOT_YET}[life](world)
    world.clock.forward(OVER)
    before = {key: world.redis.dump(key) for key in world.redis.keys()}  # noqa: SIM118

    told = prune(world.runtime, dry_run=True)

    assert told == ([job_id] if life in OVER_AND_DONE else [])
    assert {key: world.redis.dump(key) for key in world.redis.keys()} == before  # noqa: SIM118
    assert prune(world.runtime) == told


def test_how_long_ago_can_be_said(world: World) -> None:
    old = lives.refused(world)
    world.clock.forward(2 * DAY)
    young = lives.refused(world)
    world.clock.forward(DAY + 60)

    assert prune(world.runtime, days=3.5, dry_run=True) == []
    assert prune(world.runtime, days=2.5, dry_run=True) == [old]
    assert prune(world.runtime, days=0.5, dry_run=True) == [old, young]
    assert prune(world.runtime, days=2.5) == [old]
    assert prune(world.runtime, days=0) == [young]


def test_the_retention_time_of_today_counts(world: World) -> None:
    """A job's own expiry in Redis was set when it was over."""
    job_id = lives.refused(world)
    world.clock.forward(2 * DAY)
    shorter = replace(world.runtime, settings=replace(world.runtime.settings, retention_days=1))

    assert prune(world.runtime) == []
    assert prune(shorter) == [job_id]


def test_a_job_that_took_long_is_kept_from_its_end_on(world: World) -> None:
    job_id = lives.running(world)
    world.clock.forward(20 * DAY)
    task = lives.task_of(job_id)
    world.ledger.settle_attempt(job_id, 1, task, lives.failure(), now=world.clock.now)
    world.clock.forward(29 * DAY)

    assert prune(world.runtime) == prune(world.runtime, dry_run=True) == []
    world.clock.forward(DAY + 0.001)
    assert prune(world.runtime) == [job_id]


@pytest.mark.parametrize("shards", [1, 3])
def test_every_shard_is_cleared_page_by_page(
    world: World, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PAGE", 4)
    sharded = world.on(Ledger(lambda: world.redis, shards=shards))
    old = {lives.refused(sharded) for _ in range(20)}
    kept = {sharded.enqueue() for _ in range(20)}
    assert len({keys.shard_of(job_id) for job_id in old}) == shards
    sharded.clock.forward(OVER)

    assert set(prune(sharded.runtime, dry_run=True)) == old
    assert set(prune(sharded.runtime)) == old

    assert {job.id for job in sharded.ledger.overview.page(100).jobs} == kept


def test_a_job_that_expired_meanwhile_leaves_the_index_and_is_not_counted(world: World) -> None:
    gone = lives.refused(world)
    world.redis.delete(keys.job(gone), keys.events(gone))
    world.clock.forward(OVER)

    assert prune(world.runtime, dry_run=True) == prune(world.runtime) == []

    assert world.ledger.overview.size() == 0


def test_the_archive_keeps_what_the_ledger_forgets(world: World) -> None:
    job_id = archived(world, Gallery(world).job(picture()))
    kept = kit.files(world)
    assert len(kept) == 3
    world.clock.forward(OVER)

    assert prune(world.runtime) == [job_id]

    assert kit.files(world) == kept
    assert kit.manifest(world, job_id)["id"] == job_id


def test_images_that_are_still_tried_keep_their_job(world: World) -> None:
    job_id = archived(world, Gallery(world).job(Answer(404)))
    world.clock.forward(OVER)

    assert prune(world.runtime) == []
    assert world.job(job_id)


# What is left over -------------------------------------------------------------------------


def test_hosts_that_have_not_failed_for_long_are_forgotten(world: World) -> None:
    hosts, now = world.ledger.hosts, world.clock.now
    hosts.failed("old.example", now=now)
    hosts.failed("young.example", now=now + 1)
    world.clock.now = now + FORGOTTEN_AFTER

    prune(world.runtime)
    assert set(hosts.failing()) == {"old.example", "young.example"}
    world.clock.forward(0.001)
    prune(world.runtime, dry_run=True)
    assert set(hosts.failing()) == {"old.example", "young.example"}
    prune(world.runtime)
    assert set(hosts.failing()) == {"young.example"}


def test_halves_that_killed_processes_left_are_swept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = []
    monkeypatch.setattr(world.runtime.storage, "sweep", lambda: swept.append(1))

    prune(world.runtime, dry_run=True)
    assert swept == []
    prune(world.runtime)
    assert swept == [1]


def test_a_storage_that_is_away_keeps_no_job_from_being_forgotten(
    world: World, tmp_path: Path
) -> None:
    job_id = lives.refused(world)
    (tmp_path / "archive").write_text("a file in the folder's place")
    world.clock.forward(OVER)

    with pytest.raises(StorageError):
        prune(world.runtime)

    assert world.ledger.get(job_id) is None


def test_while_redis_is_away_it_says_so(world: World) -> None:
    with pytest.raises(LedgerUnavailable):
        prune(away(world).runtime)


def away(world: World) -> World:
    server = fakeredis.FakeServer()
    server.connected = False
    return world.on(Ledger(lambda: fakeredis.FakeRedis(server=server, decode_responses=True)))


# By hand, and daily ------------------------------------------------------------------------


@pytest.fixture
def old(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job that is over for two days, in the ledger that commands find; its id."""
    job_id = lives.refused(world)
    world.clock.forward(2 * DAY)
    monkeypatch.setattr(runtime_module, "default", lambda: world.runtime)
    return job_id


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["prune", *arguments])


def test_the_command_forgets_by_the_retention_time(world: World, old: str) -> None:
    assert cli().output == "jobs forgotten: 0\n"
    world.clock.forward(28 * DAY + 1)
    assert cli("--dry-run").output == "jobs to forget: 1\n"
    assert cli().output == "jobs forgotten: 1\n"
    assert world.ledger.get(old) is None


def test_the_command_speaks_json(world: World, old: str) -> None:
    told = cli("--days", "1", "--dry-run", "--json")
    assert json.loads(told.stdout) == {"forgotten": [old], "dry_run": True}
    assert world.ledger.get(old)
    told = cli("--days", "1.5", "--json")
    assert json.loads(told.stdout) == {"forgotten": [old], "dry_run": False}
    assert world.ledger.get(old) is None


@pytest.mark.parametrize("days", ["-1", "soon", "inf", "4000"])
def test_the_command_refuses_a_time_that_is_none(world: World, old: str, days: str) -> None:
    told = cli("--days", days)

    assert told.exit_code == 2
    assert "--days" in told.output
    assert world.ledger.get(old)


def test_the_command_says_what_is_away(
    world: World, old: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    told = cli()
    assert told.exit_code == 1
    assert "Error: file:///" in told.output
    monkeypatch.setattr(runtime_module, "default", lambda: away(world).runtime)
    told = cli()
    assert told.exit_code == 1
    assert "Redis is away" in told.output


@pytest.fixture
def workers(world: World, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return worker(world, monkeypatch)


def test_beat_has_it_done_daily(workers: ModuleType) -> None:
    entry = workers.app.conf.beat_schedule["prune"]

    assert entry["task"] == "orchestrator.prune"
    assert entry["task"] in workers.app.tasks
    assert (entry["schedule"].hour, entry["schedule"].minute) == ({3}, {17})
    assert len(entry["schedule"].day_of_week) == 7
    assert workers.app.conf.enable_utc


def test_the_workers_task_forgets(world: World, workers: ModuleType) -> None:
    job_id = lives.refused(world)
    world.clock.forward(OVER)

    workers.prune()

    assert world.ledger.get(job_id) is None


def test_the_workers_task_outlives_what_is_away(
    world: World, workers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive").write_text("a file in the folder's place")
    workers.prune()
    monkeypatch.setattr(runtime_module, "default", lambda: away(world).runtime)
    workers.prune()


def test_days_are_days() -> None:
    assert DAY_MS == DAY * 1000
