"""fal's adapter: its contract, and the special behaviour."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.jobs.model import Cost, ErrorCode, Image, Status
from orchestrator.jsonio import dump
from orchestrator.net.http_types import Call, Reply
from orchestrator.providers.fal import ERROR_CODES, SIZES
from orchestrator.providers.listing import FULL, LIMITED
from orchestrator.providers.prices import PriceTable
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    TaskNotFound,
)
from orchestrator.providers.responses import TaskReport as Report
from orchestrator.security.public_keys import UnknownKey
from orchestrator.security.secret import Secret
from orchestrator.security.signatures import BadSignature
from tests.providers.adapter import CALLBACK_URL, KEY, Cases
from tests.providers.contract import ProviderContract
from tests.providers.pages import errors_by_code
from tests.support.cases import for_each
from tests.support.fakes import NOON

REQUEST = "123e4567-e89b-12d3-a456-426614174000"
OURS, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([each]) * 32) for each in (1, 2))
KEYS = [OTHER.public_key().public_bytes_raw(), OURS.public_key().public_bytes_raw()]
BODY = b'{"request_id": "123e4567-e89b-12d3-a456-426614174000", "status": "OK"}'
RATIOS: Cases = [("9:21", "21:9, 16:9, 3:2"), (None, "not null")]
FORMATS: Cases = [("gif", "one of jpeg, png, webp"), ("PNG", "jpeg, png, webp")]
#: Errors of a server that may have begun a request.
MAY_HAVE_BEGUN = (ErrorCode.PROVIDER_UNAVAILABLE, ErrorCode.TIMEOUT)
COUNTS: Cases = [(0, "from 1 to 4"), (5, "from 1 to 4"), ("2", "1 to 4"), (1.5, "1 to 4")]


def signed(body: bytes = BODY, at: int = NOON, user: str = "user-1") -> dict[str, str]:
    """Return the headers as the Python example of "Webhooks" expects them."""
    timestamp = str(at // 1000)
    message = "\n".join((REQUEST, user, timestamp, sha256(body).hexdigest()))
    return {
        "x-fal-webhook-request-id": REQUEST,
        "x-fal-webhook-user-id": user,
        "x-fal-webhook-timestamp": timestamp,
        "x-fal-webhook-signature": OURS.sign(message.encode()).hex(),
    }


class TestFal(ProviderContract):
    name = "fal"
    model = "fal-ai/nano-banana-2"
    unified: ClassVar[dict[str, Any]] = {
        "prompt": "A cat",
        "aspect_ratio": "21:9",
        "resolution": "4K",
        "output_format": "jpg",
        "n": 4,
    }
    body: ClassVar[dict[str, Any]] = {
        "model": "fal-ai/nano-banana-2",
        "prompt": "A cat",
        "aspect_ratio": "21:9",
        "resolution": "4K",
        "output_format": "jpeg",
        "num_images": 4,
    }
    families: ClassVar[dict[str, dict[str | None, str]]] = {
        "nano-banana": {None: "fal-ai/nano-banana"},
        "nano-banana-2": {None: "fal-ai/nano-banana-2"},
    }
    support: ClassVar[list[str]] = [FULL, LIMITED, LIMITED, LIMITED, LIMITED, LIMITED]
    submit_path = "/fal-ai/nano-banana-2"
    query_path = "/fal-ai/flux/requests/{}/status"
    documented = ("request_flux_schnell", "request_nano_banana")
    refused: ClassVar[dict[str, dict[str, Cases]]] = {
        "fal-ai/flux/schnell": {
            "prompt": [("", "at least 1 character"), (7, "a string"), (None, "not null")],
            "aspect_ratio": [("21:9", "1:1, 4:3, 3:4, 16:9, 9:16"), ("auto", "1:1, 4:3")],
            "output_format": [("webp", "one of jpeg, png")],
            "n": COUNTS,
        },
        "fal-ai/nano-banana": {"aspect_ratio": RATIOS, "output_format": FORMATS, "n": COUNTS},
        "fal-ai/nano-banana-2": {
            "aspect_ratio": RATIOS,
            "resolution": [("8K", "one of 0.5K, 1K, 2K, 4K"), ("2k", "0.5K, 1K, 2K, 4K")],
        },
        "fal-ai/nano-banana-2/edit": {
            "images": [
                ("https://e.example/a.png", "a list of at least 1"),
                (["x"], "an http(s) URL"),
            ]
        },
    }
    refused_natively: ClassVar[dict[str, dict[str, Cases]]] = {
        "fal-ai/flux/schnell": {
            "image_size": [("16:9", "one of square, square_hd, landscape_4_3")],
            "num_inference_steps": [(51, "from 1 to 50")],
            "guidance_scale": [(21, "from 1 to 20"), ("high", "a number")],
            "enable_safety_checker": [("yes", "true or false")],
            "acceleration": [("fast", "one of none, regular, high")],
            "seed": [(-1, "from 0"), ("7", "a whole number")],
        },
        "fal-ai/nano-banana": {
            "safety_tolerance": [("7", "one of 1, 2, 3, 4, 5, 6"), (4, "1, 2, 3")],
            "limit_generations": [("yes", "true or false")],
            "sync_mode": [("yes", "true or false")],
        },
        "fal-ai/nano-banana-2": {"enable_web_search": [("yes", "true or false")]},
    }
    id_field = "request_id"
    success = "OK"
    failure = "ERROR"
    envelope_state = "fine"

    def inward(self, body: Any) -> Any:
        flux = "tiger" in body["prompt"]
        return {"model": "fal-ai/flux/schnell" if flux else "fal-ai/nano-banana", **body}

    def outward(self, call: Call) -> Any:
        return {"model": call.path.partition("?")[0].removeprefix("/"), **call.body}

    def smallest(self, model: str) -> dict[str, Any]:
        own = self.provider.families[model].default if model in self.families else model
        return {"model": own, "prompt": "A cat"}

    def with_links(self, *links: Any) -> dict[str, Any]:
        shown = [{"url": link} if isinstance(link, str) else link for link in links]
        return self.task(payload={"images": shown})

    def enveloped(self, task: Any) -> Any:
        return task

    def completed(self) -> Reply:
        """The answer to a query of the status of a request that has ended."""
        return Reply(200, {}, self.payload("task_completed"))

    def result(self, status: int, name: str) -> Report | TaskNotFound | QueryFailed:
        return self.provider.read_result(REQUEST, Reply(status, {}, self.payload(name)), NOON)

    # Calls ---------------------------------------------------------------------------------

    def test_the_callback_url_is_where_the_document_has_it(self) -> None:
        url = "https://hooks.example.com/callbacks/fal/job_1.1/Ab-_?x=1&y=2#z"

        call = self.provider.submit_call(self.body, url, KEY)

        assert call.path == (
            "/fal-ai/nano-banana-2?fal_webhook=https%3A%2F%2Fhooks.example.com%2Fcallbacks"
            "%2Ffal%2Fjob_1.1%2FAb-_%3Fx%3D1%26y%3D2%23z"
        )
        assert self.outward(call) == self.body
        assert self.provider.capabilities.callbacks

    def test_the_key_has_a_scheme_of_its_own(self) -> None:
        call = self.provider.authorize(Call("GET", "/x", {"a": "b"}), Secret("id:secret"))

        assert call.headers == {"Authorization": "Key id:secret", "a": "b"}

    def test_a_callback_is_an_https_url(self) -> None:
        assert self.provider.callback_refusal(CALLBACK_URL) is None
        assert self.provider.callback_refusal("http://hooks.example.com/x") is not None

    def test_an_address_has_owner_and_app_of_the_model_alone(self) -> None:
        for model in ("fal-ai/flux/dev", "fal-ai/flux", "fal-ai/flux/dev/image-to-image"):
            call = self.provider.model_query_call("a/../b", model)
            assert call == Call("GET", "/fal-ai/flux/requests/a%2F..%2Fb/status")
            call = self.provider.result_call("a/../b", model, self.completed()) or call
            assert call == Call("GET", "/fal-ai/flux/requests/a%2F..%2Fb")

    def test_a_result_is_asked_for_when_the_request_has_ended(self) -> None:
        for status, name in ((202, "task_in_queue"), (202, "task_in_progress"), (404, "error_404")):
            reply = Reply(status, {}, self.payload(name))
            assert self.provider.result_call(REQUEST, self.model, reply) is None
        for body in (b"", b"[]", b"{}", b'{"status": 7}'):
            assert self.provider.result_call(REQUEST, self.model, Reply(200, {}, body)) is None
        reply = replace(self.completed(), status=503)
        assert self.provider.result_call(REQUEST, self.model, reply) is None

    # Requests ------------------------------------------------------------------------------

    @pytest.mark.parametrize("model", ["fal-ai/fast-sdxl", "my-name/my_app.v2/fast/image-to-image"])
    def test_any_other_model_is_sent_natively(self, model: str) -> None:
        body = {"model": model, "prompt": "A cat", "loras": [{"path": "x"}], "more": None}

        assert self.written(self.native(body)) == body

    @for_each(
        "model",
        [
            "",
            "flux",
            "../x",
            "a/../b",
            "a/b?x",
            "a/b#x",
            "a/b/",
            "/a/b",
            "a//b",
            "a/b\n",
            "a/.b",
            7,
        ],
    )
    def test_the_name_of_a_model_cannot_leave_its_place(self, model: Any) -> None:
        [violation] = self.refusals(self.native({"prompt": "A cat", "model": model}, model="x"))

        assert violation.field in ("request.model", "model")

    def test_a_family_name_is_no_model_of_a_native_request(self) -> None:
        for name in self.provider.families:
            [violation] = self.refusals(self.native({**self.body, "model": name}))
            assert (violation.field, violation.value) == ("request.model", name)
            assert violation.allowed == "a name such as owner/model"

    def test_a_ratio_has_the_name_of_a_size(self) -> None:
        for ratio, size in SIZES.items():
            body = self.written(self.request("fal-ai/flux/dev", aspect_ratio=ratio))
            assert body["image_size"] == size

    def test_a_price_counts_the_images_and_goes_by_the_resolution(self) -> None:
        table = PriceTable(
            "USD", {"fal-ai/flux/schnell": 0.003, "fal-ai/nano-banana-2": {"1K": 0.08, "4K": 0.16}}
        )
        flux, banana = self.request("fal-ai/flux/schnell", n=3), self.request(n=2, resolution="4K")

        assert self.provider.price(flux, table) == Cost(0.009, "USD", "computed")
        assert self.provider.price(self.request(), table) == Cost(0.08, "USD", "computed")
        assert self.provider.price(banana, table) == Cost(0.32, "USD", "computed")

    # Answers -------------------------------------------------------------------------------

    def test_a_submit_answers_with_an_id(self) -> None:
        accepted = self.submitted(200, self.payload("accepted"))

        assert accepted == Accepted("80e732af-660e-45cd-bd63-580e4f2a94cc")

    def test_the_links_live_for_seven_days(self) -> None:
        outcome = self.provider.read_task(self.document("task_ok"), NOON).outcome

        assert outcome is not None
        assert outcome.images == (Image("https://url.to/image.png", NOON + 7 * 86_400_000),)

    def test_a_status_alone_is_no_result(self) -> None:
        for name in ("task_in_queue", "task_in_progress", "task_completed"):
            report = self.queried(200, self.payload(name))
            assert isinstance(report, Report)
            assert report.outcome is None

    def test_an_error_has_the_models_reason(self) -> None:
        outcome = self.provider.read_task(self.document("task_error"), NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert outcome.status is Status.FAILED
        assert outcome.error.message == "body.prompt: field required"
        assert outcome.error.provider_code == "value_error.missing"

    def test_an_output_that_fal_could_not_send_makes_us_ask_for_it(self) -> None:
        report = self.provider.read_task(self.document("task_payload_error"), NOON)

        assert report.outcome is None
        assert report.thin_success is not None
        assert "not JSON serializable" in report.thin_success.message

    def test_a_result_is_the_output_or_the_models_error(self) -> None:
        good, bad = self.result(200, "result"), self.result(422, "error_422_policy")
        late = self.result(504, "error_504")

        assert isinstance(good, Report)
        assert (good.task_id, self.links_of(good)) == (REQUEST, ["https://url.to/image.png"])
        for read, code, retryable in (
            (bad, ErrorCode.CONTENT_POLICY, False),
            (late, ErrorCode.TIMEOUT, True),
        ):
            assert isinstance(read, Report)
            assert read.outcome is not None
            assert read.outcome.error is not None
            assert (read.outcome.error.code, read.outcome.error.retryable) == (code, retryable)

    def test_a_result_without_an_answer_of_the_model_is_a_failed_query(self) -> None:
        assert self.result(404, "error_404") == TaskNotFound()
        assert isinstance(self.result(401, "error_401"), QueryFailed)
        for status, body in ((502, b"<html>"), (503, b"{}"), (200, b"[]"), (200, b"")):
            read = self.provider.read_result(REQUEST, Reply(status, {}, body), NOON)
            assert isinstance(read, QueryFailed)

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("401", ErrorCode.AUTHENTICATION),
            ("403", ErrorCode.INSUFFICIENT_CREDITS),
            ("422_policy", ErrorCode.CONTENT_POLICY),
        ],
    )
    def test_a_refusal_has_its_code(self, name: str, code: ErrorCode) -> None:
        read = self.submitted(int(name[:3]), self.payload(f"error_{name}"))

        assert isinstance(read, Rejected)
        assert read.error.code is code

    @for_each("error_type", [t for t, (c, _) in ERROR_CODES.items() if c in MAY_HAVE_BEGUN])
    def test_a_typed_5xx_of_a_submission_proves_nothing(self, error_type: str) -> None:
        body = dump({"detail": "m", "error_type": error_type})

        for status in (500, 502, 503, 504):
            assert isinstance(self.submitted(status, body), Ambiguous), status

    @for_each("error_type", ERROR_CODES)
    def test_a_type_means_the_same_in_a_callback_and_in_a_result(self, error_type: str) -> None:
        payload = {"detail": [{"loc": ["body"], "msg": "m", "type": error_type}]}
        task = self.task(status="ERROR", error="Invalid status code: 422", payload=payload)
        results = [
            self.provider.read_task(task, NOON),
            self.provider.read_result("task-1", Reply(422, {}, dump(payload)), NOON),
        ]

        for report in results:
            assert isinstance(report, Report)
            assert report.outcome is not None
            assert report.outcome.error is not None
            found = (report.outcome.error.code, report.outcome.error.retryable)
            assert found == ERROR_CODES[error_type]

    # Signatures ----------------------------------------------------------------------------

    def test_a_callback_is_signed_by_one_of_the_keys(self) -> None:
        for headers in (signed(), signed(user=""), signed(at=NOON - 300_000)):
            self.provider.verify_callback_by_keys(headers, BODY, KEYS, NOON)

    @pytest.mark.parametrize("part", ["request-id", "user-id", "timestamp"])
    def test_each_part_is_signed(self, part: str) -> None:
        changed = signed() | {f"x-fal-webhook-{part}": str(NOON // 1000 + 1)}

        with pytest.raises(UnknownKey):
            self.provider.verify_callback_by_keys(changed, BODY, KEYS, NOON)
        changed.pop(f"x-fal-webhook-{part}")
        with pytest.raises(BadSignature):
            self.provider.verify_callback_by_keys(changed, BODY, KEYS, NOON)

    def test_another_body_or_key_is_refused(self) -> None:
        for body, keys in ((b"{}", KEYS), (BODY + b" ", KEYS), (BODY, KEYS[:1])):
            with pytest.raises(UnknownKey):
                self.provider.verify_callback_by_keys(signed(), body, keys, NOON)

    @pytest.mark.parametrize("seconds", [-301, 301, 86_400])
    def test_an_old_or_future_callback_is_refused(self, seconds: int) -> None:
        with pytest.raises(BadSignature, match="300 s off"):
            self.provider.verify_callback_by_keys(signed(), BODY, KEYS, NOON + seconds * 1000)

    @for_each("signature", ["", "00", "g" * 128, "00" * 63, " " + "0" * 127])
    def test_an_absent_or_odd_signature_is_refused_without_a_fetch(self, signature: str) -> None:
        headers = signed() | {"x-fal-webhook-signature": signature}

        with pytest.raises(BadSignature) as refusal:
            self.provider.verify_callback_by_keys(headers, BODY, KEYS, NOON)
        assert not isinstance(refusal.value, UnknownKey)


def test_the_page_has_every_error_code_of_the_adapter() -> None:
    assert errors_by_code("fal") == ERROR_CODES
