"""What the tools make of the answers of the API. tests/system/test_mcp.py has real processes."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from orchestrator.job_check import REQUEST_SCHEMA
from orchestrator.jobs.schemas import ReceiverSchema
from tests.docs.pages import DocPage

#: How long a process may take on a busy machine. Seconds.
WAIT_SECONDS = 60.0
WANTED: dict[str, Any] = {
    "provider": "hiapi",
    "model": "Nano-Banana-2",
    "prompt": "A private fox",
    "key": "fox-1",
}


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `kit`. Calls are repeated without a pause."""
    from tests.mcp_server import kit as module  # noqa: PLC0415  # see there

    monkeypatch.setattr("orchestrator.mcp_server.api_calls.PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("orchestrator.mcp_server.tools.AWAY_SECONDS", 0.0)
    return module


def test_a_lost_answer_is_asked_for_again_with_the_same_key(kit: ModuleType) -> None:
    api = kit.api(kit.LOST, kit.answer(503, {}), kit.answer(202, {**kit.JOB, "status": "queued"}))
    job = api.call("submit_image_job", **WANTED).structured_content

    assert (job["replayed"], job["done"], job["key"]) == (False, False, "fox-1")
    assert [request.headers["Idempotency-Key"] for request in api.requests] == ["fox-1"] * 3
    body = {name: value for name, value in WANTED.items() if name != "key"}
    assert api.bodies() == [body] * 3


@pytest.mark.parametrize("kind", ["lost", "page"])
def test_without_an_answer_the_agent_is_told_to_repeat(
    kit: ModuleType, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    api = kit.api(kit.LOST if kind == "lost" else kit.answer(200, "<html>"))
    text = api.error("submit_image_job", **WANTED)

    assert len(api.requests) == (3 if kind == "lost" else 1)
    assert "again with the same key" in text
    assert kit.KEY not in text + "".join(capfd.readouterr())


def test_what_nobody_expected_is_an_error_without_its_text(
    kit: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    text = kit.api(kit.answer(202, {"prompt": "A private fox"})).error("submit_image_job", **WANTED)

    assert "failed inside of the MCP server" in text
    assert "again with the same key" in text
    assert "private" not in text + "".join(capfd.readouterr())


def test_the_texts_of_errors_in_libraries_are_not_logged(
    kit: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    kit.log_as_the_process()
    try:
        raise ValueError("A private fox")
    except ValueError:
        logging.getLogger("mcp.server").exception("handler for %r raised", "tools/call")
    logged = capfd.readouterr().err

    assert "handler for 'tools/call' raised (ValueError)" in logged
    assert "private" not in logged


def test_a_wait_goes_on_while_the_api_is_away(kit: ModuleType) -> None:
    away = [kit.LOST] * 3 + [kit.answer(503, {})] * 3
    job = kit.api(*away, kit.answer(200, kit.JOB)).call("wait_for_job", job_id="job_1")
    assert job.structured_content["done"]


@pytest.mark.parametrize(("answer", "requests"), [("lost", 3), ("unknown", 1)])
def test_a_wait_ends_with_its_time_or_a_refusal(
    kit: ModuleType, answer: str, requests: int
) -> None:
    api = kit.api(kit.LOST if answer == "lost" else kit.answer(404, {"detail": "no such job"}))
    seconds = 0 if answer == "lost" else 25

    assert api.error("wait_for_job", job_id="job_1", seconds=seconds)
    assert len(api.requests) == requests


def test_a_submission_follows_no_redirect(kit: ModuleType) -> None:
    api = kit.api(kit.answer(301, "", Location="https://images.example.com/v1/jobs"))

    assert "Correct ORCHESTRATOR_MCP_API_URL" in api.error("submit_image_job", **WANTED)
    assert [request.method for request in api.requests] == ["POST"]


@pytest.mark.parametrize("key", ["", " fox", "fox ", "f\nox", "f\u00fcchslein", "k" * 256])
def test_a_key_that_no_header_can_carry_is_refused(kit: ModuleType, key: str) -> None:
    api = kit.api(kit.LOST)

    assert "- key" in api.error("submit_image_job", **{**WANTED, "key": key})
    assert api.requests == []


@pytest.mark.parametrize(
    ("circuit", "submits"),
    [("closed", True), ("half_open", True), ("open", False), ("paused", False), (None, None)],
)
def test_a_provider_submits_unless_its_circuit_is_open_or_paused(
    kit: ModuleType, circuit: str | None, submits: bool | None
) -> None:
    facts = {"title": "HiAPI", "until": None, "takes_unlisted_models": False}
    provider = {"name": "hiapi", "on": True, "circuit": circuit, "families": [], "models": []}
    api = kit.api(kit.answer(200, {"providers": [{**facts, **provider}]}))

    [listed] = api.call("list_models").structured_content["providers"]

    assert listed["submits_now"] is submits


def test_a_page_of_jobs_has_at_most_fifty(kit: ModuleType) -> None:
    api = kit.api(kit.answer(200, {"jobs": [], "next_cursor": None}))
    assert not api.call("list_jobs", limit=50).is_error
    assert "50" in api.error("list_jobs", limit=51)

    assert [request.url.params["limit"] for request in api.requests] == ["50"]


def test_a_cancel_is_not_repeated(kit: ModuleType) -> None:
    api = kit.api(kit.LOST)
    api.error("cancel_job", job_id="job_1")

    assert [request.url.path for request in api.requests] == ["/v1/jobs/job_1/cancel"]


def test_a_limit_says_when_to_try_again(kit: ModuleType) -> None:
    problem = {"type": "urn:orchestrator:problem:tenant-limit", "detail": "full", "retry_after": 5}
    api = kit.api(kit.answer(429, problem, X_Request_ID="req_1"))
    first, _, document = api.error("submit_image_job", **WANTED).partition("{")

    assert "Try the same call again after 5 seconds." in first
    assert json.loads("{" + document) == {**problem, "status": 429, "request_id": "req_1"}
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "errors", ["x", 7, None, {"n": ["too many"]}, ["x"], [{"detail": "x", "pointer": "#/n"}]]
)
def test_a_problem_document_of_another_form_is_shown_all_the_same(
    kit: ModuleType, errors: Any
) -> None:
    """A proxy sends its own."""
    document = {"title": "Not here", "errors": errors}

    text = kit.api(kit.answer(404, document)).error("get_job", job_id="job_1")

    assert text.startswith("The API refused the call (HTTP 404): Not here")


def test_without_links_a_job_is_shown_all_the_same(kit: ModuleType) -> None:
    job = {**kit.JOB, "images": [kit.IMAGE], "late_images": [kit.IMAGE]}
    api = kit.api(kit.answer(200, job), kit.answer(409, {"title": "Conflict"}))
    images = api.call("get_job", job_id="job_1").structured_content["images"]

    shown = [(image["index"], image["late"], image["link"]) for image in images]
    assert shown == [(0, False, None), (1, True, None)]


def test_the_key_is_not_sent_to_the_storage(kit: ModuleType) -> None:
    there = kit.answer(302, "", Location="https://bucket.example.com/thumbnail")
    api = kit.api(there, kit.answer(200, "RIFF", Content_Type="image/webp"))
    api.call("view_image", job_id="job_1")

    sent = [(r.url.host, "Authorization" in r.headers) for r in api.requests]
    assert sent == [("images.example.com", True), ("bucket.example.com", False)]


@pytest.mark.parametrize("job_id", ["../providers?x=1", "..", ".", "", "a/b", "a b", "job_1\n"])
@pytest.mark.parametrize("tool", ["get_job", "wait_for_job", "view_image", "cancel_job"])
def test_a_job_id_cannot_lead_to_another_call(kit: ModuleType, tool: str, job_id: str) -> None:
    api = kit.api(kit.LOST)

    assert "- job_id must be the job_id of submit_image_job" in api.error(tool, job_id=job_id)
    assert api.requests == []


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("deadline_seconds", "NaN"),
        ("deadline_seconds", "Infinity"),
        ("metadata", '{"a": NaN}'),
        ("metadata", r'{"a": "\ud800"}'),
        ("images", r'["\ud800"]'),
        ("provider_options", '{"a":' * 101 + "1" + "}" * 101),
        ("metadata", '{"a":' * 900 + "1" + "}" * 900),
        ("request", '{"a":' * 50_000 + "1" + "}" * 50_000),
    ],
)
def test_a_value_that_no_json_carries_is_refused_by_name(
    kit: ModuleType, argument: str, value: str
) -> None:
    api = kit.api(kit.LOST)
    text = api.error("submit_image_job", **WANTED, **{argument: value})

    assert f"- {argument} must be JSON" in text
    assert "Nothing was bought" in text
    assert api.requests == []


def test_the_known_arguments_are_those_of_the_part_with_the_unknown_one(kit: ModuleType) -> None:
    api = kit.api(kit.LOST)
    fallback = [{"provider": "evolink", "model": "nano-banana-2-lite", "prise": 1}]
    text = api.error("submit_image_job", **WANTED, fallback=fallback)

    assert "- fallback.0.prise is not a known argument; known arguments: provider, model" in text
    assert "prompt" not in text


def test_an_error_does_not_repeat_a_huge_argument(kit: ModuleType) -> None:
    text = kit.api(kit.answer(200, {"providers": []})).error("list_models", provider="x" * 100_000)

    assert "- provider" in text
    assert len(text) < 1000


def test_a_list_of_jobs_leads_to_the_links_and_a_job_without_them_says_so(kit: ModuleType) -> None:
    job = {**kit.JOB, "images": [kit.IMAGE]}
    page = kit.api(kit.answer(200, {"jobs": [job], "next_cursor": None})).call("list_jobs")
    assert "Call get_job" in page.structured_content["jobs"][0]["next_step"]

    no_links = kit.answer(404, {"detail": "there is no public URL"})
    alone = kit.api(kit.answer(200, job), no_links).call("get_job", job_id="job_1")
    assert "There are no links" in alone.structured_content["next_step"]

    link = {"url": "https://images.example.com/images/1", "expires_at": "2026-12-01T00:00:00Z"}
    linked = kit.api(kit.answer(200, job), kit.answer(200, link)).call("get_job", job_id="job_1")
    assert "Give people the link" in linked.structured_content["next_step"]


def test_the_end_of_an_agent_is_no_error() -> None:
    env = {
        **os.environ,
        "ORCHESTRATOR_MCP_API_URL": "https://images.example.com",
        "ORCHESTRATOR_MCP_KEY": "orch_secret-key",
    }
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "orchestrator.mcp_server"],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    process.stdout.close()  # nobody reads the answer that follows
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "agent", "version": "1"},
    }
    call = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    try:
        _, errors = process.communicate(json.dumps(call).encode() + b"\n", timeout=WAIT_SECONDS)
    finally:
        process.kill()

    assert (process.returncode, errors) == (0, b"")


