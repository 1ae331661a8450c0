"""Every bad request: the right status, a problem that names field, value and what is allowed, and
nothing stored."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api import MAX_BODY_BYTES
from orchestrator.enqueuing import create_job
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.providers import BUILT_IN
from tests.api.conftest import NATIVE, UNIFIED, Api, Open

ABSENT = object()
#: A fallback of UNIFIED.
TO = {"provider": "evolink", "model": "nano-banana-2-lite"}


def changed(form: Any, **changes: Any) -> dict[str, Any]:
    return {name: v for name, v in {**form, **changes}.items() if v is not ABSENT}


def native(**changes: Any) -> dict[str, Any]:
    return {**NATIVE, "request": changed(NATIVE["request"], **changes)}


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"x": value}
    return value


#: What is wrong -> the request, the field named, the value shown, what is allowed (a part of it).
REFUSED: dict[str, tuple[Any, str, str, str]] = {
    "no object": ([UNIFIED], "body", '"prompt":"A re...', "a JSON object"),
    "a string": ("job", "body", "job", "a JSON object"),
    "null": (b"null", "body", "null", "a JSON object"),
    "nothing": ({}, "provider", "", "given"),
    "no model": (changed(UNIFIED, model=ABSENT), "model", "", "given"),
    "no provider": (changed(UNIFIED, provider=ABSENT), "provider", "", "given"),
    "unknown provider": (changed(UNIFIED, provider="acme"), "provider", "acme", "hiapi, evolink"),
    "provider in capitals": (
        changed(UNIFIED, provider="HiAPI"), "provider", "HiAPI", "hiapi, evolink",
    ),
    "provider a list": (changed(UNIFIED, provider=["hiapi"]), "provider", '["hiapi"]', "one of"),
    "provider null": (changed(UNIFIED, provider=None), "provider", "null", "not null"),
    "unknown model": (changed(UNIFIED, model="dall-e"), "model", "dall-e", "Nano-Banana-2"),
    "model of another provider": (
        changed(UNIFIED, model="nano-banana-2-lite"), "model", "nano-", "HiAPI's models: Nano-Ban",
    ),
    "unknown field": (changed(UNIFIED, promt="x"), "promt", "x", "a known field: "),
    "prompt a number": (changed(UNIFIED, prompt=7), "prompt", "7", "a string of 1 to"),
    "prompt empty": (changed(UNIFIED, prompt=""), "prompt", "", "a string of 1 to"),
    "prompt null": (changed(UNIFIED, prompt=None), "prompt", "null", "not null"),
    "prompt too long": (
        {**NATIVE, "request": {"prompt": "x" * 2001}}, "request.prompt", "(2001 characters)",
        "a string of 1 to 2000 characters",
    ),
    "unknown ratio": (
        changed(UNIFIED, aspect_ratio="7:5"), "aspect_ratio", "7:5", "auto, 1:1, 1:4",
    ),
    "ratio a list": (changed(UNIFIED, aspect_ratio=[16, 9]), "aspect_ratio", "[16,9]", "a string"),
    "unknown resolution": (
        changed(UNIFIED, resolution="8K"), "resolution", "8K", "one of 1K, 2K, 4K",
    ),
    "unknown format": (changed(UNIFIED, output_format="gif"), "output_format", "gif", "png, jpg"),
    "option not taken": (
        {**changed(NATIVE, request=ABSENT), "prompt": "x", "output_format": "png"},
        "output_format", "png", "EvoLink does not accept output_format; it accepts prompt, images",
    ),
    "images a string": (changed(UNIFIED, images="https://e.example/a"), "images", "h", "a list"),
    "image no link": (changed(UNIFIED, images=["nope"]), "images.0", "nope", "http(s) URL"),
    "image null": (changed(UNIFIED, images=[None]), "images.0", "null", "not null"),
    "image ftp": (changed(UNIFIED, images=["ftp://e.example/a"]), "images.0", "ftp", "http(s)"),
    "n zero": (changed(UNIFIED, n=0), "n", "0", "a whole number from 1 to 100"),
    "n two": (changed(UNIFIED, n=2), "n", "2", "1: HiAPI makes one image per task"),
    "n a string": (changed(UNIFIED, n="1"), "n", "1", "a whole number from 1 to 100"),
    "n a fraction": (changed(UNIFIED, n=1.5), "n", "1.5", "a whole number from 1 to 100"),
    "n true": (changed(UNIFIED, n=True), "n", "true", "a whole number from 1 to 100"),
    "n null": (changed(UNIFIED, n=None), "n", "null", "a whole number from 1 to 100"),
    "metadata a list": (changed(UNIFIED, metadata=[1]), "metadata", "[1]", "a JSON object"),
    "metadata null": (changed(UNIFIED, metadata=None), "metadata", "null", "a JSON object"),
    "metadata too large": (
        changed(UNIFIED, metadata={"x": "y" * 16400}), "metadata", '{"x":"yyy', "at most 16384 byt",
    ),
    "metadata too deep": (
        changed(UNIFIED, metadata=nested(33)), "metadata", '{"x":{"x"', "at most 32 levels deep",
    ),
    "deadline zero": (
        changed(UNIFIED, deadline_seconds=0), "deadline_seconds", "0", "from 1 to 604800",
    ),
    "deadline negative": (
        changed(UNIFIED, deadline_seconds=-5), "deadline_seconds", "-5", "from 1 to 604800",
    ),
    "deadline a word": (
        changed(UNIFIED, deadline_seconds="soon"), "deadline_seconds", "soon", "from 1 to 604800",
    ),
    **{
        f"deadline {value!r}": (
            changed(UNIFIED, deadline_seconds=value),
            *("deadline_seconds", str(value).lower(), "a number of seconds from 1 to 604800"),
        )
        for value in ("60", " 60 ", "6e1", True)
    },
    "deadline infinite": (
        changed(UNIFIED, deadline_seconds="inf"), "deadline_seconds", "inf", "from 1 to 604800",
    ),
    "deadline null": (
        changed(UNIFIED, deadline_seconds=None), "deadline_seconds", "null", "from 1 to 604800",
    ),
    "on_unconfirmed": (
        changed(UNIFIED, on_unconfirmed="retry"), "on_unconfirmed", "retry", "fail, resubmit",
    ),
    "fallback unknown": (
        changed(UNIFIED, fallback=[{**TO, "provider": "evolnk"}]),
        "fallback.0.provider", "evolnk", "uniall",
    ),
    "fallback model": (
        changed(UNIFIED, fallback=[{**TO, "model": "x"}]), "fallback.0.model", "x", "nano-banana",
    ),
    "fallback option": (
        changed(UNIFIED, output_format="png", fallback=[TO]),
        "fallback.0.output_format", "png", "EvoLink does not accept output_format",
    ),
    "fallback twice": (
        changed(UNIFIED, fallback=[TO, TO]), "fallback.1.provider", "evolink", "names only once",
    ),
    "fallback with request": (
        {**NATIVE, "fallback": [TO]}, "fallback", "[{", "left out when `request` is given",
    ),
    "fallback without model": (
        changed(UNIFIED, fallback=[{"provider": "evolink"}]), "fallback.0.model", "", "given",
    ),
    "fallback no list": (changed(UNIFIED, fallback=TO), "fallback", "{", "a list of at most 8"),
    "neither form": (
        changed(UNIFIED, prompt=ABSENT), "prompt", "", "given",
    ),
    "both forms": (changed(NATIVE, prompt="x"), "prompt", "x", "left out when `request` is given"),
    "both forms, another option": (
        changed(NATIVE, resolution="2K"), "resolution", "2K", "left out when `request` is given",
    ),
    "native null": (changed(NATIVE, request=None), "request", "null", "a JSON object"),
    "native a list": (changed(NATIVE, request=[]), "request", "[]", "a JSON object"),
    "native too deep": (native(size=nested(40)), "request", '{"model"', "at most 32 levels deep"),
    "native without prompt": (native(prompt=ABSENT), "request.prompt", "", "given"),
    "native with a callback": (
        native(callback_url="https://e.example/x"), "request.callback_url", "https", "known field",
    ),
    "native of another model": (
        native(model="gemini-3-pro-image-preview"), "model", "nano", "the same as in `request`",
    ),
    "native with an odd model": (native(model=["x"]), "model", "nano", "the same as in `request`"),
    "native with a unified name": (
        native(aspect_ratio="1:1"), "request.aspect_ratio", "1:1", "a known field: ",
    ),
}  # fmt: skip


def test_a_bad_request_is_422_naming_field_value_and_what_is_allowed(api: Api) -> None:
    for wrong, (body, field, value, allowed) in REFUSED.items():
        response = api.create(body)

        shown = (response.status_code, response.mimetype)
        assert shown == (422, "application/problem+json"), wrong
        assert response.json is not None
        errors = [error for error in response.json["errors"] if error["field"] == field]
        assert errors, response.json
        assert value in errors[0]["value"]
        assert allowed in errors[0]["allowed"]
        assert field in response.json["detail"]
        assert api.harness.redis.keys() == []
        assert api.harness.nudges.sent == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"provider=hiapi&prompt=x",
        b'{"prompt": NaN}',
        b'{"prompt": 1' + b"0" * 400 + b"}",
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\xff"}',
        b'{"model": "cheap", "model": "dear"}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"metadata":' + b'{"x":' * 3000 + b"1" + b"}" * 3000 + b"}",
    ],
    ids=lambda body: repr(body[:16]),
)
def test_a_body_that_is_no_json_is_400_and_stores_nothing(api: Api, body: bytes) -> None:
    response = api.create(body)

    assert (response.status_code, response.mimetype) == (400, "application/problem+json")
    assert response.json is not None
    assert "not JSON" in response.json["detail"]
    assert api.harness.redis.keys() == []


@pytest.mark.parametrize("field", ["provider", "prompt", "images", "n", "metadata", "unknown"])
@pytest.mark.parametrize("levels", [200, 1000])
def test_absurd_nesting_in_any_field_is_refused_and_stores_nothing(
    api: Api, field: str, levels: int
) -> None:
    deep = b"[" * levels + b"]" * levels
    fields = {"provider": b'"hiapi"', "model": b'"Nano-Banana-2"', "prompt": b'"x"'}
    fields[field] = deep if field != "metadata" else b'{"x":%s}' % deep
    named = (b'"%s":%s' % (name.encode(), value) for name, value in fields.items())

    response = api.create(b"{%s}" % b",".join(named))

    assert response.status_code == 422
    assert response.json is not None
    assert any(error["field"].startswith(field) for error in response.json["errors"])
    assert api.harness.redis.keys() == []


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/mixed", "text/plain", "", "odd"]
)
def test_another_content_type_is_415(api: Api, kind: str) -> None:
    response = api.post("/v1/jobs", data=b'{"provider":"hiapi"}', content_type=kind)

    assert (response.status_code, response.mimetype) == (415, "application/problem+json")
    assert response.json is not None
    assert "application/json" in response.json["detail"]
    assert api.harness.redis.keys() == []


def test_a_charset_beside_the_content_type_does_not_matter(api: Api) -> None:
    body = b'{"provider":"hiapi","model":"Nano-Banana-2","prompt":"x"}'

    response = api.post("/v1/jobs", data=body, content_type="application/json; charset=utf-8")

    assert response.status_code == 202


def test_a_body_that_is_too_large_is_413(api: Api) -> None:
    response = api.create(b'{"prompt":"' + b"x" * MAX_BODY_BYTES + b'"}')

    assert (response.status_code, response.mimetype) == (413, "application/problem+json")
    assert response.get_json()["detail"] == f"the body may have {MAX_BODY_BYTES} bytes"
    assert api.harness.redis.keys() == []


def test_a_body_that_ends_early_is_named(api: Api) -> None:
    # As the web server gives a body that the client did not send to its end.
    environ = {"wsgi.input_terminated": True, "CONTENT_LENGTH": "100"}
    response = api.post(
        "/v1/jobs", data=b'{"prompt"', content_type="application/json", environ_overrides=environ
    )

    assert response.status_code == 400
    assert response.get_json()["detail"] == "the body ended after 9 of 100 bytes; send it again"


def test_a_long_list_is_shown_by_its_length(api: Api) -> None:
    detail = api.post("/v1/jobs/batch", json={"jobs": [UNIFIED] * 501}).get_json()["detail"]

    assert detail == "jobs must be a list of 1 to 500 jobs; got a list of 501"


def test_many_violations_are_listed_up_to_a_limit(api: Api) -> None:
    response = api.create({**UNIFIED, **{f"field{n}": n for n in range(200)}})

    assert response.status_code == 422
    assert response.json is not None
    assert len(response.json["errors"]) == 50
    assert len(response.json["detail"]) <= 2000


def test_a_provider_that_is_switched_off_is_refused_with_those_that_are_on(open_api: Open) -> None:
    api = open_api(EVOLINK_API_KEY=None)

    response = api.create(NATIVE)

    assert response.status_code == 422
    assert response.json is not None
    [error] = response.json["errors"]
    assert (error["field"], error["value"]) == ("provider", "evolink")
    assert ", ".join(name for name in BUILT_IN if name != "evolink") in error["allowed"]
    assert "EVOLINK_API_KEY" in error["message"]
    assert api.harness.redis.keys() == []


def test_without_any_provider_the_refusal_says_so(open_api: Open) -> None:
    api = open_api(**{f"{name.upper()}_API_KEY": None for name in BUILT_IN})

    response = api.create(UNIFIED)

    assert response.json is not None
    assert "none, because no API key is set" in response.json["errors"][0]["allowed"]


LONE = "\ud800"


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("prompt", changed(UNIFIED, prompt=LONE)),
        ("model", changed(UNIFIED, model=LONE)),
        ("provider", changed(UNIFIED, provider=LONE)),
        ("images.0", changed(UNIFIED, images=[f"https://e.example/{LONE}"])),
        ("metadata", changed(UNIFIED, metadata={"x": LONE})),
        ("metadata", changed(UNIFIED, metadata={LONE: "x"})),
        ("request", native(prompt=LONE)),
    ],
)
def test_what_only_python_can_say_is_refused_by_the_python_face(
    api: Api, field: str, request_: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        create_job(api.harness.runtime, request_, scope="python")

    assert refusal.value.violations[0].field == field
    str(refusal.value).encode()
    assert api.harness.redis.keys() == []


@pytest.mark.parametrize("key", [LONE, 5])
def test_an_idempotency_key_that_is_no_printable_text_is_refused(api: Api, key: Any) -> None:
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        create_job(api.harness.runtime, UNIFIED, scope="python", key=key)
