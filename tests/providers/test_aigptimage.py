from __future__ import annotations

from typing import Any, ClassVar

import pytest

from orchestrator.jobs.model import Cost, ErrorCode, Image, Outcome
from orchestrator.jsonio import dump
from orchestrator.providers.aigptimage import ASPECT_RATIOS
from orchestrator.providers.listing import LIMITED, REFUSED
from orchestrator.providers.prices import PriceTable
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    TaskNotFound,
    TaskReport,
)
from tests.providers.adapter import Cases, each
from tests.providers.create_task import CreateTaskContract
from tests.support.cases import for_each
from tests.support.fakes import NOON

TASK = "task_xxxxxxxxxxxxx"
MODEL = "nano-banana-2-text-to-image"
RESULT = "https://cdn.example.com/result.png"

#: The page's table of error codes, in our vocabulary, and whether the error may pass.
CODES = [
    (400, ErrorCode.INVALID_REQUEST, False),
    (401, ErrorCode.AUTHENTICATION, False),
    (402, ErrorCode.INSUFFICIENT_CREDITS, False),
    (404, ErrorCode.NOT_FOUND, False),
    (409, ErrorCode.TASK_LIMIT, True),
    (422, ErrorCode.INVALID_REQUEST, False),
    (429, ErrorCode.RATE_LIMITED, True),
    (500, ErrorCode.PROVIDER_UNAVAILABLE, True),
]


