"""docs/notifications.md against the code: its tables, its example and its snippets."""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any

import orjson
import pytest

from orchestrator.cli.follow_ups import notify
from orchestrator.delivery import schedule, targets
from orchestrator.delivery.schedule import SCHEDULE, wait_after
from orchestrator.host_limiter import MAX_WAIT_SECONDS, PAUSED_WAIT_PROBES, SLOTS_PER_HOST
from orchestrator.job_check import REQUEST_SCHEMA
from orchestrator.jobs.answer_schemas import (
    AttemptSchema,
    CostSchema,
    FollowUpSchema,
    ImageSchema,
    JobSchema,
    NotificationSchema,
)
from orchestrator.jobs.model import TERMINAL, FollowUpStatus
from orchestrator.ledger import circuit_breaker
from orchestrator.ledger.follow_ups import STREAM_ENTRIES
from orchestrator.net.http_types import MAX_RETRY_AFTER_SECONDS
from orchestrator.place_shares import (
    BUSY_WAIT_SECONDS,
    DOMAIN_SHARE,
    MAX_QUEUE_WAIT_SECONDS,
    TENANT_SHARE,
)
from orchestrator.security import standard_webhooks
from orchestrator.security.secret import Secret
from orchestrator.settings.settings import DEFAULT_NOTIFY_THREADS
from orchestrator.steps import delivery as delivery_step
from tests.docs.pages import DocPage, code, numbers, seconds
from tests.support.cases import for_each
from tests.support.notify_kit import OLD_SECRET, SECRET

PAGE = DocPage("docs/notifications.md")


# Limits --------------------------------------------------------------------------------------


def test_the_schedule_is_that_of_the_code() -> None:
    rows = PAGE.rows("try")

    assert [int(row[0]) for row in rows] == list(range(1, len(SCHEDULE) + 1))
    waits = [0.0 if row[1] == "0" else seconds(row[1])[0] for row in rows]
    assert waits == list(SCHEDULE)
    assert wait_after(len(rows), None, lambda: 0.0) is None


PROBES_SECONDS = circuit_breaker.PROBE_INTERVAL_MS / 1000


@for_each(
    ("limit", "values"),
    [
        ("time for the whole answer", [targets.TIMEOUT_SECONDS]),
        ("longest `Retry-After`", [MAX_RETRY_AFTER_SECONDS]),
        ("longest expected wait for its turn at a host, a domain or a tenant", [MAX_WAIT_SECONDS]),
        ("wait in the ledger when its turn comes later", [*BUSY_WAIT_SECONDS]),
        (
            "longest such wait when many notifications wait for it",
            [BUSY_WAIT_SECONDS[0] + MAX_QUEUE_WAIT_SECONDS],
        ),
        ("shortest time over which they happen", [circuit_breaker.MIN_FAILING_MS / 1000]),
        ("time between probes of a paused host", [PROBES_SECONDS]),
        (
            "wait of a notification for a paused host",
            [PROBES_SECONDS * wait for wait in PAUSED_WAIT_PROBES],
        ),
        ("lease of a worker on a notification", [delivery_step.LEASE_MS / 1000]),
    ],
)
def test_the_times_are_those_of_the_code(limit: str, values: list[float]) -> None:
    assert seconds(PAGE.value("limit", limit)) == values


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("deliveries of one worker process to one host at once", SLOTS_PER_HOST),
        ("deliveries of one worker process at once", DEFAULT_NOTIFY_THREADS),
        ("failures in a row that pause a host", circuit_breaker.FAILURES_TO_OPEN),
    ],
)
def test_the_numbers_are_those_of_the_code(limit: str, value: int) -> None:
    assert numbers(PAGE.value("limit", limit)) == [value]


@pytest.mark.parametrize(
    ("limit", "share"),
    [
        ("largest part of these for one registered domain", DOMAIN_SHARE),
        ("largest part of these for one tenant", TENANT_SHARE),
    ],
)
def test_the_parts_of_threads_are_those_of_the_code(limit: str, share: int) -> None:
    assert PAGE.value("limit", limit) == f"{share}/{share + 1}"


def test_a_notification_to_a_paused_host_is_dead_after_the_time_of_the_schedule() -> None:
    limit = PAGE.value("limit", "time after which a notification to a paused host is dead")
    assert seconds(limit) == [pytest.approx(schedule.LONGEST_PAUSE_SECONDS, rel=0.001)]


def test_a_stream_keeps_the_number_of_entries_that_the_page_names() -> None:
    assert f"{STREAM_ENTRIES:,}" in PAGE.text


# Tables and names ----------------------------------------------------------------------------


def test_every_state_and_every_type_is_listed() -> None:
    known = set(FollowUpStatus) - {FollowUpStatus.OFF}  # a notification is never switched off
    assert set(PAGE.column("status")) == known
    types = [*(f"job.{status}" for status in TERMINAL), "job.late_result"]
    assert sorted(code(PAGE.value("field", "`type`"))) == sorted(types)


