"""What the clients send, what they repeat, and what their errors say."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

import orchestrator_client
from orchestrator_client import AsyncClient, Client
from orchestrator_client.connection import CHUNK_BYTES
from tests.clients.kit import DONE, JOB, KEY, URL, Caller, Script, answer
from tests.support.cases import for_each

AWAY = answer(503, {"type": "urn:orchestrator:problem:ledger-unavailable", "detail": "away"})


@pytest.fixture(params=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest) -> Caller:
    return Caller(asynchronous=request.param == "AsyncClient")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that a client makes. They take no time."""
    taken: list[float] = []

    async def pause(seconds: float) -> None:
        taken.append(seconds)

    monkeypatch.setattr(time, "sleep", taken.append)
    monkeypatch.setattr(asyncio, "sleep", pause)
    return taken


REQUEST: dict[str, Any] = {"provider": "hiapi", "model": "Nano-Banana-2", "prompt": "A fox"}


def test_an_enqueue_is_repeated_with_one_key(call: Caller, pauses: list[float]) -> None:
    script = Script(httpx.ReadTimeout("slow"), AWAY, answer(202, JOB))
    job = call(script, "enqueue", **REQUEST)

    assert (job.id, job.done) == ("job_1", False)
    assert len({request.headers["Idempotency-Key"] for request in script.requests}) == 1
    assert [json.loads(request.content) for request in script.requests] == [REQUEST] * 3
    assert {str(request.url) for request in script.requests} == {f"{URL}/v1/jobs"}
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1.0


def test_each_enqueue_has_a_key_of_its_own_or_that_of_the_caller(call: Caller) -> None:
    script = Script(answer(202, JOB))
    for key in (None, None, "order-4711"):
        call(script, "enqueue", idempotency_key=key, tenant="shop", **REQUEST)

    keys = [request.headers["Idempotency-Key"] for request in script.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "order-4711"
    assert script.requests[0].url.params["tenant"] == "shop"


def test_a_quote_is_repeated_without_a_key(call: Caller) -> None:
    problem = {"type": "t", "title": "t", "status": 429, "detail": "d", "limit": "max_open"}
    script = Script(AWAY, answer(200, {"accepted": False, "problem": problem, "costs": []}))
    quote = call(script, "quote", **REQUEST)

    assert (quote.accepted, quote.problem.limit, quote.costs) == (False, "max_open", ())
    assert {str(request.url) for request in script.requests} == {f"{URL}/v1/jobs/quote"}
    assert all("Idempotency-Key" not in request.headers for request in script.requests)


def test_a_file_is_sent_again_whole(call: Caller, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(b"a cat")
    script = Script(AWAY, answer(202, JOB))
    call(script, "enqueue", image_file=file, **REQUEST)

    for request in script.requests:
        assert b"a cat" in request.content
        assert b'filename="cat.png"' in request.content
        assert json.dumps(REQUEST).encode() in request.content


@pytest.mark.parametrize("failure", [AWAY, httpx.ReadError("reset"), answer(429, {})])
@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_an_action_without_a_key_is_sent_once(
    call: Caller, action: str, failure: httpx.Response | Exception
) -> None:
    script = Script(failure)
    with pytest.raises(orchestrator_client.OrchestratorError):
        call(script, action, "job_1")

    assert len(script.requests) == 1


def test_it_is_repeated_when_it_was_certainly_not_sent(call: Caller) -> None:
    script = Script(httpx.ConnectError("refused"), answer(200, JOB))

    assert call(script, "cancel", "job_1").id == "job_1"
    assert script.requests[1].url.path == "/orchestrator/v1/jobs/job_1/cancel"


def test_repetitions_end(call: Caller) -> None:
    for failure, error in (
        (AWAY, orchestrator_client.ServerError),
        (httpx.ReadTimeout(""), orchestrator_client.ConnectionFailed),
    ):
        script = Script(failure)
        with pytest.raises(error):
            call(script, "get", "job_1")
        assert len(script.requests) == 4


@pytest.mark.parametrize(
    ("header", "least"),
    [
        ("7", 7),
        ("a date", 5),
        ("soon", 0.25),
    ],
)
def test_the_pause_is_at_least_what_the_server_asks_for(
    call: Caller, pauses: list[float], header: str, least: float
) -> None:
    in_a_while = format_datetime(datetime.now(UTC) + timedelta(seconds=50))
    header = in_a_while if header == "a date" else header
    call(Script(answer(429, {}, Retry_After=header), answer(200, JOB)), "get", "job_1")
    assert pauses[0] > least - 0.001


def test_a_long_pause_is_left_to_the_caller(call: Caller, pauses: list[float]) -> None:
    problem = {"type": "urn:orchestrator:problem:tenant-limit", "detail": "full", "limit": "budget"}
    with pytest.raises(orchestrator_client.LimitReached, match="full") as error:
        call(Script(answer(429, problem, Retry_After="3600")), "enqueue", **REQUEST)

    assert (error.value.limit, error.value.retry_after) == ("budget", 3600)
    assert pauses == []


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "InvalidRequest"),
        (401, "AuthenticationFailed"),
        (403, "PermissionDenied"),
        (404, "NotFound"),
        (409, "Conflict"),
        (410, "Gone"),
        (418, "ApiError"),
        (422, "InvalidRequest"),
    ],
)
def test_a_problem_is_a_typed_error(call: Caller, status: int, name: str) -> None:
    problem = {
        "type": "urn:orchestrator:problem:x",
        "title": "No",
        "status": status,
        "detail": "it cannot be",
        "errors": [{"field": "n", "value": "9", "allowed": "1 to 4", "message": "n is 9"}],
    }
    with pytest.raises(orchestrator_client.ApiError, match="it cannot be") as error:
        call(Script(answer(status, problem, X_Request_ID="r1")), "get", "job_1")

    assert type(error.value) is getattr(orchestrator_client, name)
    assert (error.value.status, error.value.request_id) == (status, "r1")
    assert error.value.problem.errors[0].allowed == "1 to 4"


