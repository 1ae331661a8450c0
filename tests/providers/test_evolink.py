from __future__ import annotations

from typing import Any, ClassVar

import pytest

from orchestrator.jobs.model import Cost, ErrorCode, Image, Outcome, Status
from orchestrator.jsonio import dump
from orchestrator.providers.evolink import ERROR_TYPES, SIZES, TASK_ERRORS
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
from tests.providers.adapter import Cases
from tests.providers.contract import ProviderContract
from tests.providers.pages import errors_by_code
from tests.support.cases import for_each
from tests.support.fakes import NOON

TASK = "task-unified-1757165031-uyujaw3d"
COST = Cost(1.6, "credits")
#: What each documented error comes to.
WORDS = {
    400: "Invalid request parameters",
    401: "Invalid or expired token",
    402: "Insufficient quota; EvoLink suggests: https://evolink.ai/dashboard/billing",
    403: "Access denied for this model (model)",
    404: "Specified model not found (model); EvoLink suggests: gemini-3-pro-image-preview",
    413: "Image file too large (image_urls); EvoLink suggests: compress image to under 4MB",
    429: "Rate limit exceeded; EvoLink suggests: retry after 60 seconds",
    500: "Internal server error; EvoLink suggests: try again later",
    502: "Upstream AI service unavailable; EvoLink suggests: try different model",
    503: "Service temporarily unavailable; EvoLink suggests: retry after 30 seconds",
}
DAY = 86_400_000


