"""kie.ai's adapter: its contract, and the special behaviour."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, ClassVar

import pytest

from orchestrator.jobs.model import Cost, ErrorCode, Image, Outcome
from orchestrator.providers.listing import LIMITED, REFUSED
from orchestrator.providers.responses import Ambiguous, Rejected, TaskNotFound, TaskReport
from orchestrator.security.secret import Secret
from orchestrator.security.signatures import BadSignature
from tests.providers.adapter import CALLBACK_URL, KEY, Cases
from tests.providers.create_task import CreateTaskContract
from tests.providers.pages import errors_by_status
from tests.support.cases import for_each
from tests.support.fakes import NOON

TASK = "task_nano-banana-2_1765178625768"
SECRET, OLD = Secret("webhook-hmac-key"), Secret("the-one-before")
RATIOS = "1:1, 1:4, 1:8, 2:3, 3:2, 3:4, 4:1, 4:3, 4:5, 5:4, 8:1, 9:16, 16:9, 21:9, auto"


def signed(task: str = TASK, secret: Secret = SECRET) -> dict[str, str]:
    """Return the headers as the Python example of "Webhook Security Verification" makes them."""
    timestamp = str(NOON // 1000)
    message = f"{task}.{timestamp}".encode()
    made = hmac.new(secret.reveal().encode(), message, hashlib.sha256).digest()
    return {
        "x-webhook-timestamp": timestamp,
        "x-webhook-signature": base64.b64encode(made).decode(),
    }


class TestKie(CreateTaskContract):
    name = "kie"
    model = "nano-banana-2"
    unified: ClassVar[dict[str, Any]] = {
        "prompt": "A cat",
        "images": ["https://e.example/a.png"],
        "aspect_ratio": "8:1",
        "resolution": "4K",
        "output_format": "jpeg",
    }
    body: ClassVar[dict[str, Any]] = {
        "model": "nano-banana-2",
        "input": {
            "prompt": "A cat",
            "image_input": ["https://e.example/a.png"],
            "aspect_ratio": "8:1",
            "resolution": "4K",
            "output_format": "jpg",
        },
    }
    families: ClassVar[dict[str, dict[str | None, str]]] = {
        "nano-banana-2": {None: "nano-banana-2"},
        "nano-banana-pro": {None: "nano-banana-pro"},
    }
    callback_path = ("callBackUrl",)
    support: ClassVar[list[str]] = [LIMITED, LIMITED, LIMITED, LIMITED, LIMITED, REFUSED]
    documented = ("request_nano_banana_2", "request_nano_banana_2_lite")
    refused: ClassVar[dict[str, dict[str, Cases]]] = {
        "nano-banana-2": {
            "prompt": [("", "1 to 20000"), ("x" * 20_001, "1 to 20000"), (7, "a string")],
            "images": [(["https://e.example/a.png"] * 15, "at most 14 URLs")],
            "aspect_ratio": [("7:5", RATIOS), (None, "not null")],
            "resolution": [("0.5K", "one of 1K, 2K, 4K"), ("2k", "1K, 2K, 4K")],
            "output_format": [("webp", "one of png, jpg"), ("PNG", "png, jpg")],
        },
        "nano-banana-pro": {
            "images": [(["https://e.example/a.png"] * 9, "at most 8 URLs")],
            "aspect_ratio": [("1:8", "one of 1:1, 2:3")],
        },
        "nano-banana-2-lite": {
            "images": [(["https://e.example/a.png"] * 11, "at most 10 URLs")],
            "aspect_ratio": [("7:5", RATIOS)],
        },
    }
    refused_natively: ClassVar[dict[str, dict[str, Cases]]] = {
        "nano-banana-2": {
            "input.google_search": [("yes", "true or false")],
            "input": [("A cat", "a JSON object")],
        }
    }

    # Calls ---------------------------------------------------------------------------------

    def test_any_other_model_of_the_market_is_sent_natively(self) -> None:
        body = {"model": "grok-imagine/text-to-image", "input": {"prompt": "A cat", "x": [None]}}

        assert self.written(self.native(body)) == body

    def test_a_callback_is_an_https_url_and_a_hint(self) -> None:
        assert self.provider.callback_refusal(CALLBACK_URL) is None
        assert self.provider.callback_refusal("http://hooks.example.com/x") is not None
        assert self.provider.capabilities.callback_is_hint
        assert self.provider.submit_call(self.body, CALLBACK_URL, KEY).headers == {}

    # Answers -------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("code", "ours"),
        [
            (401, ErrorCode.AUTHENTICATION),
            (402, ErrorCode.INSUFFICIENT_CREDITS),
            (422, ErrorCode.INVALID_REQUEST),
            (429, ErrorCode.RATE_LIMITED),
        ],
    )
    def test_the_code_counts_before_the_http_status(self, code: int, ours: ErrorCode) -> None:
        for status in (200, code):
            read = self.submitted(status, self.payload(f"error_{code}"))
            assert isinstance(read, Rejected)
            assert read.error.code is ours
        assert code in errors_by_status("kie")

    def test_its_own_500_proves_nothing(self) -> None:
        assert isinstance(self.submitted(500, self.payload("error_500")), Ambiguous)
        assert self.queried(404, self.payload("error_404")) == TaskNotFound()

    def test_a_success_has_its_images_for_a_day_and_its_cost(self) -> None:
        image = Image("https://example.com/generated-content.jpg", NOON + 86_400_000)

        report = self.queried(200, self.payload("task_success"))
        paid = self.queried(200, self.payload("task_success_cost"))

        assert report == TaskReport("task_12345678", "success", Outcome.succeeded((image,)))
        assert isinstance(paid, TaskReport)
        assert paid.outcome == Outcome.succeeded((image,), Cost(8.0, "credits"))

    @for_each("amount", [None, "8", -1, True, float("nan"), 1e12, []])
    def test_an_odd_cost_is_none(self, amount: Any) -> None:
        task = {**self.with_links("https://e.example/a.png"), "creditsConsumed": amount}

        outcome = self.provider.read_task(task, NOON).outcome

        assert outcome is not None
        assert outcome.cost is None

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("task_fail", ErrorCode.GENERATION_FAILED),
            ("task_fail_policy", ErrorCode.CONTENT_POLICY),
        ],
    )
    def test_a_failure_has_the_providers_words(self, name: str, code: ErrorCode) -> None:
        report = self.queried(200, self.payload(name))

        assert isinstance(report, TaskReport)
        assert report.outcome is not None
        assert report.outcome.error is not None
        assert report.outcome.error.code is code
        assert report.outcome.error.message == self.document(name)["data"]["failMsg"]

    def test_a_callback_has_the_task_in_its_envelope(self) -> None:
        report = self.provider.read_callback(self.document("callback"), NOON)

        assert (report.task_id, report.state) == (TASK, "success")

    # Signatures ----------------------------------------------------------------------------

    def test_id_and_time_are_signed_with_any_of_the_secrets(self) -> None:
        body = self.payload("callback")
        for secrets in ([SECRET], [Secret("newer"), SECRET], [SECRET, OLD]):
            self.provider.verify_callback(signed(), body, secrets, NOON)
        other = self.payload("callback_task_id")
        self.provider.verify_callback(signed("task12345"), other, [SECRET], NOON)

    @for_each(
        ("headers", "later", "why"),
        [
            (signed("task_2"), 0, "wrong"),
            (signed(secret=OLD), 0, "wrong"),
            (signed(), 301_000, "300 s off"),
            (signed(), -301_000, "300 s off"),
            ({**signed(), "x-webhook-timestamp": str(NOON // 1000 + 1)}, 0, "wrong"),
            ({"x-webhook-timestamp": str(NOON // 1000)}, 0, "absent"),
            ({}, 0, "absent"),
        ],
    )
    def test_one_wrong_part_is_a_bad_signature(
        self, headers: dict[str, str], later: int, why: str
    ) -> None:
        body = self.payload("callback")

        with pytest.raises(BadSignature, match=why):
            self.provider.verify_callback(headers, body, [SECRET], NOON + later)

    @for_each("body", [b"", b"{", b"[]", b'{"data":[]}', b'{"data":{"taskId":7}}'])
    def test_a_body_without_a_task_is_a_bad_signature(self, body: bytes) -> None:
        with pytest.raises(BadSignature, match="names no task"):
            self.provider.verify_callback(signed(), body, [SECRET], NOON)