def test_a_used_key_has_an_error_of_its_own(call: Caller) -> None:
    problem = {"type": "urn:orchestrator:problem:idempotency-mismatch", "detail": "other"}
    with pytest.raises(orchestrator_client.IdempotencyMismatch):
        call(Script(answer(422, problem)), "enqueue", **REQUEST)


def test_a_page_of_a_proxy_is_an_error_too(call: Caller) -> None:
    with pytest.raises(orchestrator_client.ServerError, match="Bad Gateway"):
        call(Script(httpx.Response(502, html="<h1>502</h1>")), "get", "job_1")
    for body in (b"<h1>Welcome</h1>", b"[]", b"{}"):
        with pytest.raises(orchestrator_client.UnexpectedAnswer, match="base_url"):
            call(Script(httpx.Response(200, content=body)), "get", "job_1")


@pytest.mark.parametrize(
    "document",
    [
        {"type": 7, "title": None, "detail": ["x"], "errors": "x"},
        {"type": {}, "errors": [{"field": "x"}, "x", None, {"detail": "x", "pointer": "#/n"}]},
        {"errors": {"n": ["too many"]}, "limit": {}, "retry_after": "soon", "status": "400"},
        [],
        "x",
    ],
)
def test_a_problem_document_of_another_form_is_an_error_too(call: Caller, document: Any) -> None:
    """Each service has its own `errors`."""
    with pytest.raises(orchestrator_client.InvalidRequest) as caught:
        call(Script(answer(422, document)), "get", "job_1")

    problem = caught.value.problem
    assert (problem.status, problem.errors, problem.limit) == (422, (), None)
    assert str(caught.value) in ("Unprocessable Entity", "HTTP status 422")


def test_deep_documents_and_far_dates_are_errors_too(call: Caller) -> None:
    deep, far = b"[" * 100_000, {"Retry-After": "Mon, 01 Jan 99999999999999 00:00:00 GMT"}
    with pytest.raises(orchestrator_client.UnexpectedAnswer):
        call(Script(httpx.Response(200, content=deep)), "get", "job_1")
    with pytest.raises(orchestrator_client.NotFound) as caught:
        call(Script(httpx.Response(404, content=deep, headers=far)), "get", "job_1")
    assert caught.value.retry_after is None


def test_a_wait_asks_until_the_outcome_and_survives_an_absent_server(call: Caller) -> None:
    refused = httpx.ConnectError("refused")
    script = Script(answer(200, JOB), *[refused] * 4, answer(200, DONE))
    job = call(script, "wait", "job_1", timeout=60)

    assert job.succeeded
    assert all(0 < float(request.url.params["wait"]) <= 30 for request in script.requests)


def test_a_server_that_answers_a_wait_at_once_is_not_asked_at_once_again(
    call: Caller, pauses: list[float]
) -> None:
    crowded = answer(200, JOB, **{"Retry-After": "7"})

    assert call(Script(answer(200, JOB), crowded, answer(200, DONE)), "wait", "job_1").succeeded

    assert pauses == [1.0, 7.0]


def test_a_wait_without_an_outcome_ends_with_the_job(call: Caller) -> None:
    with pytest.raises(orchestrator_client.WaitTimeout, match="job_1 is queued") as error:
        call(Script(answer(200, JOB)), "wait", "job_1", timeout=0)
    assert error.value.job.status == "queued"


