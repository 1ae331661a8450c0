"""Gemini's `generateContent`: requests, answers and errors in its shapes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from orchestrator.api.compatible.held_call import JOB_HEADER
from orchestrator.jobs.model import ErrorCode
from tests.api.compatible.conftest import Compatible
from tests.api.conftest import KEY
from tests.support.archive_kit import picture

ASKED = {"contents": [{"role": "user", "parts": [{"text": "A red cube"}]}]}


def asked(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"contents": [{"parts": list(parts)}], **more}


@pytest.mark.parametrize(
    "config",
    [
        {"generationConfig": {"imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"}}},
        {"generation_config": {"image_config": {"aspect_ratio": "16:9", "image_size": "2K"}}},
    ],
)
def test_a_request_becomes_a_job_in_either_spelling(
    compatible: Compatible, config: dict[str, Any]
) -> None:
    job = compatible.job(compatible.content({**ASKED, **config}))

    assert (job.request.provider, job.request.model) == ("hiapi", "Nano-Banana-2")
    assert job.request.options == {
        "prompt": "A red cube",
        "aspect_ratio": "16:9",
        "resolution": "2K",
    }


def test_all_texts_are_the_prompt_and_all_images_are_references(compatible: Compatible) -> None:
    data = base64.b64encode(picture()).decode()
    body = {
        "systemInstruction": {"parts": [{"text": "Paint"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "a cube"}]},
            {"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]},
            {
                "role": "user",
                "parts": [
                    {"text": "in blue"},
                    {"file_data": {"file_uri": "https://example.com/0.png"}},
                ],
            },
        ],
    }

    options = compatible.job(compatible.content(body)).request.options

    assert options["prompt"] == "Paint\na cube\nin blue"
    assert options["images"][0].startswith("https://hooks.example.com/references/")
    assert options["images"][1:] == ["https://example.com/0.png"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "contents"),
        (asked({"inlineData": {"mimeType": "image/png", "data": "AA=="}}), "contents"),
        (asked({"text": "x"}, {"inlineData": {"data": "%"}}), "contents.0.parts.1.inlineData.data"),
        (asked({"functionCall": {}}), "contents.0.parts.0.functionCall"),
        (asked({"text": "x"}, content="x"), "content"),
        (
            asked({"text": "x"}, generationConfig={"responseModalities": ["TEXT"]}),
            "generationConfig.responseModalities",
        ),
        (
            asked({"text": "x"}, generationConfig={"imageConfig": {"aspectRatio": "9:99"}}),
            "generationConfig.imageConfig.aspectRatio",
        ),
        (
            asked({"text": "x"}, generationConfig={"imageConfig": {"imageSize": "9K"}}),
            "generationConfig.imageConfig.imageSize",
        ),
        (
            asked({"text": "x"}, generationConfig={"candidateCount": 11}),
            "generationConfig.candidateCount",
        ),
        (asked({"text": "x" * 60_000}, {"text": "x" * 60_000}), "contents"),
        (
            asked({"text": "x"}, {"fileData": {"fileUri": "gs://bucket/a.png"}}),
            "fileData.fileUri",
        ),
        (asked({"text": "x"}, tools=json.loads("[" * 100 + "]" * 100)), "body"),
    ],
)
def test_a_bad_field_is_named(compatible: Compatible, body: dict[str, Any], field: str) -> None:
    answer = compatible.content(body)

    assert answer.status_code == 400
    assert answer.json
    error = answer.json["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    (violation,) = error["details"][0]["fieldViolations"]
    assert violation["field"] == field
    assert violation["description"] == error["message"]
    assert error["message"].startswith(f"{field} ")


def test_ignored_fields_are_named(compatible: Compatible) -> None:
    body = {**ASKED, "safetySettings": [{}], "generationConfig": {"temperature": 1, "topP": 0.5}}
    job_id = compatible.content(body).headers[JOB_HEADER]
    compatible.succeed(job_id)

    ignored = compatible.content(body).headers["X-Orchestrator-Ignored"]

    assert ignored == "safety_settings, temperature, topP"


def test_names_of_callers_cannot_break_a_header(compatible: Compatible) -> None:
    """The job is paid then. So its answer must come, whatever the names are."""
    bad = ["a\r\nX-Evil: 1", "\0", "\N{SNOWMAN}", "a" * 100_000]
    good = [f"n{number}" for number in range(1000, 2000)]
    body = {**ASKED, "generationConfig": dict.fromkeys([*bad, *good], 1)}
    compatible.succeed(compatible.content(body).headers[JOB_HEADER])

    answer = compatible.content(body)

    assert answer.status_code == 200
    assert answer.headers["X-Orchestrator-Ignored"].split(", ") == good[:20]


def test_a_field_that_is_null_is_left_out(compatible: Compatible) -> None:
    config = {"imageConfig": {"aspectRatio": None}, "responseModalities": None}
    body = {**ASKED, "generationConfig": config, "systemInstruction": None, "tools": None}

    assert compatible.job(compatible.content(body)).request.options == {"prompt": "A red cube"}


def test_a_call_that_we_do_not_have_is_an_error_in_the_same_shape(compatible: Compatible) -> None:
    answer = compatible.content({}, method="countTokens")

    assert answer.json
    assert (answer.status_code, answer.json["error"]["code"]) == (405, 405)


@pytest.mark.parametrize(
    ("method", "before", "after"),
    [
        ("generateContent", "{", "}"),
        ("streamGenerateContent", "[{", "}]"),
        ("streamGenerateContent?alt=sse", "data: {", "}\n\n"),
    ],
)
def test_the_images_are_answered_inline(
    compatible: Compatible, method: str, before: str, after: str
) -> None:
    images = [picture(number) for number in range(2)]
    job_id = compatible.content(ASKED).headers[JOB_HEADER]
    compatible.succeed(job_id, *images)

    answer = compatible.content(ASKED, method=method)

    assert answer.status_code == 200
    assert answer.text.startswith(before)
    assert answer.text.endswith(after)
    document = json.loads(answer.text[len(before) - 1 : len(answer.text) - len(after) + 1])
    [candidate] = document["candidates"]
    sent = [each["inlineData"] for each in candidate["content"]["parts"]]
    assert [base64.b64decode(each["data"]) for each in sent] == images
    assert {each["mimeType"] for each in sent} == {"image/png"}
    assert (candidate["finishReason"], document["responseId"]) == ("STOP", job_id)


def test_several_candidates_have_one_image_each(compatible: Compatible) -> None:
    body = {**ASKED, "generationConfig": {"candidateCount": 2}}
    job_id = compatible.content(body, "uniall/gpt-image-2").headers[JOB_HEADER]
    compatible.succeed(job_id, picture(0), picture(1))

    answer = compatible.content(body, "uniall/gpt-image-2").json

    assert answer is not None
    assert [len(each["content"]["parts"]) for each in answer["candidates"]] == [1, 1]


def test_a_refused_prompt_is_a_candidate_without_content(compatible: Compatible) -> None:
    compatible.fail(compatible.content(ASKED).headers[JOB_HEADER], ErrorCode.CONTENT_POLICY)

    answer = compatible.content(ASKED)

    assert answer.status_code == 200
    assert answer.json
    assert answer.json["candidates"][0]["finishReason"] == "IMAGE_SAFETY"


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        (ErrorCode.GENERATION_FAILED, 500, "INTERNAL"),
        (ErrorCode.RATE_LIMITED, 429, "RESOURCE_EXHAUSTED"),
        (ErrorCode.INVALID_REQUEST, 400, "INVALID_ARGUMENT"),
    ],
)
def test_a_failed_job_is_an_error(
    compatible: Compatible, code: ErrorCode, status: int, name: str
) -> None:
    compatible.fail(compatible.content(ASKED).headers[JOB_HEADER], code)

    answer = compatible.content(ASKED)

    assert answer.status_code == status
    assert answer.json
    assert answer.json["error"]["status"] == name


def test_the_key_may_be_in_googles_header(compatible: Compatible) -> None:
    client = compatible.api.app.test_client()
    path = "/v1/models/hiapi/Nano-Banana-2:generateContent"

    def status(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post(path, json=ASKED, headers=named).status_code

    assert status(x_goog_api_key=KEY) == 503
    assert status(x_goog_api_key="another") == 401
    assert status() == 401


def test_models_are_listed_for_googles_clients(compatible: Compatible) -> None:
    client = compatible.api.app.test_client()

    listed = client.get("/v1/models", headers={"x-goog-api-key": KEY}).json

    assert listed is not None
    assert "models/hiapi/Nano-Banana-2" in [each["name"] for each in listed["models"]]
    shown = compatible.api.get("/v1beta/models/hiapi/Nano-Banana-2").json
    assert shown is not None
    assert "generateContent" in shown["supportedGenerationMethods"]
    missing = compatible.api.get("/v1beta/models/nobody")
    assert (missing.status_code, missing.json and missing.json["error"]["status"]) == (
        404,
        "NOT_FOUND",
    )
