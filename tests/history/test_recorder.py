"""The recorder: after any run, the history equals the ledger."""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from orchestrator.history import Entry, HistoryUnavailable, NoHistory, Query
from orchestrator.history import recorder as recorder_module
from orchestrator.history.history import Batch, History
from orchestrator.history.recorder import Recorder
from orchestrator.jobs.model import Step
from orchestrator.ledger import Ledger, keys
from orchestrator.ledger.changes import RECORDER_LEASE_MS
from orchestrator.ledger.processes import Process
from tests.history.kit import catch_up, cut, differences, random_run, recorder, started
from tests.ledger import kit
from tests.ledger.kit import eventually
from tests.support import fork_server
from tests.support.fakes import Clock


@pytest.fixture
def sqlite(open_history: Callable[[str], History], history_url: str) -> History:
    return open_history(history_url)


def test_after_any_run_the_history_equals_the_ledger(
    shared_ledger: Ledger, history: History
) -> None:
    made = started(shared_ledger, history)
    ids = [kit.create(shared_ledger, kit.NOTIFYING) for _ in range(8)]
    run = random_run(shared_ledger, ids, seed=7, steps=60)

    for _ in range(10):
        run()
        made.record()
    catch_up(made)

    assert differences(shared_ledger, history) == []
    statuses = {entry.job.status for entry in history.entries(ids).values()}
    assert len(statuses) > 1, "the run did something"


def test_a_new_history_is_filled_with_the_jobs_of_the_ledger(
    shared_ledger: Ledger, history: History
) -> None:
    ids = [kit.settled(shared_ledger), kit.running(shared_ledger), kit.create(shared_ledger)]

    started(shared_ledger, history)

    assert differences(shared_ledger, history) == []
    assert history.find(Query(), limit=9).ids == ids[::-1]


def test_every_change_is_recorded_also_of_a_timeline_and_of_a_lease(
    shared_ledger: Ledger, sqlite: History
) -> None:
    made = started(shared_ledger, sqlite)
    job_id = kit.settled(shared_ledger)
    changes: list[Callable[[], object]] = [
        lambda: kit.settled(shared_ledger),
        lambda: shared_ledger.settle_attempt(job_id, 1, "other", kit.FAILURE, now=kit.NOW),
        lambda: kit.retry_follow_up(
            shared_ledger,
            kit.claim_follow_up(shared_ledger, job_id, Step.NOTIFY),
            Step.NOTIFY,
        ),
        lambda: kit.claim(shared_ledger, running, Step.POLL),
    ]
    running = kit.running(shared_ledger, due_at=kit.NOW)
    for change in changes:
        change()
        made.record()
        assert differences(shared_ledger, sqlite) == []


