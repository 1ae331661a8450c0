"""OpenAI's Images API: requests, answers and errors in its shapes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.api.compatible.held_call import JOB_HEADER, LOST_TRIES, StillOpen
from orchestrator.jobs.model import ErrorCode, Image, Outcome
from orchestrator.operations.repeated_requests import ANSWER_LOST_MS
from tests.api.compatible.conftest import MODEL, REQUEST, Compatible
from tests.api.conftest import settle
from tests.support.archive_kit import picture


def nested(levels: int) -> dict[str, Any]:
    """An object with so many levels."""
    return {"a": nested(levels - 1)} if levels else {}


def error(answer: Any) -> dict[str, Any]:
    """The error of an answer, which has no other members."""
    assert set(answer.json) == {"error"}
    found: dict[str, Any] = answer.json["error"]
    assert {"message", "type", "param", "code"} <= set(found)
    return found


# Requests ----------------------------------------------------------------------------------------


def test_a_request_becomes_a_job_of_the_named_provider(compatible: Compatible) -> None:
    job = compatible.job(
        compatible.generate(
            size="1792x1024",
            output_format="png",
            user="user-7",
            deadline_seconds=600,
            on_unconfirmed="fail",
            stream=None,
        )
    )

    assert (job.request.provider, job.request.model) == ("hiapi", "Nano-Banana-2")
    assert job.request.options == {
        "prompt": "A red cube",
        "aspect_ratio": "16:9",
        "resolution": "1K",
        "output_format": "png",
    }
    assert job.request.metadata == {"user": "user-7"}
    assert job.request.deadline_seconds == 600


def test_fields_that_the_model_knows_are_sent_and_others_are_named(compatible: Compatible) -> None:
    sent = compatible.generate(model="uniall/gpt-image-2", quality="high", style="vivid")
    ignored = compatible.generate(quality="high", background="auto")

    assert compatible.job(sent).request.provider_options == {"quality": "high"}
    compatible.succeed(sent.headers[JOB_HEADER])
    compatible.succeed(ignored.headers[JOB_HEADER])
    named = [
        compatible.generate(model="uniall/gpt-image-2", quality="high", style="vivid"),
        compatible.generate(quality="high", background="auto"),
    ]
    assert [each.headers["X-Orchestrator-Ignored"] for each in named] == ["style", "quality"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ...}, "prompt"),
        ({"model": ...}, "model"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": 9, "model": "uniall/gpt-image-2"}, "n"),
        ({"provider_options": ["quality"], "quality": "high"}, "provider_options"),
        ({"size": "large"}, "size"),
        ({"size": "100x900"}, "size"),
        ({"stream": "yes"}, "stream"),
        ({"response_format": "png"}, "response_format"),
        ({"promt": "x"}, "promt"),
        ({"images": [{"file_id": "file-1"}]}, "images.0"),
        ({"images": ["data:image/png;base64,%%%"]}, "images.0"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": nested(300)}, "metadata"),
        ({"provider_options": "x"}, "provider_options"),
        ({"provider_options": nested(300)}, "provider_options"),
    ],
)
def test_a_bad_field_is_named(compatible: Compatible, fields: dict[str, Any], param: str) -> None:
    answer = compatible.generate(**fields)

    assert answer.status_code == 400
    assert error(answer)["param"] == param
    assert error(answer)["type"] == "invalid_request_error"


def test_too_many_images_say_how_many_may_be_asked_for(compatible: Compatible) -> None:
    assert (
        "n must be a whole number from 1 to 10; got 11"
        in error(compatible.generate(n=11))["message"]
    )


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"'])
def test_a_body_that_is_no_object_is_refused(compatible: Compatible, body: bytes) -> None:
    answer = compatible.api.post(
        "/v1/images/generations", data=body, content_type="application/json"
    )

    assert answer.status_code == 400
    assert error(answer)["type"] == "invalid_request_error"


def test_an_unknown_model_is_not_found(compatible: Compatible) -> None:
    answer = compatible.generate(model="dall-e-9")

    assert answer.status_code == 404
    assert error(answer)["code"] == "model_not_found"
    assert answer.headers.get("X-Should-Retry") is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/images/generations", 405),
        ("POST", "/v1/images/variations", 404),
        ("POST", "/v1/chat/completions", 404),
    ],
)
def test_a_call_that_we_do_not_have_is_an_error_in_the_same_shape(
    compatible: Compatible, method: str, path: str, status: int
) -> None:
    answer = compatible.api.app.test_client().open(path, method=method)

    assert answer.status_code == status
    assert path in error(answer)["message"]


def test_a_key_is_needed(compatible: Compatible) -> None:
    answer = compatible.api.with_key("no-such-key").post("/v1/images/generations", json=REQUEST)

    assert answer.status_code == 401
    assert error(answer)["type"] == "authentication_error"


def test_links_need_a_public_url_before_there_is_a_job(
    open_compatible: Callable[..., Compatible],
) -> None:
    compatible = open_compatible(ORCHESTRATOR_PUBLIC_URL=None)

    answer = compatible.generate(response_format="url")

    assert error(answer)["param"] == "response_format"
    assert not compatible.harness.nudges.sent


# Answers -----------------------------------------------------------------------------------------


def test_the_images_are_answered_in_base64(compatible: Compatible) -> None:
    images = [picture(number) for number in range(2)]
    job_id = compatible.begin(size="1024x1024")
    compatible.succeed(job_id, *images)

    answer = compatible.generate(size="1024x1024")

    assert answer.status_code == 200
    assert answer.headers[JOB_HEADER] == job_id
    assert answer.headers["Content-Type"] == "application/json"
    document = json.loads(answer.data)
    assert [base64.b64decode(each["b64_json"]) for each in document["data"]] == images
    assert (document["output_format"], document["size"]) == ("png", "96x64")
    assert document["usage"]["total_tokens"] == 0


def test_a_model_with_one_image_per_task_gets_a_job_for_each(compatible: Compatible) -> None:
    """Each repetition waits for the next job. The answer has the images of those that succeed."""
    jobs: list[str] = []
    for number in range(3):
        open_job = compatible.generate(n=3).headers[JOB_HEADER]
        jobs.append(open_job)
        if number == 1:
            compatible.fail(open_job)
        else:
            compatible.succeed(open_job, picture(number))

    answer = compatible.generate(n=3)

    assert len(set(jobs)) == len(compatible.harness.nudges.sent) == 3
    assert answer.status_code == 200
    assert answer.headers[JOB_HEADER].split(", ") == jobs
    document = json.loads(answer.data)
    sent = [base64.b64decode(each["b64_json"]) for each in document["data"]]
    assert sent == [picture(0), picture(2)]


def test_such_a_request_with_a_key_is_repeated_as_a_whole(compatible: Compatible) -> None:
    key = {"Idempotency-Key": "order-1"}
    for _ in range(3):
        job_id = compatible.generate(n=2, headers=key).headers[JOB_HEADER]

    assert len(compatible.harness.nudges.sent) == 2
    assert compatible.generate(n=2, prompt="Another", headers=key).status_code == 400
    assert compatible.harness.job(job_id).request.options == {"prompt": "A red cube"}


@pytest.mark.parametrize("length", [0, 1, 2, 3, 49_151, 49_152, 49_153, 200_000])
def test_base64_of_any_length_is_whole(compatible: Compatible, length: int) -> None:
    content = bytes(number % 251 for number in range(length))
    compatible.succeed(compatible.begin(), content)

    document = json.loads(compatible.generate().data)

    assert base64.b64decode(document["data"][0]["b64_json"], validate=True) == content


def test_links_are_signed_and_work_without_a_key(compatible: Compatible) -> None:
    compatible.succeed(compatible.begin(response_format="url"))

    answer = compatible.generate(response_format="url").json
    assert answer is not None
    path = answer["data"][0]["url"].removeprefix("https://hooks.example.com")
    shown = compatible.api.app.test_client().get(path, buffered=True)

    assert (shown.status_code, shown.data) == (200, picture())


def test_a_finished_job_is_answered_as_events(compatible: Compatible) -> None:
    images = [picture(number) for number in range(2)]
    compatible.succeed(compatible.begin(stream=True, partial_images=2), *images)

    answer = compatible.generate(stream=True, partial_images=2)

    assert answer.mimetype == "text/event-stream"
    events = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    assert [event[0] for event in events] == ["event: image_generation.completed"] * 2
    documents = [json.loads(event[1].removeprefix("data: ")) for event in events]
    assert [base64.b64decode(each["b64_json"]) for each in documents] == images
    assert {each["type"] for each in documents} == {"image_generation.completed"}


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (ErrorCode.CONTENT_POLICY, 400, "moderation_blocked"),
        (ErrorCode.INVALID_REQUEST, 400, "invalid_request"),
        (ErrorCode.RATE_LIMITED, 429, "rate_limited"),
        (ErrorCode.SUBMISSION_UNCONFIRMED, 502, "submission_unconfirmed"),
        (ErrorCode.GENERATION_FAILED, 502, "generation_failed"),
    ],
)
def test_a_failed_job_is_an_error_that_no_client_repeats_by_itself(
    compatible: Compatible, code: ErrorCode, status: int, kind: str
) -> None:
    job_id = compatible.begin()
    compatible.fail(job_id, code)

    answer = compatible.generate()

    assert (answer.status_code, error(answer)["code"]) == (status, kind)
    assert answer.headers["X-Should-Retry"] == "false"
    assert answer.headers[JOB_HEADER] == job_id
    assert "the provider's words" in error(answer)["message"]


def test_an_image_whose_copy_is_gone_is_an_error(compatible: Compatible) -> None:
    job_id = compatible.begin()
    compatible.succeed(job_id)
    compatible.harness.runtime.storage.delete(f"test/{job_id}/0.png")

    answer = compatible.generate()

    assert answer.status_code == 503
    assert error(answer)["type"] == "server_error"


def dead_link(**facts: Any) -> Image:
    """Return an image whose archive was told that there is no such file."""
    return Image("https://cdn.example.com/0.png", error="it answered 404", missing=True, **facts)


def test_a_dead_link_is_an_error_before_its_archive_ends(compatible: Compatible) -> None:
    job_id = compatible.begin()
    settle(compatible.harness, job_id, Outcome.succeeded((dead_link(tries=LOST_TRIES),)))

    answer = compatible.generate()

    assert (answer.status_code, error(answer)["code"]) == (410, "gone")
    assert "it answered 404" in error(answer)["message"]
    assert answer.headers["X-Should-Retry"] == "false"
    compatible.harness.clock.forward(ANSWER_LOST_MS / 1000 + 1)
    assert job_id in error(compatible.generate())["message"]  # the archive may still get it


def test_a_link_that_may_work_soon_is_waited_for(compatible: Compatible) -> None:
    images = (dead_link(tries=LOST_TRIES - 1),)
    settle(compatible.harness, compatible.begin(), Outcome.succeeded(images))

    assert error(compatible.generate())["code"] == "job_still_open"


def test_the_other_images_of_a_dead_link_are_answered(compatible: Compatible) -> None:
    job_id = compatible.begin()
    found = compatible.archived(job_id, 1, picture())
    settle(compatible.harness, job_id, Outcome.succeeded((dead_link(tries=LOST_TRIES), found)))

    document = json.loads(compatible.generate().data)

    assert [base64.b64decode(each["b64_json"]) for each in document["data"]] == [picture()]


def test_a_request_whose_images_were_given_up_makes_a_new_job(compatible: Compatible) -> None:
    job_id = compatible.begin()
    settle(compatible.harness, job_id, Outcome.succeeded((dead_link(given_up=True),)))

    assert compatible.generate().status_code == 410
    compatible.harness.clock.forward(ANSWER_LOST_MS / 1000 + 1)
    assert compatible.begin() != job_id


def test_a_job_that_is_open_may_be_asked_for_again(compatible: Compatible) -> None:
    answer = compatible.generate()

    assert (answer.status_code, error(answer)["code"]) == (503, "job_still_open")
    assert answer.headers["X-Should-Retry"] == "true"
    assert answer.headers["Location"] == f"/v1/jobs/{error(answer)['job_id']}"
    assert answer.headers["Retry-After"]
    assert "this process cannot wait for it now" in error(answer)["message"]


def test_after_the_longest_wait_the_caller_is_told_where_the_job_is() -> None:
    over = StillOpen("job_1", timed_out=True)

    assert "no outcome yet" in over.text
    assert over.headers == {"Location": "/v1/jobs/job_1"}


# Models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "fallbacks"),
    [
        ({}, ["Nano-Banana-2", "google/nano-banana"]),
        ({"size": "1024x1024"}, ["Nano-Banana-2"]),
        ({"n": 2}, []),
    ],
)
def test_a_fallback_of_a_route_that_cannot_make_the_images_is_left_out(
    open_compatible: Callable[..., Compatible], fields: dict[str, Any], fallbacks: list[str]
) -> None:
    route = "draw=uniall/nano-banana-2|hiapi/Nano-Banana-2|replicate/google/nano-banana"
    compatible = open_compatible(ORCHESTRATOR_MODEL_ROUTES=route, REPLICATE_API_KEY="key")

    job = compatible.job(compatible.generate(model="draw", **fields))

    assert [each.model for each in job.request.fallback] == fallbacks


def test_an_error_of_the_first_target_of_a_route_is_told(
    open_compatible: Callable[..., Compatible],
) -> None:
    route = "draw=hiapi/Nano-Banana-2|uniall/nano-banana-2"
    compatible = open_compatible(ORCHESTRATOR_MODEL_ROUTES=route)

    answer = compatible.generate(model="draw", output_format="webp")

    assert error(answer)["param"] == "output_format"


def test_every_listed_model_can_be_used(open_compatible: Callable[..., Compatible]) -> None:
    compatible = open_compatible(ORCHESTRATOR_MODEL_ROUTES="gpt-image-9=hiapi/Nano-Banana-2")
    listed = compatible.api.get("/v1/models").json
    assert listed is not None

    names = [each["id"] for each in listed["data"]]

    assert names[0] == "gpt-image-9"
    assert MODEL in names
    assert len(names) == len(set(names))
    for name in names:
        shown = compatible.api.get(f"/v1/models/{name}")
        assert (shown.status_code, shown.json and shown.json["id"]) == (200, name)


def test_a_model_that_nobody_has_is_not_found(compatible: Compatible) -> None:
    answer = compatible.api.get("/v1/models/hiapis/Nano-Banana-2")

    assert (answer.status_code, error(answer)["code"]) == (404, "model_not_found")
