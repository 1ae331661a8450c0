"""What the doctor finds at the archive, the spool and Redis.

tests/system/test_faces.py runs it on a stack.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from orchestrator.callbacks import spool as spool_module
from orchestrator.callbacks.spool import Entry, Spool
from orchestrator.ledger import identifiers
from orchestrator.ledger.installation import Installation
from orchestrator.messages import ARCHIVE_QUEUE
from orchestrator.operations import doctor
from orchestrator.operations.doctor import CheckResult, examine
from tests.settings.test_secret_settings import WHSEC
from tests.support.fakes import NOON


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    folder = tmp_path / "spool"
    monkeypatch.setenv("ORCHESTRATOR_SPOOL_DIR", str(folder))
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:1/0")
    return Spool(folder)


def found() -> list[CheckResult]:
    return [finding for finding in examine() if finding.check == "spool"]


@pytest.fixture(autouse=True)
def _data_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATA_DIR", str(tmp_path))


def archive() -> CheckResult:
    return next(finding for finding in examine() if finding.check == "archive")


def test_an_archive_that_takes_and_gives_is_well_and_left_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:1/0")

    assert archive().mark == "ok"
    assert [path for path in (tmp_path / "archive").rglob("*") if path.is_file()] == []


def test_an_empty_archive_of_archived_images_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "has_archived", lambda _: True)

    assert archive().mark == "wrong"
    assert "mount its disk" in archive().found
    assert not (tmp_path / "archive").exists()


def test_an_archive_that_cannot_be_written_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:1/0")
    (tmp_path / "archive").write_text("no folder")

    assert archive().mark == "wrong"
    assert "ORCHESTRATOR_ARCHIVE_URL" in archive().fix


@pytest.mark.parametrize(("secret", "mark"), [("", "warning"), (WHSEC, "ok")])
def test_the_doctor_says_whether_callers_can_be_told(
    monkeypatch: pytest.MonkeyPatch, secret: str, mark: str
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("ORCHESTRATOR_NOTIFY_SECRET", secret)

    assert [f.mark for f in examine() if f.check == "notifications"] == [mark]


def test_without_a_spool_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:1/0")
    assert found() == []


def test_an_empty_spool_is_well_and_left_empty(spool: Spool) -> None:
    assert [finding.mark for finding in found()] == ["ok"]
    assert list(spool.folder.iterdir()) == []


def test_what_waits_and_what_was_put_aside_is_counted(spool: Spool) -> None:
    for _ in range(3):
        spool.keep(Entry("hiapi", identifiers.new_job_id(0, NOON), 1, 1, b"{}"))
    spool.set_aside(spool.waiting()[0])

    waiting, bad = found()
    assert (waiting.mark, waiting.found) == ("warning", "2 callbacks are waiting")
    assert (bad.mark, bad.found) == ("warning", "1 files are not callbacks")
    assert waiting.fix
    assert bad.fix


def test_a_folder_that_cannot_be_written_is_wrong(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(spool_module, "write_synced", refuse)

    [finding] = found()
    assert finding.mark == "wrong"
    assert "Read-only file system" in finding.found
    assert "ORCHESTRATOR_SPOOL_DIR" in finding.fix


#: The answer of a Redis whose settings are good and whose clock is ours.
GOOD = {
    "redis_version": "7.2.4",
    "aof_enabled": 1,
    "appendfsync": "always",
    "maxmemory_policy": "noeviction",
    "now_ms": NOON,
}


@pytest.mark.parametrize(
    ("server", "check", "mark", "told", "fix"),
    [
        ({}, "redis", "ok", "version 7.2.4", ""),
        ({}, "durability", "ok", "append-only file, synced always", ""),
        ({"aof_enabled": 0}, "durability", "wrong", "no append-only file", "--appendonly yes"),
        ({"appendfsync": "everysec"}, "durability", "warning", "everysec", "appendfsync always"),
        ({}, "eviction", "ok", "noeviction", ""),
        ({"maxmemory_policy": "allkeys-lru"}, "eviction", "wrong", "allkeys-lru", "noeviction"),
        ({"now_ms": NOON - 1500}, "clock", "ok", "+1.50 s", ""),
        ({"now_ms": NOON - 2000}, "clock", "warning", "+2.00 s", "run NTP"),
        ({"now_ms": NOON + 4000}, "clock", "warning", "-4.00 s", "run NTP"),
    ],
)
def test_redis_is_judged_by_its_settings_and_its_clock(  # noqa: PLR0917  # one row of the table
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    server: dict[str, Any],
    check: str,
    mark: str,
    told: str,
    fix: str,
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", redis_url)
    monkeypatch.setattr(Installation, "server", lambda _: {**GOOD, **server})
    time = {**GOOD, **server}["now_ms"]
    monkeypatch.setattr(Installation, "time", lambda _: time)
    monkeypatch.setattr("orchestrator.operations.check_redis.now_ms", lambda: NOON)

    [finding] = [finding for finding in examine() if finding.check == check]

    assert finding.mark == mark
    assert told in finding.found
    assert fix in finding.fix
    assert bool(finding.fix) == bool(fix)


def test_a_file_in_place_of_the_folder_is_wrong(spool: Spool) -> None:
    spool.folder.write_text("no folder")

    assert [finding.mark for finding in found()] == ["wrong"]


def test_a_queue_that_nobody_reads_is_named(
    redis_url: str, real_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", redis_url)
    real_redis.rpush(ARCHIVE_QUEUE, *["a nudge"] * 200)

    [broker] = [finding for finding in examine() if finding.check == "broker"]

    assert (broker.mark, broker.found) == (
        "warning",
        f"200 messages are waiting in {ARCHIVE_QUEUE}",
    )
    assert "WORKER_QUEUES" in broker.fix


def test_a_misspelt_setting_of_any_prefix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "redis://127.0.0.1:1/0")
    names = (
        "ORCHESTRATOR_REDIS_URI",
        "HIAPI_APIKEY",
        "ORCHESTRTOR_SHARDS",
        "EVOLINK_COLOUR",
    )
    for name in (*names, "ORCHESTRATOR_SECRET_KEY_FILE", "HIAPI_PRICES", "ORCHESTRA"):
        monkeypatch.setenv(name, "")

    results = [result for result in examine() if "is not a setting" in result.found]

    assert {result.found.split()[0]: result.fix for result in results} == {
        "ORCHESTRATOR_REDIS_URI": "did you mean ORCHESTRATOR_REDIS_URL?",
        "HIAPI_APIKEY": "did you mean HIAPI_API_KEY?",
        "ORCHESTRTOR_SHARDS": "did you mean ORCHESTRATOR_SHARDS?",
        "EVOLINK_COLOUR": "remove it; this version does not read it",
    }


def test_a_check_that_breaks_off_is_a_result(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, real_redis: Redis
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("amqp://app:password@mq is broken")

    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", redis_url)
    monkeypatch.setattr("orchestrator.operations.doctor.check_sweep", broken)

    results = list(examine())

    [result] = [result for result in results if result.check == "processes"]
    assert result.mark == "wrong"
    assert "RuntimeError" in result.found
    assert "password" not in result.found
    assert results[-1].check != "processes", "the other checks go on"


def test_a_right_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, real_redis: Redis
) -> None:
    made: Any = real_redis
    rights = {"passwords": ["+pw"], "keys": ["*"], "commands": ["+@all"]}
    made.acl_setuser("no_channels", enabled=True, reset=True, **rights)
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", redis_url.replace("//", "//no_channels:pw@"))
    try:
        [result] = [result for result in examine() if result.check == "redis"]
    finally:
        made.acl_deluser("no_channels")

    assert result.mark == "wrong"
    assert "NOPERM" in result.found
    assert "pw" not in result.found
