from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from orchestrator.jobs.model import Cost, ErrorCode, Image, Outcome, Status
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.validation import Violation
from orchestrator.jsonio import dump
from orchestrator.providers.listing import FULL, LIMITED
from orchestrator.providers.prices import PriceTable
from orchestrator.providers.responses import (
    Accepted,
    Ambiguous,
    QueryFailed,
    Rejected,
    TaskNotFound,
    TaskReport,
)
from orchestrator.providers.uniall import ASPECT_RATIOS, SIZES
from tests.providers.adapter import KEY, PAYLOADS, UPLOAD, Cases, each, multipart_example
from tests.providers.contract import ProviderContract
from tests.providers.pages import page
from tests.support.cases import for_each
from tests.support.fakes import NOON

TASK = "task_xxx"
ONE, MANY = "https://e.example/a.png", ["https://e.example/a.png", "https://e.example/b.png"]
TIERS_2: dict[str | None, str] = {
    tier: f"NanoBanana2-{tier}" for tier in ("0.5K", "1K", "2K", "4K")
}
TIERS_PRO: dict[str | None, str] = {
    tier: f"NanoBananaPro-{tier}" for tier in ("1K", "2K", "4K", "8K")
}
TIERED = (*TIERS_2.values(), *TIERS_PRO.values())
NANO = ("NanoBanana", *TIERED)
GPT = "gpt-image-2"
EVERY = (*NANO, GPT)

SIZED = "one of 1024x768, 768x1024, 1344x1024"
#: A row of the document's table of sizes: size, ratio, orientation, tier.
ROW = re.compile(r"\| `(\d+x\d+)`\|`([\d:]+)(?: approximately)?`\| (\w+) \|`(\dK)` \|")
TABLE = ROW.findall((PAYLOADS / "uniall" / "sizes.md").read_text("utf-8"))

PROMPT: Cases = [("", "at least 1 character"), (7, "a string"), (None, "not null")]
IMAGES: Cases = [
    (["ftp://e.example/a.png", "https://e.example/a.png"], "an http(s) URL"),
    (["https://e.example/a.png", "no link"], "an http(s) URL"),
    (["https://e.example/a.png", None], "not null"),
    ("https://e.example/a.png", "a list of at least 1 URLs"),
    (7, "a list of at least 1 URLs"),
    (None, "not null"),
]
COUNT: Cases = each(0, -1, "1", 1.5, True, None, allowed="a whole number from 1")
RATIO: Cases = each("auto", "7:5", "2:1", "9:21", "1:8", 7, [], allowed="one of 1:1, 2:3")
#: What neither family takes: other spellings of the fields, and fields of other APIs.
COMPATIBLE = ("image_url", "image_urls", "image_input", "input_image", "reference_image", "mask")
OF_EVERY: dict[str, Cases] = {
    "task_type": each("edit", "text2video", "", 7, allowed="one of text2image, image2image"),
    "image": [
        ("ftp://e.example/a.png", "an http(s) URL"),
        ("data:image/png;base64,AAAA", "an http(s) URL"),
        ([ONE], "an http(s) URL"),
        (None, "not null"),
    ],
    "images": [([], "a list of at least 1 URLs"), (["no link"], "an http(s) URL")],
    "response_format": [("b64_json", "one of url"), (None, "not null")],
    **{field: [(ONE, "a known field: ")] for field in COMPATIBLE},
}