def test_every_field_of_the_request_is_listed() -> None:
    fields = {name for name in REQUEST_SCHEMA.fields if name.startswith("notify_")}

    assert {name for name in PAGE.column("field") if name.startswith("notify_")} == fields - {
        "notify_queue"
    }
    assert f"the default is `{targets.DEFAULT_QUEUE}`" in PAGE.text


def test_every_option_of_the_command_exists() -> None:
    options = {name for option in notify.params for name in option.opts}
    lines = [line for block in PAGE.blocks("sh") for line in block.splitlines()]
    used = {
        word
        for line in lines
        if line.startswith("orchestrator notify")
        for word in line.partition("#")[0].split()
        if word.startswith("--")
    }

    assert used
    assert used <= options


# The example ---------------------------------------------------------------------------------


def test_the_example_has_the_fields_of_the_schemas() -> None:
    [shown] = map(orjson.loads, PAGE.blocks("json"))

    assert list(shown) == ["type", "timestamp", "data"]
    data = shown["data"]
    assert set(data) == set(JobSchema().fields)
    assert set(data["notification"]) == set(NotificationSchema().fields)
    assert set(data["archive"]) == set(FollowUpSchema().fields)
    assert set(data["images"][0]) == set(ImageSchema().fields)
    assert set(data["attempts"][0]) == set(AttemptSchema().fields)
    assert set(data["cost"]) == set(CostSchema().fields)
    assert shown["type"] == f"job.{data['status']}"
    assert f"webhook-id: msg_{data['id']}\n" in PAGE.text


def test_the_example_has_the_headers_of_a_delivery() -> None:
    [head] = PAGE.blocks("http")

    names = [line.partition(":")[0] for line in head.splitlines()[1:] if ":" in line]

    assert set(signed()) <= set(names)
    assert set(names) - set(signed()) == {"Host", "Content-Type", "User-Agent"}


# The snippets --------------------------------------------------------------------------------

BODY = b'{"type":"job.succeeded","timestamp":"2026-11-30T00:53:26Z","data":{"id":"job_1"}}'


def signed(body: bytes = BODY, *, age: int = 0, message_id: str = "msg_job_1") -> dict[str, str]:
    """Return the headers of a message while secrets are rotated."""
    secrets = (Secret(SECRET), Secret(OLD_SECRET))
    return standard_webhooks.headers(secrets, message_id, int(time()) - age, body)


def snippet(words: str) -> dict[str, Any]:
    """Run the one snippet with these words, and return its names."""
    made: dict[str, Any] = {"__name__": "snippet"}
    exec(PAGE.block("python", words), made)
    return made


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET], ids=["new", "old"])
def test_verifying_by_hand_works(secret: str) -> None:
    is_genuine: Callable[[dict[str, str], bytes, str], bool] = snippet("def is_genuine")[
        "is_genuine"
    ]

    assert is_genuine(signed(), BODY, secret)
    assert not is_genuine(signed(), BODY + b" ", secret)
    assert not is_genuine(signed(age=400), BODY, secret)
    assert not is_genuine(signed(age=-400), BODY, secret)
    assert not is_genuine({**signed(), "webhook-id": "msg_job_2"}, BODY, secret)
    assert not is_genuine({**signed(), "webhook-signature": "v1,\u00e9 nonsense"}, BODY, secret)


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET], ids=["new", "old"])
def test_the_receiver_works(
    secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOTIFY_SECRET", secret)
    client = snippet("Flask(__name__)")["app"].test_client()

    def status_of(headers: dict[str, str], body: bytes = BODY) -> int:
        status: int = client.post("/hooks/images", data=body, headers=headers).status_code
        return status

    assert [status_of(signed()) for _ in range(3)] == [204] * 3
    assert capsys.readouterr().out == "job.succeeded job_1\n"
    for other in (b'{"type":"test","data":{"tenant":"shop"}}', b'{"type":"later","data":{}}'):
        assert status_of(signed(other, message_id=f"msg_{len(other)}"), other) == 204
    assert capsys.readouterr().out == ""
    assert status_of(signed(), BODY.replace(b"job_1", b"job_2")) == 401
    assert status_of(signed(age=400)) == 401
    assert status_of({}) == 401
    for nonsense in ("v1", "v1,!", "v1,A", ""):
        assert status_of({**signed(), "webhook-signature": nonsense}) == 401
    assert status_of(signed(b"\xff"), b"\xff") == 401
    assert capsys.readouterr().out == ""


def test_the_celery_task_of_the_page_has_one_argument() -> None:
    text = PAGE.block("python", "@app.task")

    assert 'name="shop.image_job_ended"' in text
    assert "def image_job_ended(message)" in text
