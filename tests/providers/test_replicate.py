"""Replicate's adapter: its contract, and the special behaviour."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from orchestrator.jobs.model import Cost, ErrorCode, Image, Status
from orchestrator.jsonio import dump
from orchestrator.net.http_types import Call
from orchestrator.providers.listing import FULL, LIMITED
from orchestrator.providers.prices import PriceTable
from orchestrator.providers.replicate import ERROR_CODES
from orchestrator.providers.responses import Rejected, TaskNotFound, TaskReport
from orchestrator.security.secret import Secret
from orchestrator.security.signatures import BadSignature
from tests.providers.adapter import CALLBACK_URL, KEY, Cases
from tests.providers.contract import ProviderContract
from tests.providers.pages import errors_by_code
from tests.support.cases import for_each
from tests.support.fakes import NOON

#: The published example of Standard Webhooks. The tests of replicate-python use it, too.
SECRET = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
SIGNED_AT = 1_614_265_330
SIGNED = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(SIGNED_AT),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
SIGNED_BODY = b'{"test": 2432232314}'
RESOLUTION: Cases = [("0.5K", "one of 1K, 2K, 4K"), ("2k", "1K, 2K, 4K")]


class TestReplicate(ProviderContract):
    name = "replicate"
    model = "black-forest-labs/flux-schnell"
    unified: ClassVar[dict[str, Any]] = {
        "prompt": "A cat",
        "aspect_ratio": "9:21",
        "output_format": "jpeg",
        "n": 4,
    }
    body: ClassVar[dict[str, Any]] = {
        "model": "black-forest-labs/flux-schnell",
        "input": {
            "prompt": "A cat",
            "aspect_ratio": "9:21",
            "output_format": "jpg",
            "num_outputs": 4,
        },
    }
    families: ClassVar[dict[str, dict[str | None, str]]] = {
        "nano-banana": {None: "google/nano-banana"},
        "nano-banana-2": {None: "google/nano-banana-2"},
        "nano-banana-pro": {None: "google/nano-banana-pro"},
    }
    callback_path = ("webhook",)
    support: ClassVar[list[str]] = [FULL, LIMITED, LIMITED, LIMITED, LIMITED, LIMITED]
    submit_path = "/v1/predictions"
    query_path = "/v1/predictions/{}"
    documented = ("request_flux_schnell", "request_nano_banana")
    refused: ClassVar[dict[str, dict[str, Cases]]] = {
        "black-forest-labs/flux-schnell": {
            "prompt": [("", "at least 1 character"), (7, "a string"), (None, "not null")],
            "aspect_ratio": [("auto", "9:21"), ("16x9", "one of 1:1, 16:9"), (None, "not null")],
            "output_format": [("gif", "one of webp, jpg, png"), ("PNG", "webp, jpg, png")],
            "n": [(0, "from 1 to 4"), (5, "from 1 to 4"), ("2", "1 to 4"), (1.5, "1 to 4")],
        },
        "google/nano-banana": {
            "images": [("https://e.example/a.png", "a list of URLs"), (["x"], "an http(s) URL")],
            "aspect_ratio": [("9:21", "one of match_input_image, 1:1")],
            "output_format": [("webp", "one of jpg, png")],
        },
        "google/nano-banana-2": {
            "images": [(["https://e.example/a.png"] * 15, "at most 14 URLs")],
            "aspect_ratio": [("9:21", "4:1, 8:1")],
            "resolution": RESOLUTION,
        },
        "google/nano-banana-pro": {"resolution": RESOLUTION},
    }
    refused_natively: ClassVar[dict[str, dict[str, Cases]]] = {
        "black-forest-labs/flux-schnell": {
            "input.num_inference_steps": [(5, "from 1 to 4")],
            "input.output_quality": [(101, "from 0 to 100")],
            "input.seed": [(-1, "from 0"), ("7", "a whole number")],
            "input.go_fast": [("yes", "true or false")],
            "input": [("A cat", "a JSON object")],
        },
        "black-forest-labs/flux-dev": {
            "input.guidance": [(11, "from 0 to 10"), ("high", "a number")],
            "input.image": [("ftp://e.example/a.png", "an http(s) URL")],
        },
    }
    id_field = "id"
    success = "succeeded"
    failure = "failed"

    def inward(self, body: Any) -> Any:
        return {"model": body["version"], "input": body["input"]}

    def outward(self, call: Call) -> Any:
        body = dict(call.body)
        return {"model": body.pop("version"), **body}

    def smallest(self, model: str) -> dict[str, Any]:
        own = self.provider.families[model].default if model in self.families else model
        return {"model": own, "input": {"prompt": "A cat"}}

    def with_links(self, *links: Any) -> dict[str, Any]:
        return self.task(output=list(links))

    def enveloped(self, task: Any) -> Any:
        return task

    # Calls ---------------------------------------------------------------------------------

    def test_only_the_end_calls_back_and_the_request_does_not_wait(self) -> None:
        call = self.provider.submit_call(self.body, CALLBACK_URL, KEY)

        assert call.body["webhook_events_filter"] == ["completed"]
        assert "model" not in call.body
        assert call.headers == {}

    @pytest.mark.parametrize(
        "model",
        ["stability-ai/sdxl", f"stability-ai/sdxl:{'a' * 64}", "b" * 64],
    )
    def test_any_other_model_or_version_is_sent_natively(self, model: str) -> None:
        body = {"model": model, "input": {"prompt": "A cat", "width": 768, "x": [None]}}

        assert self.written(self.native(body)) == body

    def test_a_callback_is_an_https_url(self) -> None:
        assert self.provider.callback_refusal(CALLBACK_URL) is None
        assert self.provider.callback_refusal("http://hooks.example.com/x") is not None

    # Prices --------------------------------------------------------------------------------

    def test_a_price_counts_the_outputs_and_goes_by_the_resolution(self) -> None:
        table = PriceTable(
            "USD",
            {
                "black-forest-labs/flux-schnell": 0.003,
                "google/nano-banana-pro": {"2K": 0.15, "4K": 0.3},
            },
        )
        pro = self.request("nano-banana-pro"), self.request("nano-banana-pro", resolution="4K")

        assert self.provider.price(self.request(n=3), table) == usd(0.009)
        assert self.provider.price(self.request(), table) == usd(0.003)
        assert [self.provider.price(each, table) for each in pro] == [usd(0.15), usd(0.3)]

    # Answers -------------------------------------------------------------------------------

    def test_the_links_live_for_an_hour(self) -> None:
        task = self.document("task_succeeded")

        outcome = self.provider.read_task(task, NOON).outcome

        assert outcome is not None
        assert outcome.images == (Image(task["output"][0], NOON + 3_600_000),)

    def test_an_output_is_a_link_or_a_list_of_links(self) -> None:
        for name, count in (("task_succeeded_one", 1), ("task_succeeded_several", 4)):
            report = self.provider.read_task(self.document(name), NOON)
            assert report.outcome is not None
            assert len(report.outcome.images) == count

    @pytest.mark.parametrize(
        ("name", "status", "code", "retryable"),
        [
            ("task_failed", Status.FAILED, ErrorCode.TIMEOUT, True),
            ("task_failed_nsfw", Status.FAILED, ErrorCode.CONTENT_POLICY, False),
            ("task_canceled", Status.CANCELLED, ErrorCode.CANCELLED, False),
            ("task_aborted", Status.CANCELLED, ErrorCode.CANCELLED, False),
        ],
    )
    def test_a_prediction_without_success_has_its_reason(
        self, name: str, status: Status, code: ErrorCode, retryable: bool
    ) -> None:
        outcome = self.provider.read_task(self.document(name), NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert outcome.status is status
        assert (outcome.error.code, outcome.error.retryable) == (code, retryable)

    def test_a_removed_output_is_not_bought_again(self) -> None:
        report = self.queried(200, self.payload("task_removed"))

        assert isinstance(report, TaskReport)
        assert report.thin_success is not None
        assert report.thin_success.message == "Replicate has removed the output"
        assert not report.thin_success.retryable

    @for_each(
        ("name", "code", "wait"),
        [
            ("401", ErrorCode.AUTHENTICATION, None),
            ("402", ErrorCode.INSUFFICIENT_CREDITS, None),
            ("422", ErrorCode.INVALID_REQUEST, None),
            ("429", ErrorCode.RATE_LIMITED, 30.0),
            ("429_older", ErrorCode.RATE_LIMITED, 1.0),
        ],
    )
    def test_a_refusal_has_its_code_and_the_wait_in_its_words(
        self, name: str, code: ErrorCode, wait: float | None
    ) -> None:
        read = self.submitted(int(name[:3]), self.payload(f"error_{name}"))

        assert isinstance(read, Rejected)
        assert (read.error.code, read.retry_after) == (code, wait)
        assert read.error.message == self.document(f"error_{name}")["detail"]

    def test_a_wait_in_the_header_counts_before_the_words(self) -> None:
        read = self.submitted(429, self.payload("error_429"), **{"retry-after": "7"})

        assert isinstance(read, Rejected)
        assert read.retry_after == 7.0

    def test_an_unknown_prediction_is_missing(self) -> None:
        assert self.queried(404, self.payload("error_404")) == TaskNotFound()
        assert self.submitted(201, self.payload("accepted")) == self.submitted(
            200, dump({"id": "heat2o3bzn3ahtr6bjfftvbaci"})
        )

    # Signatures ----------------------------------------------------------------------------

    def test_a_callback_is_signed_by_standard_webhooks(self) -> None:
        for secrets in ([SECRET], [Secret("whsec_" + "A" * 44), SECRET]):
            self.provider.verify_callback(SIGNED, SIGNED_BODY, secrets, SIGNED_AT * 1000)
        with pytest.raises(BadSignature, match="the signature is wrong"):
            self.provider.verify_callback(SIGNED, b"{}", [SECRET], SIGNED_AT * 1000)
        with pytest.raises(BadSignature, match="300 s off"):
            self.provider.verify_callback(SIGNED, SIGNED_BODY, [SECRET], NOON)

    def test_a_secret_has_the_form_of_standard_webhooks(self) -> None:
        assert self.provider.webhook_secret_refusal(SECRET.reveal()) is None
        assert "whsec_" in (self.provider.webhook_secret_refusal("my secret") or "")


def usd(amount: float) -> Cost:
    return Cost(amount, "USD", "computed")


def test_the_page_has_every_error_code_of_the_adapter() -> None:
    assert errors_by_code("replicate") == ERROR_CODES
