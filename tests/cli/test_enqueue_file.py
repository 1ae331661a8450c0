"""`orchestrator enqueue --file` and `orchestrator batch`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from orchestrator.cli import batches as command
from orchestrator.cli import main
from orchestrator.jobs.model import Job
from orchestrator.jobs.request import Receiver
from orchestrator.jsonio import dump
from orchestrator.ledger import Ledger, identifiers
from orchestrator.operations.batches import add_jobs, open_batch
from orchestrator.operations.tenants import set_tenant
from orchestrator.steps.batch import batch as batch_step
from tests.ledger.kit import eventually
from tests.support import fork_server
from tests.support.fakes import TENANT, Harness
from tests.support.providers import EXAMPLE_REQUESTS

REQUEST = EXAMPLE_REQUESTS["hiapi"]
COMMAND = str(Path(sys.executable).parent / "orchestrator")


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def written(folder: Path, *requests: Any, name: str = "jobs.jsonl") -> str:
    path = folder / name
    path.write_text("\n".join(map(json.dumps, requests)))
    return str(path)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{**REQUEST, "metadata": {"line": n}} for n in range(1, count + 1)]


def jobs_of(ledger: Ledger) -> list[Job]:
    return list(
        ledger.overview.jobs(ledger.overview.newest(9999, below=identifiers.LAST_ID)).values()
    )


# Files ----------------------------------------------------------------------------------------


def test_each_line_is_a_job_of_one_batch(harness: Harness, tmp_path: Path) -> None:
    shown = run("enqueue", "--file", written(tmp_path, *numbered(3)))

    assert shown.exit_code == 0, shown.output
    [batch_id] = {job.batch for job in jobs_of(harness.ledger)}
    assert shown.stdout == f"{batch_id}\n"
    lines = [job.request.metadata["line"] for job in jobs_of(harness.ledger)]
    assert sorted(lines) == [1, 2, 3]


def test_a_row_of_a_csv_file_is_a_job(harness: Harness, tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_bytes(
        b"\xef\xbb\xbfprompt,n,images,metadata.sku,metadata.shop.id,aspect_ratio\r\n"
        b'"A cube,\r\nred",1,"[""https://a.example/1.png""]",017,x,\r\n'
        b"\r\n"
        b"A ball\r\n"
    )

    shown = run(
        "enqueue", "--file", str(path), "--provider", "hiapi", "--model", REQUEST["model"], "--json"
    )

    assert shown.exit_code == 0, shown.output
    made = {each["line"]: each["id"] for each in json.loads(shown.stdout)["jobs"]}
    assert sorted(made) == [2, 5]
    first, second = (harness.job(made[n]).request for n in (2, 5))
    assert first.options == {
        "prompt": "A cube,\r\nred", "n": 1, "images": ["https://a.example/1.png"]
    }  # fmt: skip
    assert first.metadata == {"sku": "017", "shop": {"id": "x"}}
    assert (second.options, second.metadata) == ({"prompt": "A ball"}, {})


def test_metadata_of_a_row_come_from_all_of_its_columns(harness: Harness, tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text(
        "prompt,metadata.a,metadata,metadata.c.d,metadata.c.e\n"
        'x,1,"{""b"":2,""c"":{""f"":3}}",4,\n'
        "y,,,,5\n"
    )

    shown = run("enqueue", "--file", str(path), "--provider", "hiapi", "--model", "Nano-Banana-2")

    assert shown.exit_code == 0, shown.output
    requests = [job.request for job in jobs_of(harness.ledger)]
    metadata = {each.options["prompt"]: each.metadata for each in requests}
    assert metadata == {"x": {"a": "1", "b": 2, "c": {"d": "4", "f": 3}}, "y": {"c": {"e": "5"}}}


def test_a_long_cell_does_not_end_the_file(harness: Harness, tmp_path: Path) -> None:
    """Python's reader of CSV gives up at 131,072 characters."""
    path = tmp_path / "jobs.csv"
    path.write_text(f"prompt,n\n{'x' * 140_000},1\ny,many\n")

    shown = run("enqueue", "--file", str(path), "--provider", "hiapi", "--model", "Nano-Banana-2")

    assert "line 2: prompt must be" in shown.output
    assert "line 3: n must be JSON" in shown.output


