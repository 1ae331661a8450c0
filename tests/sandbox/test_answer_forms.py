"""The faults that change what a query or a callback says about a task."""

import base64
import gzip
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest

from sandbox.answer_forms import ENVELOPES, ODD_JSON_FORMS, RESULT_FORMS, STATE_FORMS, THIN_FORMS
from tests.sandbox.kit import (
    EMULATED,
    EVERY_PROVIDER,
    HIAPI_SECRET,
    CallbackReceiver,
    MovableClock,
    ReceivedCallback,
    SandboxClient,
    links,
    status,
    wait_until,
)

SUCCESSES = ("success", "completed", "succeeded")


def _ended(client: SandboxClient, provider: str, prompt: str, **options: Any) -> str:
    """Submit, and wait until the task ended without a query. Return its id."""
    task = client.submitted(provider, prompt, **options)
    wait_until(lambda: client.task(task)["status"] == "succeeded")
    return task


def _raw_query(client: SandboxClient, provider: str, task: str) -> bytes:
    return client.get(f"/{provider}{EMULATED[provider].query_path}{task}").content


def _result(provider: str, view: Mapping[str, Any]) -> object:
    """Return the field with the result, or `missing`."""
    (path, *_) = EMULATED[provider].result_fields
    return view.get(path[0], "missing")


# thin_success


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_a_thin_success_has_no_result_for_two_queries(client: SandboxClient, provider: str) -> None:
    task = _ended(client, provider, "x [sandbox: thin_success]")
    views = [client.query(provider, task) for _ in range(4)]

    assert [len(links(view)) for view in views] == [0, 0, 1, 1]
    assert {status(view) in SUCCESSES for view in views} == {True}
    assert client.task(task)["charged"]["refunded"] is False


def test_a_thin_success_can_last_a_time_or_forever(
    client: SandboxClient, clock: MovableClock
) -> None:
    for_a_time = _ended(client, "uniall", "x [sandbox: thin_success=both/60s]")
    forever = _ended(client, "uniall", "x [sandbox: thin_success=both]")
    shown = []
    for clock.ahead in (0.0, 61.0):
        shown += [links(client.query("uniall", task)) for task in (for_a_time, forever)]

    assert [bool(found) for found in shown] == [False, False, True, False]


@pytest.mark.parametrize(
    ("form", "results"),
    [
        ("empty", [[], None, '{"resultUrls":[]}']),
        ("none", [None]),
        ("missing", ["missing"]),
        ("blank", [""]),
    ],
)
def test_a_thin_success_has_each_form(
    client: SandboxClient, form: str, results: list[object]
) -> None:
    assert form in THIN_FORMS
    prompt = f"x [sandbox: thin_success, thin_form={form}]"
    tasks = {name: _ended(client, name, prompt) for name in EVERY_PROVIDER}

    for name, task in tasks.items():
        assert _result(name, client.query(name, task)) in results


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_a_thin_success_can_name_a_reason(client: SandboxClient, provider: str) -> None:
    task = _ended(client, provider, "x [sandbox: thin_success=both, thin_reason]")
    view = client.query(provider, task)
    error = view.get("error") or {"code": view.get("failCode"), "message": view.get("failMsg")}
    failure = EMULATED[provider].failure

    if isinstance(error, str):
        assert error == failure.message
    else:
        assert error == {"code": failure.code, "message": failure.message}
    assert status(view) in SUCCESSES


@pytest.mark.parametrize(
    ("fault", "callbacks", "queried"),
    [
        ("both", [0], 0),
        ("query", [1], 0),
        ("callback", [0], 1),
        ("corrected", [0, 1], 1),
    ],
)
def test_a_thin_success_affects_queries_or_callbacks(
    client: SandboxClient,
    receiver: CallbackReceiver,
    fault: str,
    callbacks: list[int],
    queried: int,
) -> None:
    prompt = f"x [sandbox: thin_success={fault}]"
    task = client.submitted("evolink", prompt, callback=receiver.url())
    received = receiver.wait_for(len(callbacks))
    kinds = [sent["kind"] for sent in client.callbacks(task, len(callbacks))]

    assert [len(links(json.loads(one.body))) for one in received] == callbacks
    assert kinds == ["true", "correction"][: len(callbacks)]
    assert len(links(client.query("evolink", task))) == queried


# result_form, state_form


@pytest.mark.parametrize("form", RESULT_FORMS)
def test_a_result_has_each_form_at_every_provider(client: SandboxClient, form: str) -> None:
    readers: dict[str, Callable[[Any], str]] = {
        "strings": lambda value: value[0],
        "objects": lambda value: value[0]["url"],
        "string": lambda value: value,
        "object": lambda value: value["url"],
        "text": lambda value: json.loads(value)[0],
        "twice": lambda value: json.loads(json.loads(value))["resultUrls"][0],
    }
    for name in EVERY_PROVIDER:
        view = client.run(name, f"x [sandbox: result_form={form}]")
        if form in readers:
            link = readers[form](_result(name, view))
            assert client.fetch(link).headers["Content-Type"] == "image/png"
        elif form == "b64_json":
            value: Any = _result(name, view)
            assert base64.b64decode(value[0]["b64_json"]).startswith(b"\x89PNG")
        else:
            (link,) = links(view)
            kind, _, data = link.partition(",")
            assert kind == "data:image/png;base64"
            assert base64.b64decode(data).startswith(b"\x89PNG")


