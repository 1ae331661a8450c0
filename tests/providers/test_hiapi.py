from __future__ import annotations

import hashlib
import hmac
from typing import Any, ClassVar

import pytest

from orchestrator.jobs.model import Cost, ErrorCode, Image, Outcome
from orchestrator.jsonio import dump
from orchestrator.providers.hiapi import ASPECT_RATIOS, ERROR_CODES, KEY_CODES
from orchestrator.providers.listing import FULL, LIMITED, REFUSED
from orchestrator.providers.prices import PriceTable
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    TaskNotFound,
    TaskReport,
)
from orchestrator.security.secret import Secret
from orchestrator.security.signatures import BadSignature
from tests.providers.adapter import CALLBACK_URL, KEY, Cases
from tests.providers.contract import ProviderContract
from tests.providers.pages import errors_by_code
from tests.support.cases import for_each
from tests.support.fakes import NOON

TASK = "task_01JD7Q0Z3M9XK4V2"
NEW, OLD = Secret("whsec_new"), Secret("whsec_old")
BODY = b"{}"


class TestHiAPI(ProviderContract):
    name = "hiapi"
    model = "Nano-Banana-2"
    unified: ClassVar[dict[str, Any]] = {
        "prompt": "A cat",
        "images": ["https://e.example/a.png", "http://e.example/b"],
        "aspect_ratio": "21:9",
        "resolution": "4K",
        "output_format": "jpeg",
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
    families: ClassVar[dict[str, dict[str | None, str]]] = {
        "nano-banana-2": {None: "Nano-Banana-2"}
    }
    callback_path = ("callback", "url")
    key_header = "Idempotency-Key"
    support: ClassVar[list[str]] = [FULL, FULL, LIMITED, LIMITED, LIMITED, REFUSED]
    submit_path = "/v1/tasks"
    query_path = "/v1/tasks/{}"
    documented = ("request_text_to_image", "request_reference")
    refused: ClassVar[dict[str, dict[str, Cases]]] = {
        "Nano-Banana-2": {
            "prompt": [("", "at least 1 character"), (7, "a string"), (None, "not null")],
            "images": [
                ("https://e.example/a.png", "a list of URLs"),
                (["ftp://e.example/a.png"], "an http(s) URL"),
                (["https://e.example/a.png", "no link"], "an http(s) URL"),
                ([None], "not null"),
            ],
            "aspect_ratio": [("7:5", "21:9"), ("16x9", "one of auto, 1:1"), (None, "not null")],
            "resolution": [("0.5K", "one of 1K, 2K, 4K"), ("2k", "1K, 2K, 4K"), (2, "1K, 2K, 4K")],
            "output_format": [("webp", "one of png, jpg"), ("PNG", "png, jpg"), ([], "png, jpg")],
        }
    }
    refused_natively: ClassVar[dict[str, dict[str, Cases]]] = {
        "Nano-Banana-2": {
            "input.output_format": [("jpeg", "one of png, jpg")],
            "input.no_such_field": [(1, "a known field: ")],
            "input": [("A cat", "a JSON object")],
        }
    }
    id_field = "taskId"
    success = "success"
    failure = "fail"

    def smallest(self, model: str) -> dict[str, Any]:
        return {"model": model, "input": {"prompt": "A cat"}}

    def with_links(self, *links: Any) -> dict[str, Any]:
        return self.task(output=[{"url": link, "type": "image"} for link in links])

    def enveloped(self, task: Any) -> dict[str, Any]:
        return {"code": 200, "data": task}

    @for_each("ratio", ASPECT_RATIOS)
    def test_every_documented_ratio_is_accepted(self, ratio: str) -> None:
        self.provider.check(self.request(aspect_ratio=ratio))

    def test_the_documented_ratios_are_these_fifteen(self) -> None:
        value = "auto 1:1 1:4 1:8 2:3 3:2 3:4 4:1 4:3 4:5 5:4 8:1 9:16 16:9 21:9"
        assert " ".join(ASPECT_RATIOS) == value

    # Calls ---------------------------------------------------------------------------------

    def test_a_submit_asks_for_the_final_callback(self) -> None:
        call = self.provider.submit_call(self.body, CALLBACK_URL, KEY)

        assert call.body == {**self.body, "callback": {"url": CALLBACK_URL, "when": "final"}}

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("https://your-domain.com/hiapi/callback", None),
            ("https://10.0.0.1/x", None),
            ("http://your-domain.com/hiapi/callback", "only https:// is accepted"),
        ],
    )
    def test_a_callback_is_an_https_url(self, url: str, why: str | None) -> None:
        assert self.provider.callback_refusal(url) == why

    # Models that are not listed ------------------------------------------------------------

    @pytest.mark.parametrize("input_", [{}, {"prompt": "A cat", "duration": 5, "x": [None]}])
    def test_any_other_model_is_accepted_natively_with_any_input(
        self, input_: dict[str, Any]
    ) -> None:
        body = {"model": "some-video-model", "input": input_}

        assert self.written(self.native(body)) == body

    @for_each(
        ("change", "field", "allowed"),
        [
            ({"callback": {"url": CALLBACK_URL}}, "request.callback", "a known field: input"),
            ({"callback_url": CALLBACK_URL}, "request.callback_url", "a known field: input"),
            ({"prompt": "A cat"}, "request.prompt", "a known field: input, model"),
            ({"input": "A cat"}, "request.input", "a JSON object"),
            ({"input": None}, "request.input", "a JSON object"),
        ],
    )
    def test_another_model_accepts_only_model_and_input(
        self, change: dict[str, Any], field: str, allowed: str
    ) -> None:
        body = {"model": "some-video-model", "input": {}, **change}

        [violation] = self.refusals(self.native(body))

        assert violation.field == field
        assert violation.allowed.startswith(allowed)

    def test_another_model_needs_an_input(self) -> None:
        [violation] = self.refusals(self.native({"model": "some-video-model"}))

        assert (violation.field, violation.allowed) == ("request.input", "given")

    def test_in_the_unified_form_another_model_is_refused_with_the_form_that_accepts_it(
        self,
    ) -> None:
        [violation] = self.refusals(self.request("some-video-model"))

        assert "native form" in violation.allowed

    # Prices --------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("options", "price"), [({}, 1.0), ({"resolution": "2K"}, 2.0), ({"resolution": "4K"}, 9.0)]
    )
    def test_a_price_goes_by_the_resolution_which_is_1k_by_default(
        self, options: dict[str, str], price: float
    ) -> None:
        table = PriceTable("USD", {"Nano-Banana-2": {"1K": 1, "2K": 2, "*": 9}})

        assert self.provider.price(self.request(**options), table) == usd(price)

    def test_a_model_that_is_not_listed_may_have_a_price(self) -> None:
        request = self.native({"model": "some-video-model", "input": {"n": 3, "resolution": "4K"}})

        assert self.provider.price(request, PriceTable("USD", {"some-video-model": 2})) == usd(2.0)
        assert self.provider.price(request, PriceTable("USD", {"*": {"1K": 2}})) is None

    # Signatures ----------------------------------------------------------------------------

    def test_a_callback_that_is_signed_with_any_of_the_secrets_is_accepted(self) -> None:
        for secrets in ([NEW], [NEW, OLD], [OLD, NEW]):
            self.provider.verify_callback(signed(BODY, NOON), BODY, secrets, NOON)

    @for_each(
        ("headers", "body", "secret", "later"),
        [
            ({}, b"{} ", "whsec_new", 0),
            ({}, b"{}", "whsec_old", 0),
            ({}, b"{}", "whsec_new", 301_000),
            ({}, b"{}", "whsec_new", -301_000),
            ({"x-hiapi-timestamp": ""}, b"{}", "whsec_new", 0),
            ({"x-hiapi-timestamp": "1796000001"}, b"{}", "whsec_new", 0),
            ({"x-hiapi-signature": ""}, b"{}", "whsec_new", 0),
            ({"x-hiapi-signature": "0" * 64}, b"{}", "whsec_new", 0),
        ],
    )
    def test_one_wrong_part_is_a_bad_signature(
        self, headers: dict[str, str], body: bytes, secret: str, later: int
    ) -> None:
        given = {**signed(BODY, NOON), **headers}

        with pytest.raises(BadSignature):
            self.provider.verify_callback(given, body, [Secret(secret)], NOON + later)

    # Answers to a submit -------------------------------------------------------------------

    def test_the_task_id_is_under_data(self) -> None:
        assert self.submitted(200, self.payload("accepted")) == Accepted(TASK)

    @for_each("code", sorted(ERROR_CODES))
    def test_each_error_code_has_its_meaning_and_the_providers_message(self, code: str) -> None:
        document = self.document(f"error_{code}")

        for status in (200, 400):
            read = self.submitted(status, dump(document))
            assert isinstance(read, Rejected)
            assert (read.error.code, read.error.retryable) == ERROR_CODES[code] or (
                read.error.code is ErrorCode.CONTENT_POLICY
            )
            assert (read.error.provider_code, read.error.message) == (code, document["message"])

    @pytest.mark.parametrize("code", sorted(ERROR_CODES.keys() - {"INVALID_REQUEST"}))
    def test_a_5xx_is_no_proof_that_there_is_no_task(self, code: str) -> None:
        document = self.document(f"error_{code}")
        if "safety" in document["message"]:
            document["message"] = "it failed"

        read = self.submitted(504, dump(document), **{"retry-after": "9"})

        assert read == Ambiguous(f"HTTP 504: {document['message']}", 9.0)

    @pytest.mark.parametrize(
        ("status", "ours", "retryable"),
        [
            (402, ErrorCode.INSUFFICIENT_CREDITS, False),
            (409, ErrorCode.TASK_LIMIT, True),
            (429, ErrorCode.RATE_LIMITED, True),
        ],
    )
    def test_an_unlisted_code_is_a_rejection_by_its_status(
        self, status: int, ours: ErrorCode, retryable: bool
    ) -> None:
        for body in (
            {"message": "no", "error_code": "NEW"},
            {"message": "no"},
            {"error_code": "N"},
        ):
            read = self.submitted(status, dump(body), **{"retry-after": "11"})
            assert isinstance(read, Rejected)
            assert (read.error.code, read.error.retryable) == (ours, retryable)
            assert read.retry_after == 11.0

    @pytest.mark.parametrize("named", [{"code": 504}, {"error_code": "NEW"}, {}])
    def test_the_same_key_goes_out_again_after_its_own_5xx(self, named: dict[str, Any]) -> None:
        body = dump({"message": "upstream request timeout", **named})

        for status in (500, 504):
            read = self.submitted(status, body)
            assert read == Ambiguous(f"HTTP {status}: upstream request timeout")
        if "code" in named:
            assert self.submitted(200, body) == Ambiguous("HTTP 200: upstream request timeout")

    @pytest.mark.parametrize(
        ("code", "status"), list(zip(sorted(KEY_CODES), (422, 409), strict=True))
    )
    def test_an_answer_about_our_own_key_proves_that_the_attempt_arrived(
        self, code: str, status: int
    ) -> None:
        message = self.document(f"error_{code}")["message"]

        read = self.submitted(status, self.payload(f"error_{code}"), **{"retry-after": "2"})

        assert read == Ambiguous(message, 2.0)

    def test_an_error_in_a_2xx_is_a_no(self) -> None:
        body = self.payload("error_INVALID_REQUEST")

        assert isinstance(self.submitted(200, body), Rejected)
        assert isinstance(self.queried(200, body), QueryFailed)

    def test_a_plain_422_is_a_no(self) -> None:
        assert isinstance(self.submitted(422, dump({"message": "bad input"})), Rejected)

    # Answers to a query, and callbacks -----------------------------------------------------

    @pytest.mark.parametrize("state", ["queued", "handling", "archiving"])
    def test_a_task_that_runs_has_no_outcome(self, state: str) -> None:
        body = dump({"code": 200, "data": self.document(f"task_{state}")})

        assert self.queried(200, body) == TaskReport(TASK, state)

    def test_a_success_has_its_images_with_their_expiry(self) -> None:
        task = self.document("task_success")
        link = Image(task["output"][0]["url"], 1_796_604_800_000)

        report = self.queried(200, dump({"code": 200, "data": task}))

        assert report == TaskReport(TASK, "success", Outcome.succeeded((link,)))
        assert self.provider.read_task(task, NOON) == report

    @for_each(
        ("value", "expires"),
        [
            (1_796_604_800, 1_796_604_800_000),
            (1_796_604_800_123, 1_796_604_800_123),
            (0, None),
            (-5, None),
            (10**14, None),
            (True, None),
            ("1796604800", 1_796_604_800_000),
            (3600, NOON + 3_600_000),
            (NOON - 1, None),
            (NOON // 1000 - 1, None),
            ("soon", None),
            ([], None),
            (None, None),
        ],
    )
    def test_an_expiry_is_read_in_seconds_or_ms_and_ignored_when_odd(
        self, value: Any, expires: int | None
    ) -> None:
        task = self.task(output=[{"url": "https://e.example/a.png", "expireAt": value}])

        outcome = self.provider.read_task(task, NOON).outcome

        assert outcome == Outcome.succeeded((Image("https://e.example/a.png", expires),))

    def test_a_failure_has_the_providers_words(self) -> None:
        task = self.document("task_fail")

        outcome = self.provider.read_task(task, NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert outcome.error.code is ErrorCode.CONTENT_POLICY
        assert outcome.error.message == task["error"]["message"]
        assert outcome.error.provider_code == "TASK_FAILED"
        assert not outcome.error.retryable

    def test_a_task_that_timed_out_may_be_tried_again(self) -> None:
        task = self.failed("TASK_TIMEOUT", "too slow")

        outcome = self.provider.read_task(task, NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.retryable) == (ErrorCode.TIMEOUT, True)

    def test_a_query_for_an_unknown_task_is_missing(self) -> None:
        assert self.queried(404, dump({"code": 404, "message": "not found"})) == TaskNotFound()

    def test_a_task_outside_of_its_envelope_is_read_too(self) -> None:
        report = self.queried(200, self.payload("task_success"))

        assert report == self.provider.read_task(self.document("task_success"), NOON)


def signed(body: bytes, now: int) -> dict[str, str]:
    """The headers of a callback that is signed with the newest secret."""
    time = str(now // 1000)
    message = time.encode() + b"." + body
    made = hmac.new(NEW.reveal().encode(), message, hashlib.sha256).hexdigest()
    return {"x-hiapi-timestamp": time, "x-hiapi-signature": made}


def usd(amount: float) -> Cost:
    return Cost(amount, "USD", "computed")


def test_the_page_has_every_error_code_of_the_adapter() -> None:
    assert errors_by_code("hiapi") == ERROR_CODES