def test_all_lines_are_checked_before_the_first_job(harness: Harness, tmp_path: Path) -> None:
    bad = [{**REQUEST, "n": "many"}] * 23
    path = Path(written(tmp_path, REQUEST, 5, *bad))
    path.write_text(f"{path.read_text()}\n{{")

    shown = run("enqueue", "--file", str(path))

    assert shown.exit_code == 1
    assert f"{path} has 25 bad lines of 26. Nothing was enqueued." in shown.output
    assert "line 2: the line must be a JSON object; got 5" in shown.output
    assert "line 3: n must be a whole number from 1 to 100" in shown.output
    assert "line 22:" not in shown.output
    assert "and 5 more" in shown.output
    assert jobs_of(harness.ledger) == []
    machine = json.loads(run("enqueue", "--file", str(path), "--json").stdout)
    assert [each["line"] for each in machine["problems"]] == list(range(2, 27))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("prompt,aspect_ration\nx,1:1", "line 1: aspect_ration is not a known field; did you mean"),
        ("prompt,prompt\nx,y", 'line 1: prompt must be one column; got "2 columns"'),
        ("prompt\nx,y", "line 2: the line must be at most 1 cells long"),
        ('prompt,n\n"x\ny",one', "line 2: n must be JSON"),
        ('prompt\n"x', "line 2: the line must be CSV"),
        ("prompt,metadata,metadata.a\nx,5,1", "line 2: metadata.a must be left empty"),
        ("prompt,metadata,metadata.a\nx,null,1", "line 2: metadata.a must be left empty"),
        ('prompt,metadata,metadata.a\nx,"[1]",1', "line 2: metadata.a must be left empty"),
        ('prompt,metadata.a,metadata\nx,1,"{""a"":2}"', "line 2: metadata.a must be left empty"),
        ("prompt,metadata.a,metadata.a.b\nx,1,2", "line 2: metadata.a.b must be left empty"),
        ("prompt,metadata.a.b,metadata.a\nx,1,2", "line 2: metadata.a must be left empty"),
        ("", "has no jobs"),
    ],
)
def test_a_bad_csv_file_is_refused(
    harness: Harness, tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text(content)

    shown = run("enqueue", "--file", str(path), "--provider", "hiapi", "--model", "Nano-Banana-2")

    assert shown.exit_code == 1
    assert words in shown.output
    assert jobs_of(harness.ledger) == []


def test_options_that_do_not_fit_are_refused(harness: Harness, tmp_path: Path) -> None:
    other = run("enqueue", "--file", written(tmp_path, REQUEST, name="jobs.txt"))
    image = run("enqueue", "--file", written(tmp_path, REQUEST), "--image-file", "cat.png")
    neither = run("enqueue", "--provider", "hiapi")

    assert ".jsonl" in other.output
    assert "--image-file" in image.output
    assert "Missing option '--model'" in neither.output
    assert {other.exit_code, image.exit_code, neither.exit_code} <= {1, 2}


# Runs that are interrupted --------------------------------------------------------------------


def test_an_interrupted_run_is_completed_by_the_next_one(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "MAX_JOBS", 2)
    path, calls, add = written(tmp_path, *numbered(5)), [0], add_jobs

    def interrupted(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(command, "add_jobs", interrupted)
        first = run("enqueue", "--file", path)
    before = {job.id for job in jobs_of(harness.ledger)}
    second = run("enqueue", "--file", path)
    third = run("enqueue", "--file", path, "--json")

    assert (first.exit_code, second.exit_code, third.exit_code) == (130, 0, 0)
    assert "interrupted: 2 of 5 jobs" in first.output
    assert len(before) == 2
    assert "jobs enqueued: 5 of 5, 2 of them before" in second.output
    made = {each["id"] for each in json.loads(third.stdout)["jobs"]}
    assert made == {job.id for job in jobs_of(harness.ledger)}
    assert before < made
    assert len(made) == 5
    run("enqueue", "--file", path, "--idempotency-key", "once more")
    assert len(jobs_of(harness.ledger)) == 10


def test_a_killed_run_is_completed_by_the_next_one(
    redis_url: str, real_redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process dies in the middle: nobody knows which of its calls arrived."""
    for name in ("REDIS_URL", "BROKER_URL"):
        monkeypatch.setenv(f"ORCHESTRATOR_{name}", redis_url)
    monkeypatch.setenv("HIAPI_API_KEY", "key-of-the-provider")
    ledger, total = Ledger(lambda: real_redis), 1100
    path = written(tmp_path, *numbered(total))
    with Path(os.devnull).open("w") as nothing:
        command = ["-m", "orchestrator", "enqueue", "--file", str(path)]
        first = fork_server.start(command, stdout=nothing, stderr=nothing)
    eventually(ledger.overview.size)
    first.kill()
    first.wait()
    killed_at = ledger.overview.size()

    second = run("enqueue", "--file", path)

    assert second.exit_code == 0, second.output
    assert 0 < killed_at <= total
    lines = sorted(job.request.metadata["line"] for job in jobs_of(ledger))
    assert lines == list(range(1, total + 1))


# Limits ---------------------------------------------------------------------------------------


def test_a_run_waits_for_the_rate_of_its_tenant(harness: Harness, tmp_path: Path) -> None:
    set_tenant(harness.runtime, "shop", {"requests_per_second": "2"}, actor="tests")
    object.__setattr__(harness.runtime, "sleep", harness.clock.forward)

    shown = run("enqueue", "--file", written(tmp_path, *numbered(5)), "--tenant", "shop")

    assert shown.exit_code == 0, shown.output
    assert "jobs enqueued: 5 of 5" in shown.output
    assert len(jobs_of(harness.ledger)) == 5


# Batches --------------------------------------------------------------------------------------


def test_a_batch_is_shown_and_waited_for(harness: Harness, tmp_path: Path) -> None:
    batch_id = run("enqueue", "--file", written(tmp_path, *numbered(2))).stdout.strip()
    shown = run("batch", batch_id)
    assert shown.exit_code == 0
    assert f"{batch_id}  open  2 jobs" in shown.output
    for job in jobs_of(harness.ledger):
        harness.ledger.cancel(job.id, now=harness.clock.now)
    batch_step(harness.runtime, batch_id)

    waited = run("batch", batch_id, "--wait", "--json")

    assert json.loads(waited.stdout)["counts"]["cancelled"] == 2
    assert waited.exit_code == 1, "no job succeeded"
    assert run("list", "--batch", batch_id, "--json").exit_code == 0
    assert "there is no batch" in run("batch", "batch_x").output


def test_the_notification_of_a_batch_is_sent_again(harness: Harness) -> None:
    batch_id = open_batch(
        harness.runtime,
        scope="test",
        tenant=TENANT,
        key=None,
        content="",
        receiver=Receiver(notify_stream="shop"),
    ).id
    early = run("batch", batch_id, "--notify")
    assert (early.exit_code, "it is open" in early.output) == (1, True)
    harness.ledger.batches.seal(batch_id, "", now=harness.clock())
    batch_step(harness.runtime, batch_id)

    again = run("batch", batch_id, "--notify", "--json")

    assert again.exit_code == 0, again.output
    assert json.loads(again.output)["notification"]["status"] == "pending"
    assert run("batch", "batch_x", "--notify").exit_code == 1


# The provider's own body -----------------------------------------------------------------------


def test_the_model_may_stand_in_the_providers_own_body_only(
    harness: Harness, tmp_path: Path
) -> None:
    native, nameless = tmp_path / "native.json", tmp_path / "nameless.json"
    native.write_bytes(dump({"model": "nano-banana-2-lite", "prompt": "A cube"}))
    nameless.write_bytes(dump({"prompt": "A cube"}))

    made = run("enqueue", "--provider", "evolink", "--request", str(native))
    refused = run("enqueue", "--provider", "evolink", "--request", str(nameless))

    assert made.exit_code == 0, made.output
    assert harness.job(made.output.strip()).model == "nano-banana-2-lite"
    assert (refused.exit_code, refused.output) == (2, "Error: model is required\n")


def test_a_piped_prompt_that_is_no_text_is_refused(harness: Harness) -> None:
    words = ["enqueue", "--provider", "hiapi", "--model", "Nano-Banana-2", "--prompt", "-"]

    shown = CliRunner().invoke(main, words, input=b"caf\xe9")

    assert shown.exit_code == 2
    assert shown.output == 'Error: prompt must be utf-8 text; got "byte 0xe9"\n'
