"""What `get`, `list` and `stats` say of images: archived, not yet, and never."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.operations.stats import stats
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, archived, picture
from tests.support.fakes import PUBLIC_URL, Answer, Harness, use_runtime


@pytest.fixture
def harness(
    start: Callable[..., Harness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Harness:
    """A harness that commands find."""
    made = archive_kit.harness(start, tmp_path)
    use_runtime(monkeypatch, made.runtime)
    return made


def cli(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def images(output: str) -> list[str]:
    """The lines about images."""
    return [line.strip() for line in output.splitlines() if line.startswith("  image")]


def test_get_shows_our_copy_once_there_is_one_and_else_the_providers_link(harness: Harness) -> None:
    gallery = Gallery(harness)
    job_id = gallery.job(picture(), Answer(404))
    [first, second] = [image.source_url for image in harness.job(job_id).images]
    ours = f"{PUBLIC_URL}/v1/jobs/{job_id}/images/0"

    assert images(cli("get", job_id)) == [f"image  {first}", f"image  {second}"]
    archived(harness, job_id)
    shown = cli("get", job_id)
    assert images(shown) == [
        f"image  {ours}  96x64 image/png",
        f"image  {second}  (not archived: it answered 404)",
    ]
    assert "archive_failed try=1  reason=it answered 404" in shown


def test_get_and_list_speak_json(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(picture(), Answer(404), expires=[0, 0]))

    for result in (json.loads(cli("get", job_id, "--json")), json.loads(cli("list", "--json"))):
        job = result["jobs"][0] if "jobs" in result else result
        [kept, lost] = job["images"]
        assert kept["url"] == f"{PUBLIC_URL}/v1/jobs/{job_id}/images/0"
        assert (kept["width"], kept["height"], kept["error"]) == (96, 64, None)
        assert (lost["archived_at"], lost["error"]) == (None, "it answered 404")
        assert job["archive"] == {
            "status": "dead",
            "attempts": 1,
            "last_attempt_at": "2026-11-30T00:53:20.000Z",
            "next_attempt_at": None,
            "error": "it answered 404",
        }


def test_list_shows_a_job_whose_images_are_lost_as_succeeded(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(Answer(404), expires=[0]))

    [line] = [line for line in cli("list").splitlines() if job_id in line]
    assert "succeeded" in line


def test_stats_shows_what_is_to_be_archived_and_at_risk(harness: Harness) -> None:
    gallery, hour = Gallery(harness), 3_600_000
    archived(harness, gallery.job(picture()))
    archived(harness, gallery.job(Answer(404), expires=[0]))
    gallery.job(picture(), expires=[hour])
    gallery.job(picture(), expires=[12 * hour])

    [line] = [line for line in cli("stats").splitlines() if line.startswith("archives: ")]
    assert re.findall("[0-9]+", line) == ["2", "1", "6", "1", "1"]
    assert json.loads(cli("stats", "--json")) == json.loads(json.dumps(stats(harness.runtime)))


def test_stats_shows_who_is_told_and_which_hosts_are_paused(harness: Harness) -> None:
    for _ in range(12):
        harness.ledger.circuit_breaker.failed("down.example", now=harness.clock.now)
        harness.clock.forward(10)
    job_states.ended(harness, job_states.failure(), notify_stream="told")

    shown = cli("stats")

    [line] = [line for line in shown.splitlines() if line.startswith("notifications: ")]
    assert re.findall("[0-9]+", line) == ["1", "0", "0", "0"]
    assert "orchestrator notify --dead" in line
    assert "down.example, failing since 2026-11-30T00:53:20.000Z\n" in shown