def test_a_transaction_that_is_undone_is_repeated(
    shared_ledger: Ledger, sqlite: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = started(shared_ledger, sqlite)
    before = sqlite.positions()
    job_id = kit.settled(shared_ledger)

    with monkeypatch.context() as broken:
        broken.setattr("orchestrator.history.history.Batch.move", _killed)
        with pytest.raises(KeyboardInterrupt):
            made.record()

    assert sqlite.get(job_id) is None
    assert sqlite.positions() == before
    catch_up(made)
    assert differences(shared_ledger, sqlite) == []


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_of_two_recorders_one_writes_and_the_other_takes_over(
    shared_ledger: Ledger, sqlite: History, open_history: Callable[[str], History], history_url: str
) -> None:
    first = started(shared_ledger, sqlite)
    second = recorder(shared_ledger, open_history(history_url))
    job_id = kit.settled(shared_ledger)

    second.record()
    assert sqlite.get(job_id) is None, "the first has the lease"
    first.record()
    assert sqlite.get(job_id) is not None

    later = kit.settled(shared_ledger)
    eventually(lambda: second.record() or sqlite.get(later))
    assert RECORDER_LEASE_MS > 0
    assert differences(shared_ledger, sqlite) == []


def test_recorders_share_the_shards_and_take_over_those_of_a_stopped_one(
    redis: Redis, sqlite: History, open_history: Callable[[str], History], history_url: str
) -> None:
    ledger = Ledger(lambda: redis, shards=5)
    first, second = started(ledger, sqlite), recorder(ledger, open_history(history_url))
    now = Clock()()
    processes = [Process("recorder", "host", pid, "1", now, now) for pid in (1, 2)]

    def holders() -> Counter[str]:
        for each in (first, second):
            each._count_at = 0
            each.record()
        tokens: Any = redis.mget([keys.recorder(shard) for shard in range(ledger.shards)])
        return Counter(tokens)

    def shares() -> tuple[int, int]:
        found = holders()
        return found[first._token], found[second._token]

    assert shares() == (5, 0)
    for process in processes:
        ledger.processes.record(process)
    eventually(lambda: shares() == (3, 2))
    job_ids = [kit.settled(ledger) for _ in range(20)]
    shares()
    assert all(sqlite.get(job_id) for job_id in job_ids)

    ledger.processes.forget(processes[1])
    second.record = lambda: False  # type: ignore[method-assign]  # it has stopped
    eventually(lambda: shares() == (5, 0))
    assert differences(ledger, sqlite) == []


def test_a_recorder_looks_less_often_while_nothing_changes(
    shared_ledger: Ledger, sqlite: History
) -> None:
    recorder = started(shared_ledger, sqlite)
    waits: list[float] = []

    class Stopping:
        def wait(self, seconds: float) -> bool:
            waits.append(seconds)
            if len(waits) == 50:
                kit.create(shared_ledger)
            return len(waits) > 52

    recorder.run(Stopping())

    assert waits[1] == recorder_module.PASS_SECONDS
    assert waits[49] == recorder_module.CALM_PASS_SECONDS
    assert waits[52] == recorder_module.PASS_SECONDS


def test_two_writers_at_once_neither_lose_nor_repeat_a_change(
    shared_ledger: Ledger,
    history: History,
    open_history: Callable[[str], History],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "orchestrator.ledger.changes.ChangeStreams.hold", lambda self, *_: list(self._shards)
    )
    started(shared_ledger, history)
    ids = [kit.create(shared_ledger, kit.NOTIFYING) for _ in range(6)]
    stopping = threading.Event()
    monkeypatch.setattr(recorder_module, "PASS_SECONDS", 0.01)
    others = [open_history(str(history.database._url.render_as_string(False))) for _ in range(2)]
    threads = [
        threading.Thread(target=Recorder(shared_ledger, each, Clock()).run, args=(stopping,))
        for each in others
    ]
    for thread in threads:
        thread.start()

    random_run(shared_ledger, ids, seed=3, steps=300)()

    eventually(lambda: differences(shared_ledger, history) == [])
    stopping.set()
    for thread in threads:
        thread.join()


def test_changes_that_another_recorder_has_written_meanwhile_are_not_written_again(
    shared_ledger: Ledger,
    sqlite: History,
    open_history: Callable[[str], History],
    history_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "orchestrator.ledger.changes.ChangeStreams.hold", lambda self, *_: list(self._shards)
    )
    first = started(shared_ledger, sqlite)
    second = recorder(shared_ledger, open_history(history_url))
    kit.settled(shared_ledger)
    write, put = second._write, list[object]()

    def write_late(*read: Any) -> None:
        kit.settled(shared_ledger)
        catch_up(first)
        monkeypatch.setattr(Batch, "put", lambda _, entries: put.extend(entries))
        write(*read)

    monkeypatch.setattr(second, "_write", write_late)
    second.record()

    monkeypatch.undo()
    assert put == []
    known = {shard: each.position for shard, each in sqlite.positions().items()}
    after = shared_ledger.changes.after(known, 9).values()
    assert {changes and changes.entries for changes in after} == {0}


def test_a_cut_stream_is_noticed_and_all_jobs_are_read_again(
    shared_ledger: Ledger, redis: Redis, sqlite: History, capfd: pytest.CaptureFixture[str]
) -> None:
    made = started(shared_ledger, sqlite)
    kit.settled(shared_ledger)
    cut(redis, keys.changes(0))

    made.record()
    position = sqlite.positions()[0]
    assert position.incomplete_since is not None

    for _ in range(3):
        made.record()
    assert sqlite.positions()[0].incomplete_since is None
    assert differences(shared_ledger, sqlite) == []


def test_recorded_changes_are_removed_from_the_stream(
    shared_ledger: Ledger, redis: Redis, sqlite: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = started(shared_ledger, sqlite)
    for _ in range(150):
        kit.settled(shared_ledger)
    catch_up(made)
    before = redis.xlen(keys.changes(0))

    monkeypatch.setattr(recorder_module, "KEEP_SECONDS", 0.0)
    made._trim_at = 0.0
    for _ in range(2):
        made.record()

    assert redis.xlen(keys.changes(0)) < before
    kit.settled(shared_ledger)
    made.record()
    assert sqlite.positions()[0].incomplete_since is None
    assert differences(shared_ledger, sqlite) == []


def test_a_job_that_redis_has_forgotten_stays(shared_ledger: Ledger, sqlite: History) -> None:
    made = started(shared_ledger, sqlite)
    job_id = kit.finished(shared_ledger)
    catch_up(made)
    job = shared_ledger.get(job_id)

    shared_ledger.overview.forget(job_id, before=kit.NOW + 1)
    catch_up(made)

    entry = sqlite.get(job_id)
    assert entry is not None
    assert entry.job == job


def test_a_job_that_cannot_be_read_does_not_stop_the_others(
    shared_ledger: Ledger, redis: Redis, sqlite: History
) -> None:
    made = started(shared_ledger, sqlite)
    bad, good = kit.settled(shared_ledger), kit.settled(shared_ledger)
    redis.hset(keys.job(bad), "status", "nonsense")

    catch_up(made)

    assert sqlite.get(bad) is None
    assert sqlite.get(good) is not None


def test_a_killed_recorder_neither_loses_nor_doubles(
    shared_ledger: Ledger, redis_url: str, sqlite: History, tmp_path: Path
) -> None:
    places = {"ORCHESTRATOR_REDIS_URL": redis_url, "ORCHESTRATOR_DATA_DIR": str(tmp_path)}
    env = {**os.environ, **places}
    ids = [kit.create(shared_ledger, kit.NOTIFYING) for _ in range(6)]
    run = random_run(shared_ledger, ids, seed=11, steps=40)

    for number in range(2):
        process = fork_server.start(["-m", "orchestrator", "recorder"], environment=env)
        run()
        target = kit.settled(shared_ledger)
        eventually(lambda: run() or _knows(sqlite, target), within=120)  # noqa: B023
        process.kill() if number < 1 else process.terminate()
        process.wait()
    assert process.returncode == 0, "SIGTERM ends it"

    last = recorder(shared_ledger, sqlite)
    eventually(lambda: last.record() or not differences(shared_ledger, sqlite))


def _knows(history: History, job_id: str) -> bool:
    try:
        return history.get(job_id) is not None
    except HistoryUnavailable:
        return False


def test_without_a_recorder_there_is_no_history(sqlite: History, tmp_path: Path) -> None:
    with pytest.raises(NoHistory):
        sqlite.positions()
    assert list(tmp_path.iterdir()) == []


def test_only_its_user_can_read_the_file(shared_ledger: Ledger, sqlite: History) -> None:
    before = os.umask(0)
    try:
        started(shared_ledger, sqlite)
    finally:
        os.umask(before)
    folder = Path(sqlite.database.place).parent

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_an_error_of_the_database_shows_no_prompt(
    shared_ledger: Ledger, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = started(shared_ledger, history)
    kit.settled(shared_ledger)
    row = Entry.row
    monkeypatch.setattr(Entry, "row", lambda self: {**row(self), "attempts": None})

    with pytest.raises(HistoryUnavailable) as refused:
        made.record()

    assert "red cube" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_database_that_was_replaced_by_none_is_made_and_filled_again(
    shared_ledger: Ledger, sqlite: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(recorder_module, "PASS_SECONDS", 0.01)
    monkeypatch.setattr("orchestrator.history.database.PAUSE_SECONDS", 0.0)
    job_id = kit.settled(shared_ledger)
    stopping = threading.Event()
    running = Recorder(shared_ledger, sqlite, Clock())
    thread = threading.Thread(target=running.run, args=(stopping,))
    thread.start()
    eventually(lambda: _knows(sqlite, job_id))

    for file in Path(sqlite.place).parent.iterdir():
        file.unlink()

    eventually(lambda: Path(sqlite.place).exists() and _knows(sqlite, job_id))
    stopping.set()
    thread.join()