class TestEvoLink(ProviderContract):
    name = "evolink"
    model = "nano-banana-2-lite"
    unified: ClassVar[dict[str, Any]] = {
        "prompt": "A cat",
        "images": ["https://e.example/a.png", "http://e.example/b.webp?v=1#top"],
        "aspect_ratio": "21:9",
        "resolution": "4K",
    }
    body: ClassVar[dict[str, Any]] = {
        "model": "nano-banana-2-lite",
        "prompt": "A cat",
        "image_urls": ["https://e.example/a.png", "http://e.example/b.webp?v=1#top"],
        "size": "21:9",
        "quality": "4K",
    }
    families: ClassVar[dict[str, dict[str | None, str]]] = {
        "nano-banana-2": {None: "gemini-3-pro-image-preview"},
        "nano-banana-pro": {None: "gemini-3-pro-image-preview"},
    }
    callback_path = ("callback_url",)
    support: ClassVar[list[str]] = [LIMITED, LIMITED, LIMITED, LIMITED, REFUSED, REFUSED]
    submit_path = "/v1/images/generations"
    query_path = "/v1/tasks/{}"
    documented = ("request_text_to_image",)
    refused: ClassVar[dict[str, dict[str, Cases]]] = {
        model: {
            "prompt": [("", "1 to 2000"), ("x" * 2001, "1 to 2000"), (7, "a string")],
            "images": [
                (["https://e.example/a.png"] * 11, "at most 10 URLs"),
                (["https://e.example/a.gif"], ".jpeg, .jpg, .png, .webp"),
                (["https://e.example/a.GIF?b=c.png"], ".jpeg, .jpg, .png, .webp"),
                (["ftp://e.example/a.png"], "an http(s) URL"),
                ("https://e.example/a.png", "a list of at most 10 URLs"),
            ],
            "aspect_ratio": [("1:8", "21:9"), ("4:1", "one of auto, 1:1"), (None, "not null")],
            "resolution": [("8K", "one of 1K, 2K, 4K"), ("2k", "1K, 2K, 4K"), (None, "not null")],
        }
        for model in ("nano-banana-2-lite", "gemini-3-pro-image-preview")
    }
    refused_natively: ClassVar[dict[str, dict[str, Cases]]] = {
        "nano-banana-2-lite": {
            "n": [(1, "a known field: ")],
            "output_format": [("png", "a known field: ")],
        }
    }
    id_field = "id"
    success = "completed"
    failure = "failed"

    def smallest(self, model: str) -> dict[str, Any]:
        return {"model": model, "prompt": "A cat"}

    def with_links(self, *links: Any) -> dict[str, Any]:
        return self.task(results=list(links))

    def enveloped(self, task: Any) -> dict[str, Any]:
        """A query answers the task as it is."""
        return task if isinstance(task, dict) else {"data": task}

    @for_each("size", SIZES)
    def test_every_documented_size_is_accepted(self, size: str) -> None:
        self.provider.check(self.request(aspect_ratio=size))

    def test_the_documented_sizes_are_these_eleven(self) -> None:
        assert " ".join(SIZES) == "auto 1:1 2:3 3:2 3:4 4:3 4:5 5:4 9:16 16:9 21:9"

    def test_the_limits_themselves_are_accepted(self) -> None:
        ten = [f"https://e.example/{n}.JPG" for n in range(10)]

        self.provider.check(self.request(prompt="x" * 2000, images=ten))

    def test_both_models_take_the_same(self) -> None:
        assert list(self.provider.models) == ["nano-banana-2-lite", "gemini-3-pro-image-preview"]

    def test_the_documented_images_are_accepted(self) -> None:
        images = ["https://example.com/image1.png", "https://example.com/image2.png"]

        assert self.written(self.request(images=images))["image_urls"] == images

    # Callbacks -----------------------------------------------------------------------------

    @for_each(
        "url",
        [
            "https://your-domain.com/webhooks/image-task-completed",
            "https://hooks.example.com:8443/x?y=z",
            "https://8.8.8.8/x",
            "https://172.32.0.1/x",
            "https://hooks.example.com/" + "x" * 2022,
        ],
    )
    def test_a_public_https_address_is_called_back(self, url: str) -> None:
        assert self.provider.callback_refusal(url) is None

    def test_any_other_address_is_refused_with_the_reason(self) -> None:
        for url, why in [
            ("http://hooks.example.com/x", "only https:// is accepted"),
            ("ftp://hooks.example.com/x", "only https:// is accepted"),
            ("https://hooks.example.com/" + "x" * 2023, "at most 2048 characters are accepted"),
            *(
                (f"https://{host}/x", "a private or loopback host is refused")
                for host in (
                    "127.0.0.1",
                    "10.1.2.3:8443",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "169.254.169.254",
                    "0.0.0.0",
                    "localhost",
                    "LOCALHOST",
                    "api.localhost",
                    "printer.local",
                    "redis.internal",
                    "[::1]",
                    "[fd00::1]",
                    "[::ffff:10.0.0.1]",
                )
            ),
        ]:
            assert self.provider.callback_refusal(url) == why

    @for_each(
        "url",
        [
            *("https://e.example/a", "https://e.example/a?b=c.png", "https://e.example/render.php"),
            *("https://my_cdn.e_x.example/a.png", "http://_a/b_c.jpg", "https://e.example/a.png/"),
        ],
    )
    def test_a_link_of_a_reference_image_may_have_any_form(self, url: str) -> None:
        assert self.written(self.request(images=[url]))["image_urls"] == [url]

    # Prices --------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("options", "price"), [({}, 2.0), ({"resolution": "1K"}, 1.0), ({"resolution": "4K"}, 9.0)]
    )
    def test_a_price_goes_by_the_quality_which_is_2k_by_default(
        self, options: dict[str, str], price: float
    ) -> None:
        table = PriceTable("credits", {"nano-banana-2-lite": {"1K": 1, "2K": 2, "*": 9}})

        cost = self.provider.price(self.request(**options), table)

        assert cost == Cost(price, "credits", "computed")

    # Answers to a submit -------------------------------------------------------------------

    def test_the_task_comes_with_its_estimate_and_cost(self) -> None:
        assert self.submitted(200, self.payload("accepted")) == Accepted(TASK, 45.0, COST)

    @for_each("odd", [None, "45", -1, True, 1e300, [], {}])
    def test_an_odd_estimate_or_cost_is_left_out(self, odd: Any) -> None:
        task = self.document("accepted")
        task["task_info"] = {"estimated_time": odd}
        task["usage"] = {"credits_reserved": odd}

        assert self.submitted(200, dump(task)) == Accepted(TASK)

    @for_each(
        ("status", "kind", "code", "retryable", "wait"),
        [
            (400, "invalid_request_error", ErrorCode.INVALID_REQUEST, False, None),
            (401, "authentication_error", ErrorCode.AUTHENTICATION, False, None),
            (402, "insufficient_quota_error", ErrorCode.INSUFFICIENT_CREDITS, False, None),
            (403, "permission_error", ErrorCode.PERMISSION, False, None),
            (404, "not_found_error", ErrorCode.NOT_FOUND, False, None),
            (413, "request_too_large_error", ErrorCode.TOO_LARGE, False, None),
            (429, "rate_limit_error", ErrorCode.RATE_LIMITED, True, 60.0),
            (500, "internal_server_error", ErrorCode.PROVIDER_UNAVAILABLE, True, None),
            (502, "upstream_error", ErrorCode.PROVIDER_UNAVAILABLE, True, None),
            (503, "service_unavailable_error", ErrorCode.PROVIDER_UNAVAILABLE, True, 30.0),
        ],
    )
    def test_each_documented_error_is_a_no(
        self, status: int, kind: str, code: ErrorCode, retryable: bool, wait: float | None
    ) -> None:
        value = self.document(f"error_{status}")["error"]

        read = self.submitted(status, self.payload(f"error_{status}"))

        assert isinstance(read, Rejected)
        assert (read.error.code, read.error.retryable) == (code, retryable)
        assert read.error.provider_code == kind == value["type"]
        assert read.error.message == WORDS[status]
        assert read.error.message.startswith(value["message"])
        assert read.retry_after == wait

    @pytest.mark.parametrize("odd", [None, 7, [], {}])
    def test_an_odd_detail_of_an_error_is_left_out(self, odd: Any) -> None:
        error = {"message": "no", "param": odd, "fallback_suggestion": odd}

        read = self.submitted(400, dump({"error": error}))

        assert isinstance(read, Rejected)
        assert read.error.message == "no"

    def test_the_details_of_an_error_are_shortened(self) -> None:
        error = {"message": "m" * 5000, "param": "p" * 5000, "fallback_suggestion": "s" * 5000}

        read = self.submitted(400, dump({"error": error}))

        assert isinstance(read, Rejected)
        value = f"{'m' * 1000} ({'p' * 100}); EvoLink suggests: {'s' * 200}"
        assert read.error.message == value

    @for_each(
        ("hint", "seconds"),
        [
            ("retry after 1 second", 1.0),
            ("please retry after 9999 seconds", 9999.0),
            ("retry after 99999 seconds", None),
            ("retry after a while", None),
            ("retry after -5 seconds", None),
            (60, None),
            (None, None),
        ],
    )
    def test_only_a_hint_of_the_documented_form_is_one(
        self, hint: Any, seconds: float | None
    ) -> None:
        error = {"message": "no", "type": "rate_limit_error", "fallback_suggestion": hint}

        read = self.submitted(429, dump({"error": error}))

        assert isinstance(read, Rejected)
        assert read.retry_after == seconds

    def test_an_error_in_a_2xx_is_a_no(self) -> None:
        read = self.submitted(200, self.payload("error_429"))

        assert isinstance(read, Rejected)
        assert (read.error.code, read.retry_after) == (ErrorCode.RATE_LIMITED, 60.0)
        assert self.queried(200, self.payload("error_404")) == TaskNotFound()

    def test_an_undocumented_5xx_is_no_proof_that_there_is_no_task(self) -> None:
        own = {"message": "upstream request timeout", "type": "upstream_error"}
        for error in ({"message": "x"}, {"message": "x", "code": 504}, {"type": "new"}, own):
            assert isinstance(self.submitted(504, dump({"error": error})), Ambiguous)

    def test_a_retry_after_header_comes_before_the_hint(self) -> None:
        read = self.submitted(429, self.payload("error_429"), **{"retry-after": "3"})

        assert isinstance(read, Rejected)
        assert read.retry_after == 3.0

    def test_the_type_counts_before_the_status(self) -> None:
        body = dump({"error": {"code": 400, "message": "slow down", "type": "rate_limit_error"}})

        read = self.submitted(400, body)

        assert isinstance(read, Rejected)
        assert (read.error.code, read.error.retryable) == (ErrorCode.RATE_LIMITED, True)

    def test_an_unlisted_type_is_a_rejection_by_its_status(self) -> None:
        odd: list[dict[str, Any]] = [{"type": "new"}, {}, {"type": 7}]
        for error in odd:
            read = self.submitted(429, dump({"error": error}))
            assert isinstance(read, Rejected)
            assert read.error.code is ErrorCode.RATE_LIMITED

    # Answers to a query, and callbacks -----------------------------------------------------

    @pytest.mark.parametrize("state", ["pending", "processing"])
    def test_a_task_that_runs_has_no_outcome(self, state: str) -> None:
        assert self.queried(200, self.payload(f"task_{state}")) == TaskReport(TASK, state)

    def test_a_success_has_its_images_which_live_for_a_day_and_its_cost(self) -> None:
        task = self.document("task_completed")
        link = Image(task["results"][0], NOON + DAY)

        report = self.queried(200, self.payload("task_completed"))

        assert report == TaskReport(TASK, "completed", Outcome.succeeded((link,), COST))
        assert self.provider.read_task(task, NOON) == report

    def test_a_failure_has_the_providers_words(self) -> None:
        task = self.document("task_failed")

        outcome = self.provider.read_task(task, NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert outcome.error.code is ErrorCode.CONTENT_POLICY
        assert outcome.error.message == task["error"]["message"]
        assert outcome.error.provider_code == "content_policy_violation"
        assert outcome.cost == COST

    def test_a_cancelled_task_is_a_cancelled_job(self) -> None:
        outcome = self.provider.read_task(self.document("task_cancelled"), NOON).outcome

        assert outcome is not None
        assert outcome.status is Status.CANCELLED
        assert outcome.error is not None
        assert outcome.error.code is ErrorCode.CANCELLED

    @for_each(
        ("code", "retryable"),
        [
            ("content_policy_violation", False),
            ("invalid_parameters", False),
            ("image_processing_error", False),
            ("image_dimension_mismatch", False),
            ("request_cancelled", False),
            ("generation_failed_no_content", True),
            ("service_error", True),
            ("generation_timeout", True),
            ("resource_exhausted", True),
            ("quota_exceeded", True),
            ("service_unavailable", True),
            ("resource_not_found", True),
            ("unknown_error", True),
        ],
    )
    def test_each_task_error_is_the_callers_to_mend_or_may_pass(
        self, code: str, retryable: bool
    ) -> None:
        outcome = self.provider.read_task(self.failed(code, "no"), NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert outcome.error.code is TASK_ERRORS[code][0]
        assert outcome.error.retryable is retryable

    def test_a_query_for_an_unknown_task_is_missing(self) -> None:
        assert self.queried(404, self.payload("error_404")) == TaskNotFound()

    def test_trouble_waits_as_long_as_the_hint_says(self) -> None:
        read = self.queried(503, self.payload("error_503"))

        assert isinstance(read, QueryFailed)
        assert read.retry_after == 30.0

    def test_every_error_type_of_the_document_is_in_the_table(self) -> None:
        statuses = (400, 401, 402, 403, 404, 413, 429, 500, 502, 503)
        value = {self.document(f"error_{status}")["error"]["type"] for status in statuses}

        assert value == set(ERROR_TYPES)


def test_the_page_has_every_error_code_of_the_adapter() -> None:
    assert errors_by_code("evolink") == ERROR_TYPES