def test_several_images_keep_their_form(client: SandboxClient) -> None:
    view = client.run("uniall", "x [sandbox: result_form=data_url]", n=2)

    assert len(set(view["metadata"]["result_urls"])) == 2


@pytest.mark.parametrize(
    ("form", "success", "failure"),
    [
        ("upper", "COMPLETED", "FAILED"),
        ("title", "Completed", "Failed"),
        ("blanks", " completed\n", " failed\n"),
        ("synonym", "succeeded", "fail"),
        ("done", "done", "error"),
    ],
)
def test_a_state_has_each_form(
    client: SandboxClient, form: str, success: str, failure: str
) -> None:
    assert form in STATE_FORMS
    succeeded = _ended(client, "evolink", f"x [sandbox: state_form={form}]")
    failed = client.submitted("evolink", f"x [sandbox: state_form={form}, fail]")
    wait_until(lambda: client.task(failed)["status"] == "failed")
    states = [client.query("evolink", task)["status"] for task in (succeeded, failed)]

    assert states == [success, failure]
    assert client.task(succeeded)["provider_status"] == "completed"


# odd_json, envelope


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ("bom", b"\xef\xbb\xbf{"),
        ("surrogate", rb"\ud83d"),
        ("nan", b":NaN,"),
        ("huge_number", b":1e400,"),
        ("long_integer", b"9" * 5000),
        ("control", b"\n\t"),
        ("invalid_utf8", b"\xe9"),
        ("deep", b"[" * 5000),
    ],
)
def test_odd_json_is_in_answers_and_callbacks(
    client: SandboxClient, receiver: CallbackReceiver, form: str, part: bytes
) -> None:
    assert form in ODD_JSON_FORMS
    prompt = f"x [sandbox: odd_json={form}]"
    submitted = client.submit("hiapi", prompt, callback=receiver.url()).content
    (callback,) = receiver.wait_for(1)
    task = client.tasks()[0]["id"]
    bodies = [submitted, callback.body, _raw_query(client, "hiapi", task)]

    assert [part in body for body in bodies] == [True] * 3
    assert [task.encode() in body for body in bodies] == [True] * 3
    assert _is_signed(callback)


def _is_signed(callback: ReceivedCallback) -> bool:
    text = callback.headers["X-HiAPI-Timestamp"].encode() + b"." + callback.body
    digest = hmac.new(HIAPI_SECRET.encode(), text, hashlib.sha256).hexdigest()
    return digest == callback.headers["X-HiAPI-Signature"]


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_a_callback_has_each_envelope_and_its_signature(
    client: SandboxClient, receiver: CallbackReceiver, envelope: str
) -> None:
    readers: dict[str, Callable[[bytes], Any]] = {
        "data": lambda body: json.loads(body)["data"],
        "list": lambda body: json.loads(body)[0],
        "text": lambda body: json.loads(json.loads(body)),
        "form": lambda body: {name: one for name, (one,) in parse_qs(body.decode()).items()},
        "form_data": lambda body: json.loads(parse_qs(body.decode())["data"][0]),
        "gzip": lambda body: json.loads(gzip.decompress(body)),
    }
    prompt = f"x [sandbox: envelope={envelope}]"
    task = client.submitted("hiapi", prompt, callback=receiver.url())
    (callback,) = receiver.wait_for(1)
    view = readers[envelope](callback.body)

    assert (view["taskId"], view["status"]) == (task, "success")
    assert _is_signed(callback)
    is_form = callback.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert is_form is envelope.startswith("form")
    assert (callback.headers.get("Content-Encoding") == "gzip") is (envelope == "gzip")


# query, expire_at


@pytest.mark.parametrize("provider", EVERY_PROVIDER)
def test_a_query_is_refused_a_number_of_times(client: SandboxClient, provider: str) -> None:
    task = client.submitted(provider, "x [sandbox: query=404*2]")
    path = f"/{provider}{EMULATED[provider].query_path}{task}"

    assert [client.get(path).status_code for _ in range(3)] == [404, 404, 200]


def test_a_query_is_refused_after_a_time(client: SandboxClient, clock: MovableClock) -> None:
    task = client.submitted("evolink", "x [sandbox: query=502/60s*1]")
    answers = [client.get(f"/evolink/v1/tasks/{task}")]
    clock.ahead = 61.0
    answers += [client.get(f"/evolink/v1/tasks/{task}") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 502, 200]
    assert answers[1].json()["error"]["type"] == "upstream_error"


@pytest.mark.parametrize(
    ("form", "is_right"),
    [
        ("seconds", lambda value, at: value == 3600),
        ("past", lambda value, at: 0 < value < at),
        ("milliseconds", lambda value, at: value > 1000 * at),
        ("text", lambda value, at: value.endswith("GMT")),
        ("missing", lambda value, at: value is None),
    ],
)
def test_the_time_of_expiry_has_each_form(
    client: SandboxClient, form: str, is_right: Callable[[Any, float], bool]
) -> None:
    view = client.run("hiapi", f"x [sandbox: expire_at={form}]")

    assert is_right(view["output"][0].get("expireAt"), view["completed"])
