"""What `get`, `list` and `stats` say of images: archived, not yet, and never."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator import runtime as runtime_module
from orchestrator.cli import main
from orchestrator.stats import stats
from tests import lives
from tests.archive import kit
from tests.archive.kit import Gallery, archived, picture
from tests.fakes import PUBLIC_URL, Answer, World


@pytest.fixture
def world(start: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world that commands find."""
    made = kit.world(start, tmp_path)
    monkeypatch.setattr(runtime_module, "default", lambda: made.runtime)
    return made


def cli(*arguments: str) -> str:
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 0, told.output
    return told.stdout


def images(output: str) -> list[str]:
    """The lines about images."""
    return [line.strip() for line in output.splitlines() if line.startswith("  image")]


def test_get_shows_our_copy_once_there_is_one_and_else_the_providers_link(world: World) -> None:
    gallery = Gallery(world)
    job_id = gallery.job(picture(), Answer(404))
    [first, second] = [image.source_url for image in world.job(job_id).images]
    ours = f"{PUBLIC_URL}/v1/jobs/{job_id}/images/0"

    assert images(cli("get", job_id)) == [f"image  {first}", f"image  {second}"]
    archived(world, job_id)
    shown = cli("get", job_id)
    assert images(shown) == [
        f"image  {ours}  96x64 image/png",
        f"image  {second}  (not archived: it answered 404)",
    ]
    assert "archive_failed try=1  reason=it answered 404" in shown


def test_get_and_list_speak_json(world: World) -> None:
    job_id = archived(world, Gallery(world).job(picture(), Answer(404), expires=[0, 0]))

    for told in (json.loads(cli("get", job_id, "--json")), json.loads(cli("list", "--json"))):
        job = told["jobs"][0] if "jobs" in told else told
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


def test_list_shows_a_job_whose_images_are_lost_as_succeeded(world: World) -> None:
    job_id = archived(world, Gallery(world).job(Answer(404), expires=[0]))

    [line] = [line for line in cli("list").splitlines() if job_id in line]
    assert "succeeded" in line


def test_stats_shows_what_is_to_be_archived_and_at_risk(world: World) -> None:
    gallery, hour = Gallery(world), 3_600_000
    archived(world, gallery.job(picture()))
    archived(world, gallery.job(Answer(404), expires=[0]))
    gallery.job(picture(), expires=[hour])
    gallery.job(picture(), expires=[12 * hour])

    assert (
        "\narchives: 2 to do, 1 with links that may die within 6 h; 1 archived, 1 given up\n"
    ) in cli("stats")
    assert json.loads(cli("stats", "--json")) == json.loads(json.dumps(stats(world.runtime)))


def test_stats_shows_who_is_told_and_which_hosts_are_paused(world: World) -> None:
    for _ in range(12):
        world.ledger.hosts.failed("down.example", now=world.clock.now)
        world.clock.forward(10)
    lives.ended(world, lives.failure(), notify_stream="told")

    shown = cli("stats")

    assert (
        "\ncallers: 1 to tell, 0 given up (orchestrator notify --dead); 0 told, 0 left\n" in shown
    )
    assert "\npaused: down.example, failing since 2026-11-30T00:53:20.000Z\n" in shown
