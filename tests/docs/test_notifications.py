"""docs/notifications.md against the code: its figures, its tables, its example and its snippets."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import orjson
import pytest

from orchestrator.api import actions
from orchestrator.cli.follow_ups import notify
from orchestrator.delivery import schedule, targets
from orchestrator.delivery.schedule import SCHEDULE, wait_after
from orchestrator.host_limiter import BUSY, PAUSED, SLOTS
from orchestrator.jobs.model import TERMINAL, FollowUpStatus
from orchestrator.jobs.schemas import (
    AttemptSchema,
    CostSchema,
    FollowUpSchema,
    ImageSchema,
    JobSchema,
    NotificationSchema,
)
from orchestrator.ledger import circuit_breaker as ledger_hosts
from orchestrator.ledger.follow_ups import STREAM_KEPT
from orchestrator.net.http_types import MAX_RETRY_AFTER_SECONDS
from orchestrator.security import standard_webhooks
from orchestrator.security.secret import Secret
from orchestrator.settings.settings import VARIABLES
from orchestrator.steps import notify
from tests.support.notify_kit import OLD_SECRET, SECRET
from workers.app import MESSENGERS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "notifications.md").read_text("utf-8")
WORDS = " ".join(PAGE.split())
UNITS = {"": 1, "s": 1, "min": 60, "h": 3600}


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE)


def first_column(header: str) -> list[str]:
    """The first cells of the table that begins with this header."""
    table = PAGE[PAGE.index(f"| {header} |") :].split("\n\n", maxsplit=1)[0]
    return [row.split(" | ")[0].removeprefix("| ").strip("`") for row in table.splitlines()[2:]]


# Figures -------------------------------------------------------------------------------------


def test_the_schedule_is_the_codes() -> None:
    rows = re.findall(r"(?m)^\| (\d+) \| (\d+) ?(s|min|h|) \|$", PAGE)

    assert [int(number) for number, _, _ in rows] == list(range(1, len(SCHEDULE) + 1))
    assert [int(wait) * UNITS[unit] for _, wait, unit in rows] == list(SCHEDULE)
    assert wait_after(len(rows), None, lambda: 0.0) is None


@pytest.mark.parametrize(
    "said",
    [
        f"There are {targets.TIMEOUT:.0f} seconds for the whole answer",
        f"none in {targets.TIMEOUT:.0f} s",
        f"takes {targets.TIMEOUT:.0f} seconds for each",
        f"up to {schedule.JITTER * 100:.0f} % longer",
        f"at most {SLOTS} notifications under way to one host, out of {MESSENGERS} in all",
        f"after {BUSY[0]:.0f} to {BUSY[1]:.0f} seconds",
        f"{ledger_hosts.FAILURES_TO_OPEN} times in a row, over at least {ledger_hosts.MIN_FAILING_MS // 1000} seconds",
        f"after {PAUSED[0]:.0f} to {PAUSED[1]:.0f} minutes",
        f"Once in {ledger_hosts.PROBE_INTERVAL_MS // 1000} seconds one of them is sent",
        f"the schedule, {schedule.PATIENCE / 3600:.1f} hours",
        f"has it for {notify.LEASE // 1000} seconds",
        f"its newest {STREAM_KEPT:,} entries",
        f"`{targets.QUEUE}` unless it is given",
    ],
)
def test_it_tells_the_figures_of_the_code(said: str) -> None:
    assert said in WORDS


def test_probes_are_a_minute_apart_as_the_waits_are_told_in_minutes() -> None:
    assert ledger_hosts.PROBE_INTERVAL_MS == 60_000


def test_a_retry_after_counts_for_an_hour() -> None:
    assert MAX_RETRY_AFTER_SECONDS == 3600
    assert "(seconds or a date, an hour at most)" in PAGE


# Tables and names ----------------------------------------------------------------------------


def test_it_lists_every_state_and_every_type() -> None:
    assert sorted(first_column("status")) == sorted(FollowUpStatus)
    listed = re.findall(r"`(job\.\w+)`", PAGE)
    assert sorted(set(listed)) == sorted(f"job.{status}" for status in TERMINAL)


def test_it_lists_every_field_of_the_request() -> None:
    fields = [name for name in REQUEST_SCHEMA.fields if name.startswith("notify_")]

    assert set(first_column("field")) | {"notify_queue"} == set(fields)
    assert "`notify_queue` is" in PAGE


def test_every_variable_and_option_is_there() -> None:
    named = set(re.findall(r"\bORCHESTRATOR_[A-Z_]+\b", PAGE))
    options = {name for option in notify.params for name in option.opts}

    assert named <= VARIABLES
    assert set(re.findall(r"(?m)^orchestrator notify .*?(--\w+)", PAGE)) <= options
    assert "/<job_id>/notify" in Path(actions.__file__).read_text("utf-8")


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^):]+)\)", WORDS)
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        page = (DOCS / path).read_text("utf-8") if path else PAGE
        titles = re.findall(r"(?m)^#+ (.+)$", page)
        assert anchor in {
            re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles
        }


# The example ---------------------------------------------------------------------------------


def test_the_example_has_the_fields_of_the_schemas() -> None:
    [shown] = map(orjson.loads, blocks("json"))

    assert list(shown) == ["type", "timestamp", "data"]
    data = shown["data"]
    assert set(data) == set(JobSchema().fields)
    assert set(data["notification"]) == set(NotificationSchema().fields)
    assert set(data["archive"]) == set(FollowUpSchema().fields)
    assert set(data["images"][0]) == set(ImageSchema().fields)
    assert set(data["attempts"][0]) == set(AttemptSchema().fields)
    assert set(data["cost"]) == set(CostSchema().fields)
    assert shown["type"] == f"job.{data['status']}"
    assert f"webhook-id: msg_{data['id']}\n" in PAGE


def test_the_example_has_the_headers_of_a_delivery() -> None:
    [head] = blocks("http")

    names = re.findall(r"(?m)^([\w-]+):", head)

    assert set(signed()) <= set(names)
    assert set(names) - set(signed()) == {"Host", "Content-Type", "User-Agent"}


# The snippets --------------------------------------------------------------------------------

BODY = b'{"type":"job.succeeded","timestamp":"2026-11-30T00:53:26Z","data":{"id":"job_1"}}'


def signed(body: bytes = BODY, *, age: int = 0, message_id: str = "msg_job_1") -> dict[str, str]:
    """Headers as while secrets are exchanged."""
    secrets = (Secret(SECRET), Secret(OLD_SECRET))
    return standard_webhooks.headers(secrets, message_id, int(time()) - age, body)


def snippet(words: str) -> dict[str, Any]:
    """What the one snippet with these words makes."""
    [text] = [block for block in blocks("python") if words in block]
    made: dict[str, Any] = {"__name__": "snippet"}
    exec(text, made)  # it is ours
    return made


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET], ids=["new", "old"])
def test_verifying_by_hand_works(secret: str) -> None:
    is_ours: Callable[[dict[str, str], bytes, str], bool] = snippet("def is_ours")["is_ours"]

    assert is_ours(signed(), BODY, secret)
    assert not is_ours(signed(), BODY + b" ", secret)
    assert not is_ours(signed(age=400), BODY, secret)
    assert not is_ours(signed(age=-400), BODY, secret)
    assert not is_ours({**signed(), "webhook-id": "msg_job_2"}, BODY, secret)
    assert not is_ours({**signed(), "webhook-signature": "v1,\u00e9 nonsense"}, BODY, secret)


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET], ids=["new", "old"])
def test_the_receiver_works(
    secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOTIFY_SECRET", secret)
    client = snippet("Flask(__name__)")["app"].test_client()

    def told(headers: dict[str, str], body: bytes = BODY) -> int:
        status: int = client.post("/hooks/images", data=body, headers=headers).status_code
        return status

    assert [told(signed()) for _ in range(3)] == [204] * 3
    assert capsys.readouterr().out == "job.succeeded job_1\n"
    assert told(signed(), BODY.replace(b"job_1", b"job_2")) == 401
    assert told(signed(age=400)) == 401
    assert told({}) == 401
    for nonsense in ("v1", "v1,!", "v1,A", ""):
        assert told({**signed(), "webhook-signature": nonsense}) == 401
    assert told(signed(b"\xff"), b"\xff") == 401
    assert capsys.readouterr().out == ""


def test_the_celery_task_of_the_page_has_one_argument() -> None:
    [text] = [block for block in blocks("python") if "@app.task" in block]

    assert 'name="shop.told"' in text
    assert "def told(message)" in text