def test_lists_that_were_written_as_text_are_read(kit: ModuleType) -> None:
    api = kit.api(kit.answer(202, {**kit.JOB, "status": "queued"}))
    fallback = [{"provider": "evolink", "model": "nano-banana-2-lite"}]
    api.call("submit_image_job", **WANTED, fallback=json.dumps(fallback))

    assert api.bodies()[0]["fallback"] == fallback


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"status": "running", "settled_at": None}, "wait_for_job"),
        ({"status": "failed", "error": "timeout"}, "submit it again with a new key"),
        ({"status": "failed", "error": "submission_unconfirmed"}, "Ask a person"),
        ({"status": "failed", "error": "content_policy"}, "change the request"),
    ],
)
def test_the_answer_says_what_to_do_next(
    kit: ModuleType, changes: dict[str, Any], step: str
) -> None:
    if code := changes.get("error"):
        retryable = code == "timeout"
        error = {"code": code, "message": "m", "provider_code": None, "retryable": retryable}
        changes = {**changes, "error": error}
    job = kit.api(kit.answer(200, {**kit.JOB, **changes})).call("get_job", job_id="job_1")

    assert step in job.structured_content["next_step"]


def test_the_tools_take_every_field_of_a_request(kit: ModuleType) -> None:
    """An agent waits for a job itself, so it names no receiver of a notification."""
    assert kit.request_fields() == set(REQUEST_SCHEMA.fields) - set(ReceiverSchema().fields)


def test_the_pages_list_the_tools(kit: ModuleType) -> None:
    rows = DocPage("docs/mcp.md").rows("tool")
    [listed] = re.findall(
        r"## Tools for agents.*?: (`.*?)\. The", DocPage("docs/llms.txt").text, re.S
    )

    assert {row[0].strip("`"): row[-1] == "yes" for row in rows} == kit.tools()
    assert re.findall(r"`(\w+)`", listed) == list(kit.tools())
