from __future__ import annotations

from typing import Any, ClassVar

import pytest

from orchestrator.jobs import ErrorCode, Image, Outcome
from orchestrator.providers.base import Accepted, Ambiguous, Missing, Refused, TaskReport, Trouble
from orchestrator.providers.hiapi import ASPECT_RATIOS, KEY_CODES
from orchestrator.wire import dump
from tests.fakes import NOON
from tests.providers.adapter import CALLBACK_URL, KEY
from tests.providers.contract import ProviderContract

TASK = "task_01JD7Q0Z3M9XK4V2"


class TestHiAPI(ProviderContract):
    name = "hiapi"
    model = "Nano-Banana-2"
    unified: ClassVar[dict[str, Any]] = {
        "prompt": "A cat",
        "images": ["https://e.example/a.png", "http://e.example/b"],
        "aspect_ratio": "21:9",
        "resolution": "4K",
        "output_format": "jpg",
    }
    body: ClassVar[dict[str, Any]] = {
        "model": "Nano-Banana-2",
        "input": {
            "prompt": "A cat",
            "image_input": ["https://e.example/a.png", "http://e.example/b"],
            "aspect_ratio": "21:9",
            "resolution": "4K",
            "output_format": "jpg",
        },
    }
    callback_path = ("callback", "url")
    documented = ("request_text_to_image", "request_reference")
    refused: ClassVar[dict[str, list[tuple[Any, str]]]] = {
        "prompt": [("", "1 to any number"), (7, "a string"), (None, "not null")],
        "images": [
            ("https://e.example/a.png", "a list of URLs"),
            (["ftp://e.example/a.png"], "an http(s) URL"),
            (["https://e.example/a.png", "no link"], "an http(s) URL"),
            ([None], "not null"),
        ],
        "aspect_ratio": [("7:5", "21:9"), ("16x9", "one of auto, 1:1"), (None, "not null")],
        "resolution": [("0.5K", "one of 1K, 2K, 4K"), ("2k", "1K, 2K, 4K"), (2, "1K, 2K, 4K")],
        "output_format": [("webp", "one of png, jpg"), ("jpeg", "png, jpg"), ([], "png, jpg")],
        "n": [(2, "1: HiAPI makes one image a task")],
    }
    id_field = "taskId"
    success = "success"
    failure = "fail"

    def with_links(self, *links: Any) -> dict[str, Any]:
        return self.task(output=[{"url": link, "type": "image"} for link in links])

    @pytest.mark.parametrize("ratio", ASPECT_RATIOS)
    def test_every_documented_ratio_is_taken(self, ratio: str) -> None:
        self.provider.check(self.request(aspect_ratio=ratio))

    def test_the_documented_ratios_are_these_fifteen(self) -> None:
        told = "auto 1:1 1:4 1:8 2:3 3:2 3:4 4:1 4:3 4:5 5:4 8:1 9:16 16:9 21:9"
        assert " ".join(ASPECT_RATIOS) == told

    # Calls ---------------------------------------------------------------------------------

    def test_a_submit_carries_the_attempts_key_and_asks_for_the_final_callback(self) -> None:
        call = self.provider.submit_call(self.body, CALLBACK_URL, KEY)

        assert (call.method, call.path) == ("POST", "/v1/tasks")
        assert call.headers == {"Idempotency-Key": KEY}
        assert call.body["callback"] == {"url": CALLBACK_URL, "when": "final"}

    def test_a_query_asks_for_the_task(self) -> None:
        call = self.provider.query_call(TASK)

        assert (call.method, call.path, call.body) == ("GET", f"/v1/tasks/{TASK}", None)

    # Answers to a submit -------------------------------------------------------------------

    def test_the_task_id_is_under_data(self) -> None:
        assert self.submitted(200, self.payload("accepted")) == Accepted(TASK)

    @pytest.mark.parametrize(
        ("code", "status", "ours", "retryable"),
        [
            ("INVALID_REQUEST", 400, ErrorCode.INVALID_REQUEST, False),
            ("MODEL_UNAVAILABLE", 503, ErrorCode.PROVIDER_UNAVAILABLE, True),
            ("TASK_FAILED", 500, ErrorCode.GENERATION_FAILED, False),
            ("TASK_TIMEOUT", 504, ErrorCode.TIMEOUT, True),
            ("STORAGE_UNAVAILABLE", 503, ErrorCode.PROVIDER_UNAVAILABLE, True),
        ],
    )
    def test_each_error_code_is_a_no_with_the_providers_words(
        self, code: str, status: int, ours: ErrorCode, retryable: bool
    ) -> None:
        message = self.document(f"error_{code}")["message"]

        read = self.submitted(status, self.payload(f"error_{code}"))

        assert isinstance(read, Refused)
        assert (read.error.code, read.error.retryable) == (ours, retryable)
        assert (read.error.provider_code, read.error.message) == (code, message)

    @pytest.mark.parametrize(
        ("status", "ours", "retryable"),
        [
            (402, ErrorCode.INSUFFICIENT_CREDITS, False),
            (409, ErrorCode.TASK_LIMIT, True),
            (429, ErrorCode.RATE_LIMITED, True),
            (500, ErrorCode.PROVIDER_UNAVAILABLE, True),
        ],
    )
    def test_an_unlisted_code_is_a_no_by_its_status(
        self, status: int, ours: ErrorCode, retryable: bool
    ) -> None:
        for body in (
            {"message": "no", "error_code": "NEW"},
            {"message": "no"},
            {"error_code": "N"},
        ):
            read = self.submitted(status, dump(body), **{"retry-after": "11"})
            assert isinstance(read, Refused)
            assert (read.error.code, read.error.retryable) == (ours, retryable)
            assert read.retry_after == 11.0

    @pytest.mark.parametrize(
        ("code", "status"), list(zip(sorted(KEY_CODES), (422, 409), strict=True))
    )
    def test_an_answer_about_our_own_key_says_that_the_attempt_had_arrived(
        self, code: str, status: int
    ) -> None:
        message = self.document(f"error_{code}")["message"]

        read = self.submitted(status, self.payload(f"error_{code}"), **{"retry-after": "2"})

        assert read == Ambiguous(message, 2.0)

    def test_a_plain_422_is_a_no(self) -> None:
        assert isinstance(self.submitted(422, dump({"message": "bad input"})), Refused)

    # Answers to a query, and callbacks -----------------------------------------------------

    @pytest.mark.parametrize("state", ["queued", "handling", "archiving"])
    def test_a_task_on_its_way_has_no_outcome(self, state: str) -> None:
        body = dump({"code": 200, "data": self.document(f"task_{state}")})

        assert self.queried(200, body) == TaskReport(TASK, state)

    def test_a_success_has_its_images_with_their_expiry(self) -> None:
        task = self.document("task_success")
        link = Image(task["output"][0]["url"], 1_796_604_800_000)

        report = self.queried(200, dump({"code": 200, "data": task}))

        assert report == TaskReport(TASK, "success", Outcome.succeeded((link,)))
        assert self.provider.read_task(task, NOON) == report

    @pytest.mark.parametrize(
        ("told", "expires"),
        [
            (1_796_604_800, 1_796_604_800_000),
            (1_796_604_800_123, 1_796_604_800_123),
            (0, None),
            (-5, None),
            (10**14, None),
            (True, None),
            ("1796604800", None),
            (1.5, None),
            (None, None),
        ],
    )
    def test_an_expiry_is_read_in_seconds_or_ms_and_ignored_when_odd(
        self, told: Any, expires: int | None
    ) -> None:
        task = self.task(output=[{"url": "https://e.example/a.png", "expireAt": told}])

        outcome = self.provider.read_task(task, NOON).outcome

        assert outcome == Outcome.succeeded((Image("https://e.example/a.png", expires),))

    def test_a_failure_has_the_providers_words(self) -> None:
        task = self.document("task_fail")

        outcome = self.provider.read_task(task, NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert outcome.error.code is ErrorCode.GENERATION_FAILED
        assert outcome.error.message == task["error"]["message"]
        assert outcome.error.provider_code == "TASK_FAILED"
        assert not outcome.error.retryable

    def test_a_task_that_timed_out_may_be_tried_again(self) -> None:
        task = self.task(status="fail", error={"code": "TASK_TIMEOUT", "message": "too slow"})

        outcome = self.provider.read_task(task, NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.retryable) == (ErrorCode.TIMEOUT, True)

    def test_a_query_for_an_unknown_task_is_missing(self) -> None:
        assert self.queried(404, dump({"code": 404, "message": "not found"})) == Missing()

    def test_a_bare_404_is_trouble_since_a_wrong_base_url_answers_so_too(self) -> None:
        assert isinstance(self.queried(404, b"<html>"), Trouble)

    def test_a_task_outside_of_its_envelope_is_not_read_as_a_query(self) -> None:
        assert isinstance(self.queried(200, self.payload("task_success")), Trouble)