def test_a_list_reads_all_pages(call: Caller) -> None:
    def page(number: int, cursor: str | None) -> httpx.Response:
        return answer(200, {"jobs": [{**JOB, "id": f"job_{number}"}], "next_cursor": cursor})

    script = Script(page(1, "c1"), page(2, "c2"), page(3, None))
    chosen = {
        "metadata": {"sku": "7"},
        "unconfirmed": True,
        "created_after": datetime(2026, 1, 2, tzinfo=UTC),
    }
    jobs = call(script, "list", page_size=1, **chosen)

    assert [job.id for job in jobs] == ["job_1", "job_2", "job_3"]
    assert [request.url.params.get("cursor") for request in script.requests] == [None, "c1", "c2"]
    assert dict(script.requests[0].url.params) == {
        "metadata.sku": "7",
        "unconfirmed": "true",
        "created_after": "2026-01-02T00:00:00.000+00:00",
        "limit": "1",
    }


def test_a_download_that_breaks_is_repeated_and_leaves_no_part(
    call: Caller, tmp_path: Path
) -> None:
    class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"half" * CHUNK_BYTES
            raise httpx.ReadError("reset")

        async def __aiter__(self) -> Any:
            for chunk in self:
                yield chunk

    content = b"an image"
    images = [{"url": "u", "sha256": sha256(content).hexdigest()}]
    job = orchestrator_client.parsing.job({**DONE, "images": images})
    there = answer(302, Location="https://bucket.example/signed")
    script = Script(
        httpx.Response(200, stream=Broken()), there, httpx.Response(200, content=content)
    )
    file = tmp_path / "a.png"

    assert call(script, "download", job, file) == file
    assert file.read_bytes() == content
    assert script.requests[1].headers["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in script.requests[2].headers, "the bucket must not see the key"

    with pytest.raises(orchestrator_client.DownloadFailed):
        call(Script(httpx.Response(200, content=b"another")), "download", job, file)
    with pytest.raises(orchestrator_client.Gone):
        call(Script(answer(410, {})), "download", "job_1", tmp_path / "b.png")
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == content


def test_an_event_loop_does_not_wait_for_the_disk(
    call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops: list[object] = []
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        loops.append(asyncio._get_running_loop())
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setattr(os, "fsync", lambda _: loops.append(asyncio._get_running_loop()))

    file = call(Script(httpx.Response(200, content=b"image")), "download", "job_1", tmp_path / "a")
    call(Script(answer(202, JOB)), "enqueue", image_file=file, provider="hiapi")

    assert loops == [None, None]


def test_nothing_shows_the_key_or_the_prompt(call: Caller) -> None:
    for client in (Client(URL, KEY), AsyncClient(URL, KEY)):
        assert KEY not in repr(client)
        assert URL in repr(client)
    job = call(Script(answer(200, DONE)), "get", "job_1")
    assert "private" not in repr(job)
    assert job.request == {"prompt": "a private prompt"}
    with pytest.raises(orchestrator_client.ConnectionFailed) as error:
        call(Script(httpx.ReadError("reset")), "enqueue", **REQUEST)
    assert error.value.__cause__ is None, "the error of httpx holds the request, with the key"


@for_each(
    ("url", "key"),
    [
        ("images.example.com", KEY),
        ("ftp://images.example.com", KEY),
        ("https://user:password@images.example.com", KEY),
        (URL, ""),
        (URL, "two words"),
        (URL, "kéy"),
    ],
)
def test_a_wrong_address_or_key_is_refused_at_once(url: str, key: str) -> None:
    with pytest.raises(ValueError, match="must") as error:
        Client(url, key)
    assert "password@" not in str(error.value)


@pytest.mark.parametrize("key", ["", " order", "order ", "order\n7", "örder", "k" * 256])
@pytest.mark.parametrize("name", ["enqueue", "batch"])
def test_a_key_that_would_not_be_sent_as_it_is_is_refused(
    call: Caller, name: str, key: str
) -> None:
    script = Script(answer(202, JOB))
    values, named = ([[REQUEST]], {}) if name == "batch" else ([], REQUEST)

    with pytest.raises(ValueError, match="idempotency_key must be"):
        call(script, name, *values, **named, idempotency_key=key)
    assert script.requests == []


@pytest.mark.parametrize("value", ["", ".", "..", None])
@pytest.mark.parametrize(
    "name", ["get", "wait", "cancel", "retry", "get_batch", "wait_batch", "download"]
)
def test_an_id_that_would_lead_to_another_call_is_refused(
    call: Caller, name: str, value: str | None, tmp_path: Path
) -> None:
    script = Script(answer(404))
    if name == "download" and value is None:
        return  # it is no id and no job
    more = [tmp_path / "image.png"] if name == "download" else []

    with pytest.raises(ValueError, match="must be the id"):
        call(script, name, value, *more)
    assert script.requests == []
    assert list(tmp_path.iterdir()) == []
