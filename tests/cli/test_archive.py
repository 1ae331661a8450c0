"""What `get`, `list` and `stats` say of images: archived, not yet, and never."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.enqueuing import EnqueueResult
from orchestrator.jobs.model import Image, Outcome
from orchestrator.jsonio import rfc3339
from orchestrator.operations.stats import stats
from tests.support import archive_kit, job_states
from tests.support.archive_kit import Gallery, archived, ended, picture
from tests.support.fakes import PUBLIC_URL, Answer, Harness


@pytest.fixture
def harness(start: Callable[..., Harness], tmp_path: Path) -> Harness:
    return archive_kit.harness(start, tmp_path)


def cli(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def images(output: str) -> list[str]:
    """The lines about images."""
    return [line.strip() for line in output.splitlines() if line.startswith("  image")]


@pytest.mark.parametrize(
    "command",
    [["get"], ["watch"], ["enqueue", "--wait", "--provider", "hiapi", "--model", "Nano-Banana-2"]],
    ids=lambda command: command[0],
)
def test_every_command_shows_our_links_unless_there_will_be_no_copy(
    command: list[str], harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery(harness)
    job_id = gallery.job(picture(), Answer(404))
    ours = f"{PUBLIC_URL}/v1/jobs/{job_id}/images"
    if command[0] == "enqueue":  # the call returns the job, as a repeated call with its key does
        result = EnqueueResult(harness.job(job_id), replayed=True)
        monkeypatch.setattr("orchestrator.cli.jobs.create_job", lambda *_, **__: result)
    else:
        command = [*command, job_id]

    assert images(cli(*command)) == [
        f"image  {ours}/0  (not archived yet)",
        f"image  {ours}/1  (not archived yet)",
    ]
    archived(harness, job_id)
    assert images(cli(*command)) == [
        f"image  {ours}/0  96x64 image/png",
        f"image  {ours}/1  (not archived yet: it answered 404)",
    ]
    assert "archive_failed try=1  reason=it answered 404" in cli("get", job_id)


def test_get_shows_the_link_of_the_provider_once_there_will_be_no_copy(harness: Harness) -> None:
    lost = Image("https://provider.example/1.png", error="it answered 404", given_up=True)
    job_id = ended(harness, job_states.ended(harness, Outcome.succeeded((lost,))))

    assert images(cli("get", job_id)) == [
        "image  https://provider.example/1.png  (not archived: it answered 404)"
    ]


def test_get_shows_why_a_file_is_not_checked(harness: Harness) -> None:
    job_id = archived(harness, Gallery(harness).job(b"<svg xmlns='x'/>", picture(size=(25, 14))))
    ours, reason = f"{PUBLIC_URL}/v1/jobs/{job_id}/images", "a side is shorter than 64"

    assert images(cli("get", job_id)) == [
        f"image  {ours}/0  image/svg+xml  "
        "(not checked: not a PNG, JPEG, WebP, GIF or AVIF image: SVG)",
        f"image  {ours}/1  25x14 image/png  (not checked: too small: 25 x 14 pixels, {reason})",
    ]


def test_get_and_list_speak_json(harness: Harness) -> None:
    job_id = ended(harness, Gallery(harness).job(picture(), Answer(404), expires=[0, 0]))
    tries = archive_kit.state(harness, job_id).tries

    for result in (json.loads(cli("get", job_id, "--json")), json.loads(cli("list", "--json"))):
        job = result["jobs"][0] if "jobs" in result else result
        [kept, lost] = job["images"]
        assert kept["url"] == f"{PUBLIC_URL}/v1/jobs/{job_id}/images/0"
        assert (kept["width"], kept["height"], kept["error"]) == (96, 64, None)
        assert (lost["archived_at"], lost["error"]) == (None, "it answered 404")
        assert job["archive"] == {
            "status": "dead",
            "attempts": tries,
            "last_attempt_at": rfc3339(harness.clock.now),
            "next_attempt_at": None,
            "error": "it answered 404",
        }


def test_list_shows_a_job_whose_images_are_lost_as_succeeded(harness: Harness) -> None:
    job_id = ended(harness, Gallery(harness).job(Answer(404), expires=[0]))

    [line] = [line for line in cli("list").splitlines() if job_id in line]
    assert "succeeded" in line


def test_stats_shows_what_is_to_be_archived_and_at_risk(harness: Harness) -> None:
    gallery, hour = Gallery(harness), 3_600_000
    archived(harness, gallery.job(picture()))
    ended(harness, gallery.job(Answer(404), expires=[0]))
    gallery.job(picture(), expires=[hour])
    gallery.job(picture(), expires=[12 * hour])

    [line] = [line for line in cli("stats").splitlines() if line.startswith("archives: ")]
    assert re.findall("[0-9]+", line) == ["2", "1", "1", "1"]
    assert json.loads(cli("stats", "--json")) == json.loads(json.dumps(stats(harness.runtime)))


def test_images_at_risk_are_listed_with_their_reasons(harness: Harness) -> None:
    gallery, hour = Gallery(harness), 3_600_000
    [soon, late, wrong] = [
        gallery.job(Answer(200, b'{"a": ["[/x]"]}'), picture(), expires=[hour, hour]),
        gallery.job(picture(), expires=[12 * hour]),
        job_states.ended(harness, Outcome.succeeded((Image("ftp://cdn.example/0.png"),))),
    ]
    archived(harness, soon)
    archived(harness, wrong)

    shown = cli("list", "--at-risk")

    assert 'an error page: JSON: {"a": ["[/x]"]}' in shown
    assert "the link is not an http(s) URL" in shown
    assert late not in shown
    assert shown.count(soon) == 1, "its second image has a copy"
    assert "2 jobs in all" in shown
    listed = json.loads(cli("list", "--at-risk", "--json", "--limit", "1"))
    assert (listed["number"], [job["id"] for job in listed["jobs"]]) == (2, [soon])


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