class TestUniAll(ProviderContract):
    name = "uniall"
    model = "NanoBanana2-1K"
    unified: ClassVar[dict[str, Any]] = {
        "prompt": "A cat",
        "images": MANY,
        "aspect_ratio": "21:9",
        "output_format": "jpg",
        "n": 100,
    }
    body: ClassVar[dict[str, Any]] = {
        "model": "NanoBanana2-1K",
        "task_type": "image2image",
        "prompt": "A cat",
        "images": MANY,
        "aspect_ratio": "21:9",
        "output_format": "jpeg",
        "n": 100,
        "response_format": "url",
    }
    families: ClassVar[dict[str, dict[str | None, str]]] = {
        "nano-banana": {None: "NanoBanana"},
        "nano-banana-2": {None: "NanoBanana2-1K", **TIERS_2},
        "nano-banana-pro": {None: "NanoBananaPro-1K", **TIERS_PRO},
        "gpt-image-2": {None: "gpt-image-2"},
    }
    support: ClassVar[list[str]] = [FULL, FULL, LIMITED, LIMITED, LIMITED, LIMITED]
    submit_path = "/v1/images/tasks"
    query_path = "/v1/images/tasks/{}"
    documented = (
        "request_nano_text",
        "request_nano_image",
        "request_gpt_text",
        "request_gpt_image",
        "request_curl_nano",
        "request_curl_gpt",
        "request_series_text",
        "request_series_image",
    )
    refused: ClassVar[dict[str, dict[str, Cases]]] = {
        "NanoBanana": {
            "prompt": PROMPT,
            "images": IMAGES,
            "aspect_ratio": RATIO,
            "output_format": each("gif", "PNG", 7, allowed="one of png, jpeg, webp"),
            "n": COUNT,
        },
        **{
            model: {
                "prompt": PROMPT,
                "images": IMAGES,
                "aspect_ratio": RATIO,
                "output_format": each("webp", "gif", 7, [], allowed="one of png, jpeg"),
                "n": COUNT,
            }
            for model in TIERED
        },
        GPT: {
            "prompt": PROMPT,
            "images": IMAGES,
            "aspect_ratio": each("auto", "7:5", "1:8", "", 7, [], allowed="one of 4:3, 3:4"),
            "resolution": each("0.5K", "8K", "1k", "", 1, [], allowed="one of 1K, 2K, 4K"),
            "output_format": each("gif", "PNG", 7, allowed="one of png, jpeg, webp"),
            "n": each(0, 9, -1, "1", 1.5, True, None, allowed="a whole number from 1 to 8"),
        },
    }
    refused_natively: ClassVar[dict[str, dict[str, Cases]]] = {
        **{
            model: {
                **OF_EVERY,
                "size": [("", "a string of 1 to 20"), (7, "a string of 1 to 20")],
                "quality": [("medium", "a known field: "), ("2K", "a known field: ")],
                "output_format": [("jpg", "one of png, jpeg")],
                "resolution": [("1K", "a known field: ")],
            }
            for model in NANO
        },
        GPT: {
            **OF_EVERY,
            "size": [
                *each("512x512", "1024X768", "1K", "1:1", "auto", "4096x4096", "", allowed=SIZED),
                (7, SIZED),
                (None, "not null"),
            ],
            "quality": each("auto", "standard", "hd", "", 7, allowed="one of low, medium, high"),
            "output_format": [("jpg", "one of png, jpeg, webp")],
            "aspect_ratio": [("1:1", "a known field: ")],
            "resolution": [("1K", "a known field: ")],
        },
    }
    id_field = "task_id"
    success = "succeeded"
    failure = "failed"

    def smallest(self, model: str) -> dict[str, Any]:
        body = {"model": model, "prompt": "A cat"}
        size = {"size": "1024x1024"} if model == GPT else {}
        return {**body, **size, "task_type": "text2image", "response_format": "url"}

    def with_links(self, *links: Any) -> dict[str, Any]:
        return self.task(metadata={"result_urls": list(links)})

    def enveloped(self, task: Any) -> dict[str, Any]:
        return {"code": "success", "message": "", "data": task}

    # Models --------------------------------------------------------------------------------

    def test_the_documented_models_are_these_ten(self) -> None:
        assert list(self.provider.models) == list(EVERY)

    def test_the_documented_ratios_are_these_ten(self) -> None:
        assert " ".join(ASPECT_RATIOS) == "1:1 2:3 3:2 3:4 4:3 4:5 5:4 9:16 16:9 21:9"

    def test_the_address_is_for_the_settings_to_say(self) -> None:
        assert self.provider.base_url is None

    def test_polls_come_every_two_to_five_seconds_as_the_document_advises(self) -> None:
        assert (self.provider.poll_seconds, self.provider.max_poll_seconds) == (2.0, 5.0)

    def test_only_the_base_model_makes_webp(self) -> None:
        assert self.written(self.request("NanoBanana", output_format="webp"))["output_format"]

    @for_each("model", NANO)
    def test_a_nano_model_tolerates_a_size_and_sets_no_upper_bound_to_n(self, model: str) -> None:
        body = {"model": model, "prompt": "A cat", "size": "1024x1024", "n": 10**6}

        assert self.written(self.native(body)) == body

    def test_a_nano_model_with_its_resolution_in_the_name_points_to_its_family(self) -> None:
        [violation] = self.refusals(self.request("NanoBananaPro-2K", resolution="4K"))

        assert violation.allowed.endswith(
            "; the resolution is part of the name NanoBananaPro-2K; nano-banana-pro accepts one"
        )

    @pytest.mark.parametrize("most", [1, 8])
    def test_gpt_image_2_makes_one_to_eight(self, most: int) -> None:
        assert self.written(self.request(GPT, n=most))["n"] == most

    def test_gpt_image_2_needs_a_size(self) -> None:
        [violation] = self.refusals(self.native({"model": GPT, "prompt": "A cat"}))

        assert (violation.field, violation.allowed) == ("request.size", "given")

    @pytest.mark.parametrize("quality", ["low", "medium", "high"])
    def test_the_quality_of_gpt_image_2_is_set_in_provider_options(self, quality: str) -> None:
        assert self.written(self.with_extras({"quality": quality}, GPT))["quality"] == quality

    # Sizes ---------------------------------------------------------------------------------

    def test_the_documents_table_has_forty_eight_sizes(self) -> None:
        assert len(TABLE) == len({size for size, *_ in TABLE}) == 48

    def test_the_sizes_are_the_documents_table_in_its_order(self) -> None:
        value = [(size, (ratio, tier)) for size, ratio, _, tier in TABLE]

        assert list(SIZES.items()) == value

    def test_every_size_is_accepted_natively(self) -> None:
        for size in SIZES:
            body = {"model": GPT, "prompt": "A cat", "size": size}

            assert self.written(self.native(body)) == body

    @for_each("ratio", sorted({row[1] for row in TABLE}))
    @for_each("tier", ["1K", "2K", "4K"])
    def test_ratio_and_tier_choose_the_first_size_that_has_both_or_are_refused(
        self, ratio: str, tier: str
    ) -> None:
        fitting = [row[0] for row in TABLE if (row[1], row[3]) == (ratio, tier)]
        request = self.request(GPT, aspect_ratio=ratio, resolution=tier)
        if fitting:
            assert self.written(request)["size"] == fitting[0]
            return

        tiers = sorted({row[3] for row in TABLE if row[1] == ratio})
        allowed = f"one of {', '.join(tiers)} with aspect_ratio {ratio}"
        assert self.refusals(request) == (Violation("resolution", tier, allowed),)

    @for_each(
        ("options", "size"),
        [
            ({}, "1024x1024"),
            ({"aspect_ratio": "16:9"}, "1360x768"),
            ({"resolution": "2K"}, "1536x1536"),
            ({"resolution": "4K"}, "2048x2048"),
            ({"aspect_ratio": "3:2", "resolution": "2K"}, "2048x1360"),
            ({"aspect_ratio": "21:9", "resolution": "4K"}, "3840x1648"),
        ],
    )
    def test_the_default_size_is_a_square_of_1k(self, options: dict[str, str], size: str) -> None:
        body = self.written(self.request(GPT, **options))

        assert body == {**self.smallest(GPT), "size": size}

    def test_a_size_in_provider_options_wins(self) -> None:
        assert self.written(self.with_extras({"size": "1024x768"}, GPT))["size"] == "1024x768"

    # Reference images ----------------------------------------------------------------------

    @pytest.mark.parametrize("model", ["NanoBanana", "NanoBanana2-4K", GPT])
    def test_one_link_is_image_and_several_are_images(self, model: str) -> None:
        one, many = self.request(model, images=[ONE]), self.request(model, images=MANY)

        edits = {**self.smallest(model), "task_type": "image2image"}
        assert self.written(one) == {**edits, "image": ONE}
        assert self.written(many) == {**edits, "images": MANY}
        assert self.written(self.request(model, images=[])) == self.smallest(model)

    def test_a_file_makes_it_an_edit(self) -> None:
        request = replace(self.request(), upload=UPLOAD)

        assert self.written(request) == {**self.smallest(self.model), "task_type": "image2image"}

    @pytest.mark.parametrize("given", [{"image": ONE}, {"images": MANY}])
    def test_a_link_in_provider_options_makes_it_an_edit(self, given: dict[str, Any]) -> None:
        body = self.written(self.with_extras(given))

        assert body == {**self.smallest(self.model), **given, "task_type": "image2image"}

    def test_a_task_type_in_provider_options_wins(self) -> None:
        options = {"prompt": "A cat", "images": [ONE]}
        extras = {"task_type": "text2image"}
        request = JobRequest(self.name, GPT, options=options, provider_options=extras)

        assert self.written(request)["task_type"] == "text2image"

    @pytest.mark.parametrize("name", ["reference_one", "reference_many"])
    @pytest.mark.parametrize("kind", [{}, {"task_type": "image2image"}])
    def test_the_documented_references_are_accepted(self, name: str, kind: dict[str, str]) -> None:
        body = {"model": "NanoBanana", "prompt": "A cat", **kind, **self.document(name)}

        assert self.written(self.native(body)) == body

    @for_each(
        ("options", "extras", "upload", "field", "value"),
        [
            ({"images": [ONE]}, {"images": MANY}, False, "provider_options.images", MANY),
            ({"images": MANY}, {"image": ONE}, False, "images", MANY),
            ({}, {"image": ONE, "images": MANY}, False, "provider_options.images", MANY),
            ({"images": [ONE]}, {}, True, "image_file", "cat.png"),
            ({"images": MANY}, {}, True, "image_file", "cat.png"),
            ({}, {"image": ONE}, True, "image_file", "cat.png"),
        ],
    )
    def test_no_two_ways_of_giving_an_image_are_mixed(
        self,
        options: dict[str, Any],
        extras: dict[str, Any],
        upload: bool,
        field: str,
        value: Any,
    ) -> None:
        request = replace(
            self.request(**options), provider_options=extras, upload=UPLOAD if upload else None
        )

        allowed = "the only reference: image, images or an uploaded file, not two of them"
        assert self.refusals(request) == (Violation(field, value, allowed),)

    def test_nor_are_they_in_a_native_request(self) -> None:
        body = {"model": GPT, "prompt": "A cat", "size": "1024x1024", "image": ONE}

        [both] = self.refusals(self.native({**body, "images": MANY}))
        [with_file] = self.refusals(self.native(body, upload=UPLOAD))

        assert (both.field, both.value) == ("request.images", MANY)
        assert (with_file.field, with_file.value) == ("image_file", "cat.png")

    def test_image2image_needs_a_reference(self) -> None:
        allowed = "text2image, or the request must contain a reference image"
        body = {"model": "NanoBanana", "prompt": "A cat", "task_type": "image2image"}

        natively = self.refusals(self.native(body))
        in_extras = self.refusals(self.with_extras({"task_type": "image2image"}))

        assert natively == (Violation("request.task_type", "image2image", allowed),)
        assert in_extras == (Violation("provider_options.task_type", "image2image", allowed),)
        assert self.written(self.native(body, upload=UPLOAD)) == body

    def test_the_documented_form_is_what_a_file_is_sent_with(self) -> None:
        form = multipart_example()
        assert form.pop("image") == "@/path/to/input.png"
        body = {**form, "n": int(form["n"])}
        unified = {"prompt": form["prompt"], "aspect_ratio": "1:1", "output_format": "png", "n": 1}
        request = replace(
            self.request(GPT, **unified), provider_options={"quality": "medium"}, upload=UPLOAD
        )

        assert self.written(self.native(body, upload=UPLOAD)) == body
        assert self.written(request) == body
        assert self.provider.capabilities.upload_field == "image"

    # Prices --------------------------------------------------------------------------------

    @for_each("model", NANO)
    def test_a_nano_task_costs_its_unit_price_for_each_requested_image_or_returned(
        self, model: str
    ) -> None:
        table = PriceTable("USD", {model: 0.1})

        assert self.provider.price(self.request(model, n=3), table) == cost(0.3)
        assert self.provider.price(self.request(model, n=3), table, returned=2) == cost(0.2)
        assert self.provider.price(self.request(model), table) == cost(0.1)

    @for_each(
        ("options", "quality", "price"),
        [
            ({}, None, 0.02),
            ({}, "medium", 0.02),
            ({}, "low", 0.01),
            ({}, "high", 0.08),
            ({"n": 8}, "low", 0.08),
            ({"aspect_ratio": "4:3"}, "high", 0.5),
            ({"aspect_ratio": "16:9"}, "low", 0.04),
            ({"aspect_ratio": "16:9", "n": 2}, None, 0.1),
        ],
    )
    def test_gpt_image_2_costs_by_size_and_quality_for_each_requested_image(
        self, options: dict[str, Any], quality: str | None, price: float
    ) -> None:
        by_quality = {"low": 0.01, "medium": 0.02, "*": 0.08}
        rest = {"low": 0.04, "*": 0.05}
        table = PriceTable("USD", {GPT: {"1024x1024": by_quality, "1024x768": 0.5, "*": rest}})
        extras = {"quality": quality} if quality else {}
        request = replace(self.request(GPT, **options), provider_options=extras)

        assert self.provider.price(request, table) == cost(price)
        assert self.provider.price(request, table, returned=99) == cost(price)

    def test_a_size_that_the_table_does_not_list_has_no_price(self) -> None:
        table = PriceTable("USD", {GPT: {"1024x1024": {"high": 1}, "1024x768": 1}})

        assert self.provider.price(self.request(GPT, aspect_ratio="16:9"), table) is None
        assert self.provider.price(self.request(GPT), table) is None

    def test_a_native_request_has_its_price_too(self) -> None:
        table = PriceTable("USD", {GPT: {"1024x768": {"low": 0.01}}})

        assert self.provider.price(self.native(self.document("request_gpt_text")), table) == cost(
            0.01
        )

    # Answers to a submit -------------------------------------------------------------------

    def test_the_documented_answer_is_a_task_that_is_done(self) -> None:
        done = Outcome.succeeded((Image("https://example.com/result.png"),))

        assert self.submitted(200, self.payload("accepted")) == Accepted(TASK, outcome=done)

    @pytest.mark.parametrize("name", ["task_queued", "task_processing"])
    def test_a_task_on_its_way_is_accepted_bare_or_wrapped(self, name: str) -> None:
        document = self.document(name)

        assert self.submitted(200, dump(document)) == Accepted(TASK)
        assert self.submitted(202, dump(document["data"])) == Accepted(TASK)

    def test_a_task_that_failed_at_once_is_accepted_with_its_failure(self) -> None:
        read = self.submitted(200, dump(self.document("task_failed")["data"]))

        assert isinstance(read, Accepted)
        assert read.outcome is not None
        assert read.outcome.status is Status.FAILED

    @for_each(
        ("status", "ours", "retryable"),
        [
            (400, ErrorCode.INVALID_REQUEST, False),
            (401, ErrorCode.AUTHENTICATION, False),
            (402, ErrorCode.INSUFFICIENT_CREDITS, False),
            (403, ErrorCode.PERMISSION, False),
            (429, ErrorCode.RATE_LIMITED, True),
            (200, ErrorCode.UNKNOWN, False),
        ],
    )
    def test_an_error_is_a_rejection_by_its_status_with_the_providers_message(
        self, status: int, ours: ErrorCode, retryable: bool
    ) -> None:
        error = {"code": "no_channel", "message": "no such channel"}
        for document in (error, {"error": error}):
            read = self.submitted(status, dump(document), **{"retry-after": "4"})

            assert isinstance(read, Rejected)
            assert (read.error.code, read.error.retryable) == (ours, retryable)
            assert (read.error.message, read.error.provider_code) == (
                error["message"],
                error["code"],
            )
            assert read.retry_after == 4.0

    @for_each("status", [200, 400, 403, 429, 502])
    @for_each(
        ("name", "ours"),
        [
            ("error_flat", ErrorCode.INSUFFICIENT_CREDITS),
            ("error_nested", ErrorCode.AUTHENTICATION),
        ],
    )
    def test_code_and_words_count_before_the_status(
        self, name: str, ours: ErrorCode, status: int
    ) -> None:
        read = self.submitted(status, self.payload(name))

        assert isinstance(read, Rejected)
        assert read.error.code is ours

    def test_a_5xx_is_no_proof_that_there_is_no_task(self) -> None:
        body = dump({"code": "upstream_error", "message": "no answer"})

        assert self.submitted(502, body) == Ambiguous("HTTP 502: no answer")

    def test_an_error_with_a_message_alone_has_its_status_for_a_code(self) -> None:
        read = self.submitted(403, b'{"message":"no channel for this model"}')

        assert isinstance(read, Rejected)
        assert read.error.message == "no channel for this model"
        assert read.error.provider_code == "403"

    def test_an_error_with_a_code_alone_has_its_status_for_a_message(self) -> None:
        read = self.submitted(403, b'{"code":"no_channel"}')

        assert isinstance(read, Rejected)
        assert (read.error.message, read.error.provider_code) == ("HTTP 403", "no_channel")

    def test_an_error_code_in_a_2xx_is_a_no(self) -> None:
        assert isinstance(self.submitted(200, self.payload("error_flat")), Rejected)

    @pytest.mark.parametrize(
        "body",
        [
            b'{"code":"success","message":"","data":null}',
            b'{"code":200,"message":"ok"}',
            b'{"message":"on its way"}',
        ],
    )
    def test_a_2xx_that_names_no_task_and_no_error_is_ambiguous(self, body: bytes) -> None:
        assert isinstance(self.submitted(200, body), Ambiguous)

    def test_an_answer_that_only_names_the_task_is_accepted(self) -> None:
        assert self.submitted(200, b'{"task_id":"task_xxx"}') == Accepted(TASK)

    def test_a_thin_success_is_accepted_with_its_error(self) -> None:
        document = {**self.document("accepted"), "result_url": None}

        read = self.submitted(200, dump(document))

        assert isinstance(read, Accepted)
        assert read.outcome is None
        assert read.thin_success is not None

    # Answers to a query --------------------------------------------------------------------

    @pytest.mark.parametrize("state", ["queued", "processing"])
    def test_a_task_that_runs_has_no_outcome(self, state: str) -> None:
        assert self.queried(200, self.payload(f"task_{state}")) == TaskReport(TASK, state)

    @pytest.mark.parametrize("name", ["task_succeeded", "task_series"])
    def test_the_documented_success_has_its_image_wrapped_or_bare(self, name: str) -> None:
        done = Outcome.succeeded((Image("https://example.com/result.png"),))
        report = TaskReport(TASK, "succeeded", done)

        assert self.queried(200, self.payload(name)) == report
        assert self.queried(200, dump(self.document(name)["data"])) == report

    def test_several_images_come_in_their_order_without_the_first_twice(self) -> None:
        report = self.queried(200, self.payload("task_several"))

        assert isinstance(report, TaskReport)
        assert self.links_of(report) == [f"https://example.com/result-{n}.png" for n in (1, 2, 3)]

    def test_without_links_in_its_metadata_the_one_result_url_counts(self) -> None:
        without_urls: list[Any] = [None, 7, [], {}, {"result_urls": None}]
        for metadata in without_urls:
            odd_urls: list[Any] = [None, True, "x", [], {}, [None], ["ftp://e.example/a"]]
            for urls in odd_urls:
                value = (
                    {**metadata, "result_urls": urls} if isinstance(metadata, dict) else metadata
                )
                task = self.task(result_url=ONE, metadata=value)

                assert self.links_of(self.provider.read_task(task, NOON)) == [ONE]

    def test_progress_is_not_looked_at(self) -> None:
        for progress in ["0%", "100%", "-1%", "", "soon", 50, None, [], {}]:
            task = self.task(status="processing", progress=progress)

            assert self.provider.read_task(task, NOON) == TaskReport("task-1", "processing")

    @for_each(
        ("value", "message", "code"),
        [
            ("the upstream said no", "the upstream said no", None),
            ({"code": "upstream", "message": "no"}, "no", "upstream"),
            ({"message": "no"}, "no", None),
            ({"code": 7, "message": ["no"]}, "the task failed", "7"),
            ('{"code": "upstream", "message": "no"}', "no", "upstream"),
            ("", "the task failed", None),
            (None, "the task failed", None),
            (["no"], "no", None),
            ([7], "the task failed", None),
            (7, "the task failed", None),
        ],
    )
    def test_a_failure_may_have_any_form(self, value: Any, message: str, code: str | None) -> None:
        outcome = self.provider.read_task(self.failed_oddly(value), NOON).outcome

        assert outcome is not None
        assert outcome.error is not None
        assert (outcome.error.message, outcome.error.provider_code) == (message, code)
        assert outcome.error.code is ErrorCode.GENERATION_FAILED

    @pytest.mark.parametrize("name", ["task_failed", "task_failed_object"])
    def test_a_failure_has_the_providers_words(self, name: str) -> None:
        report = self.queried(200, self.payload(name))

        assert isinstance(report, TaskReport)
        assert report.outcome is not None
        assert report.outcome.error is not None
        assert report.outcome.error.message == "the upstream model refused the prompt"

    def test_a_query_for_an_unknown_task_is_missing(self) -> None:
        body = b'{"code":"task_not_exist","message":"task not exist","data":null}'

        assert self.queried(404, body) == TaskNotFound()

    def test_a_query_that_is_refused_is_trouble_with_the_providers_message(self) -> None:
        read = self.queried(401, self.payload("error_nested"))

        assert isinstance(read, QueryFailed)
        assert (read.error.code, read.error.message) == (ErrorCode.AUTHENTICATION, "no such key")

    def test_no_key_of_ours_is_sent(self) -> None:
        call = self.provider.submit_call(self.body, None, KEY)

        assert KEY not in repr(call)


def cost(amount: float) -> Cost:
    return Cost(amount, "USD", "computed")


def test_the_page_has_the_adapters_table_of_sizes() -> None:
    rows = re.findall(r"(?m)^\| (\d+:\d+) \| (.*?) ?\|$", page("uniall"))
    cells = {
        (ratio, tier): re.findall(r"`(\d+x\d+)`", cell)
        for ratio, columns in rows
        for tier, cell in zip(("1K", "2K", "4K"), columns.split(" |"), strict=True)
    }

    assert len(SIZES) == 48
    assert {size: place for place, sizes in cells.items() for size in sizes} == SIZES
    for place, sizes in cells.items():
        assert sizes == [size for size in SIZES if SIZES[size] == place]