class TestAIGPTImage(CreateTaskContract):
    name = "aigptimage"
    model = MODEL
    unified: ClassVar[dict[str, Any]] = {
        "prompt": "A cat",
        "aspect_ratio": "8:1",
        "resolution": "4K",
        "output_format": "jpeg",
    }
    body: ClassVar[dict[str, Any]] = {
        "model": MODEL,
        "input": {
            "prompt": "A cat",
            "aspect_ratio": "8:1",
            "resolution": "4K",
            "output_format": "jpg",
        },
    }
    families: ClassVar[dict[str, dict[str | None, str]]] = {"nano-banana-2": {None: MODEL}}
    key_header = "X-Request-ID"
    support: ClassVar[list[str]] = [LIMITED, REFUSED, LIMITED, LIMITED, LIMITED, REFUSED]
    documented = ("request_text_to_image",)
    refused: ClassVar[dict[str, dict[str, Cases]]] = {
        MODEL: {
            "prompt": [("", "1 to 20000"), ("x" * 20_001, "1 to 20000"), (7, "a string")],
            "aspect_ratio": each("7:5", "16x9", "2:1", "", 7, [], allowed="one of auto, 1:1"),
            "resolution": each("0.5K", "8K", "2k", 2, allowed="one of 1K, 2K, 4K"),
            "output_format": each("webp", "PNG", "", 7, [], allowed="one of png, jpg"),
        }
    }
    refused_natively: ClassVar[dict[str, dict[str, Cases]]] = {
        MODEL: {
            "input.output_format": [("jpeg", "one of png, jpg")],
            "input.image_input": [(["https://e.example/a.png"], "a known field: ")],
            "input.n": [(1, "a known field: ")],
            "input": [("A cat", "a JSON object"), ([], "a JSON object")],
        }
    }

    def test_the_documented_ratios_are_these_fifteen(self) -> None:
        value = "auto 1:1 1:4 1:8 2:3 3:2 3:4 4:1 4:3 4:5 5:4 8:1 9:16 16:9 21:9"
        assert " ".join(ASPECT_RATIOS) == value

    def test_there_is_the_one_documented_model(self) -> None:
        assert list(self.provider.models) == [MODEL]

    def test_a_native_request_needs_its_input(self) -> None:
        [violation] = self.refusals(self.native({"model": MODEL}))

        assert (violation.field, violation.allowed) == ("request.input", "given")

    # Prices --------------------------------------------------------------------------------

    @pytest.mark.parametrize(("options", "price"), [({}, 1.0), ({"resolution": "4K"}, 4.0)])
    def test_a_price_goes_by_the_resolution_which_is_1k_by_default(
        self, options: dict[str, str], price: float
    ) -> None:
        table = PriceTable("credits", {MODEL: {"1K": 1, "*": 4}})

        cost = self.provider.price(self.request(**options), table, returned=5)

        assert cost == Cost(price, "credits", "computed")

    # Answers to a submit -------------------------------------------------------------------

    @for_each(("code", "ours", "retryable"), CODES)
    @for_each("http", ["as the HTTP status too", "in HTTP 200"])
    def test_each_documented_code_has_its_meaning_with_any_http_status(
        self, http: str, code: int, ours: ErrorCode, retryable: bool
    ) -> None:
        status = 200 if http == "in HTTP 200" else code

        read = self.submitted(status, self.payload(f"error_{code}"), **{"retry-after": "6"})

        if code == 500:  # no proof that there is no task: the same key goes out again
            assert read == Ambiguous(f"HTTP {status}: {self.document('error_500')['msg']}", 6.0)
            return
        assert isinstance(read, Rejected)
        assert (read.error.code, read.error.retryable) == (ours, retryable)
        assert read.error.message == self.document(f"error_{code}")["msg"]
        assert (read.error.provider_code, read.retry_after) == (str(code), 6.0)

    def test_the_code_in_the_envelope_counts_before_the_status(self) -> None:
        read = self.submitted(400, self.payload("error_409"))

        assert isinstance(read, Rejected)
        assert read.error.code is ErrorCode.TASK_LIMIT

    @for_each("status", [400, 409, 429, 500, 502])
    def test_an_http_error_around_an_envelope_of_success_is_ambiguous(self, status: int) -> None:
        read = self.submitted(status, self.payload("accepted"), **{"retry-after": "3"})

        assert read == Ambiguous(f"HTTP {status} with an envelope code 200", 3.0)

    @pytest.mark.parametrize(
        "envelope",
        [
            {"code": 200, "msg": "success", "data": None},
            {"code": 200, "msg": "success", "data": {}},
            {"code": 200, "msg": "success", "data": TASK},
            {"msg": "success"},
        ],
    )
    def test_a_2xx_that_names_no_task_and_no_error_is_ambiguous(
        self, envelope: dict[str, Any]
    ) -> None:
        assert isinstance(self.submitted(200, dump(envelope)), Ambiguous)

    @pytest.mark.parametrize("code", [0, 201, 402, 500])
    def test_an_answer_that_names_a_task_is_accepted_whatever_its_code_is(self, code: int) -> None:
        envelope = {"code": code, "msg": "hm", "data": {"taskId": TASK}}

        assert self.submitted(200, dump(envelope)) == Accepted(TASK)

    @for_each("code", [None, "200", True, [], {}])
    def test_a_code_that_is_not_a_number_is_ignored(self, code: Any) -> None:
        task = {"code": code, "data": {"taskId": TASK}}

        assert self.submitted(200, dump(task)) == Accepted(TASK)
        assert isinstance(self.submitted(400, dump({"code": code, "msg": "no"})), Rejected)

    def test_an_error_without_a_code_has_its_status_for_one(self) -> None:
        for body in (b'{"msg":"slow down"}', b'{"code":0,"msg":"slow down"}'):
            read = self.submitted(429, body)
            assert isinstance(read, Rejected)
            assert (read.error.code, read.error.message, read.error.provider_code) == (
                ErrorCode.RATE_LIMITED,
                "slow down",
                "429",
            )

    def test_an_error_without_a_message_names_its_code(self) -> None:
        read = self.submitted(200, b'{"code":402}')

        assert isinstance(read, Rejected)
        assert read.error.message == "code 402"

    # Answers to a query --------------------------------------------------------------------

    @pytest.mark.parametrize("state", ["waiting", "queuing", "generating"])
    def test_a_task_that_runs_has_no_outcome(self, state: str) -> None:
        assert self.queried(200, self.payload(f"task_{state}")) == TaskReport(TASK, state)

    def test_the_documented_success_has_its_image(self) -> None:
        report = self.queried(200, self.payload("task_success"))

        assert report == TaskReport(TASK, "success", Outcome.succeeded((Image(RESULT),)))

    def test_a_result_without_links_is_a_thin_success(self) -> None:
        results: list[Any] = [
            *("{", '{"resultUrls":["https://cdn.example.com/res', "None", "{'resultUrls': []}"),
            *(" ", '{"resultUrls":[]}{}', "[" * 2000, "7", "null", "{}", '{"resultUrls":null}'),
            *('{"resultUrls":[]}', '{"resultUrls":[null,7,""]}', "", None, 7, []),
        ]
        for result in results:
            report = self.queried(200, dump(self.enveloped(self.task(resultJson=result))))

            assert isinstance(report, TaskReport)
            assert report.outcome is None
            assert report.thin_success is not None
            assert report.thin_success.retryable

    @for_each(
        "result",
        [
            RESULT,
            f'"{RESULT}"',
            f'["{RESULT}"]',
            f'{{"resultUrls":"{RESULT}"}}',
            f'{{"resultUrls":{{"0":"{RESULT}"}}}}',
            f'{{"result_urls":[{{"url":"{RESULT}"}}]}}',
            dump(f'{{"resultUrls":["{RESULT}"]}}').decode(),
            [RESULT],
        ],
    )
    def test_a_result_may_have_another_form(self, result: Any) -> None:
        report = self.provider.read_task(self.task(resultJson=result), NOON)

        assert self.links_of(report) == [RESULT]

    def test_a_result_that_is_an_object_already_is_read_too(self) -> None:
        report = self.provider.read_task(self.task(resultJson={"resultUrls": [RESULT]}), NOON)

        assert self.links_of(report) == [RESULT]

    @pytest.mark.parametrize("state", ["waiting", "fail"])
    def test_the_result_is_read_only_of_a_success(self, state: str) -> None:
        assert self.provider.read_task(self.task(state=state, resultJson="{"), NOON).state == state

    def test_a_failure_has_the_providers_words(self) -> None:
        report = self.queried(200, self.payload("task_fail"))

        assert isinstance(report, TaskReport)
        assert report.outcome is not None
        assert report.outcome.error is not None
        assert report.outcome.error.message == self.document("task_fail")["data"]["failMsg"]
        assert report.outcome.error.provider_code == "500"
        assert report.outcome.error.code is ErrorCode.GENERATION_FAILED

    @for_each(
        ("value", "kept"), [("E1", "E1"), (501, "501"), (None, None), (True, None), ([], None)]
    )
    def test_a_fail_code_may_be_a_number(self, value: Any, kept: str | None) -> None:
        outcome = self.provider.read_task(self.failed(value, "no"), NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert outcome.error.provider_code == kept

    @pytest.mark.parametrize("status", [200, 404])
    def test_a_query_for_an_unknown_task_is_missing(self, status: int) -> None:
        assert self.queried(status, self.payload("error_404")) == TaskNotFound()

    @pytest.mark.parametrize("status", [404, 401, 500])
    def test_an_http_error_with_an_envelope_of_success_fails_the_query(self, status: int) -> None:
        read = self.queried(status, self.payload("task_success"))

        assert isinstance(read, QueryFailed)
        assert read.error.message == f"HTTP {status} without an error document"

    @for_each(("code", "ours", "retryable"), [row for row in CODES if row[0] != 404])
    def test_each_other_code_on_a_query_is_trouble(
        self, code: int, ours: ErrorCode, retryable: bool
    ) -> None:
        for status in (200, code):
            read = self.queried(status, self.payload(f"error_{code}"))
            assert isinstance(read, QueryFailed)
            assert (read.error.code, read.error.retryable) == (ours, retryable)

    @pytest.mark.parametrize("code", [401, 500])
    def test_a_task_in_an_envelope_of_error_is_not_read(self, code: int) -> None:
        envelope = {**self.document("task_success"), "code": code}

        assert isinstance(self.queried(200, dump(envelope)), QueryFailed)
