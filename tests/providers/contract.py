"""The duties of every adapter. The class in `test_<provider>.py` inherits them."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.jobs.model import Cost
from orchestrator.jobs.request import UNIFIED_OPTIONS
from orchestrator.jsonio import dump
from orchestrator.providers.catalog import limits
from orchestrator.providers.listing import support
from orchestrator.providers.prices import PriceTable
from orchestrator.security.secret import Secret
from orchestrator.security.signatures import BadSignature
from tests.providers.adapter import CALLBACK_URL, KEY, OPTIONS, UPLOAD, Limit
from tests.providers.answers import FUZZ, AnswersContract
from tests.providers.variations import VariationsContract
from tests.support.fakes import NOON
from tests.support.strategies import CHARACTERS, TEXT


class ProviderContract(AnswersContract, VariationsContract):
    """Requests, refusals and prices, and the meaning of answers and of their variations."""

    # Requests ------------------------------------------------------------------------------

    def test_a_unified_request_becomes_the_providers_body(self) -> None:
        assert self.written(self.request(**self.unified)) == self.body

    def test_a_native_request_is_sent_as_it_is(self) -> None:
        assert self.written(self.native(self.body)) == self.body

    def test_a_documented_request_is_accepted_and_sent_as_it_is(
        self, documented_request: str
    ) -> None:
        body = self.inward(self.document(documented_request))

        assert self.written(self.native(body)) == body

    def test_the_body_of_a_unified_request_is_accepted_natively(self, each_name: str) -> None:
        body = self.written(self.request(each_name))

        assert self.written(self.native(body)) == body

    def test_every_model_name_is_accepted_in_both_forms(self) -> None:
        for name in self.provider.models:
            body = self.written(self.request(name))
            assert body == self.smallest(name)
            assert self.written(self.native(body)) == body

    def test_every_listed_value_of_every_option_is_accepted(self, each_model: str) -> None:
        model = self.provider.models[each_model]
        for option in model.options:
            for value in limits(model, option).get("one_of", []):
                self.written(self.request(each_model, **{option: value}))

    def test_a_value_at_its_maximum_is_accepted(self, each_model: str) -> None:
        model = self.provider.models[each_model]
        for option in model.options:
            known = limits(model, option)
            if option == "prompt":
                most = known.get("max_length", 200_000)
                self.written(self.request(each_model, prompt="\u00e9" * most))
            elif "max" in known:
                self.written(self.request(each_model, **{option: known["max"]}))

    def test_jpg_and_jpeg_mean_the_same_where_a_format_is_accepted(self, each_model: str) -> None:
        jpg, jpeg = (self.request(each_model, output_format=word) for word in ("jpg", "jpeg"))
        if "output_format" in self.provider.models[each_model].options:
            assert self.written(jpg) == self.written(jpeg)
        else:
            assert [v.field for v in self.refusals(jpg) + self.refusals(jpeg)] == [
                "output_format",
                "output_format",
            ]

    def test_a_prompt_alone_adds_no_other_field(self, each_model: str) -> None:
        body = self.written(self.request(each_model))

        assert body == self.smallest(each_model)

    def smallest(self, model: str) -> dict[str, Any]:
        """Return the body of a request with the prompt "A cat" and no other option."""
        raise NotImplementedError

    def test_a_request_is_not_changed_by_writing_its_call(self, documented_request: str) -> None:
        body = self.inward(self.document(documented_request))
        extras = {"input": {"more": [1]}, "more": {"x": 1}}
        for request in (self.native(body), replace(self.request(), provider_options=extras)):
            before = copy.deepcopy(request)
            self.provider.submit_call(self.provider.body(request), CALLBACK_URL, KEY)
            assert request == before

    @pytest.mark.parametrize(
        "prompt", ["\u00e9\u0301 \U0001f9ff\n\t\u2028\ufeff", "  x  ", "\0", "%7B\\u0041"]
    )
    def test_a_prompt_reaches_the_wire_byte_for_byte(self, prompt: str) -> None:
        assert prompt in _texts(orjson.loads(dump(self.written(self.request(prompt=prompt)))))

    # Calls ---------------------------------------------------------------------------------

    def test_a_submit_goes_to_the_documented_place(self) -> None:
        call = self.provider.submit_call(self.body, None, KEY)

        assert (call.method, call.path) == ("POST", self.submit_path)
        assert self.outward(call) == self.body

    def test_a_query_asks_for_the_task_where_the_document_has_it(self) -> None:
        call = self.provider.query_call("task_1")

        assert (call.method, call.path) == ("GET", self.query_path.format("task_1"))
        assert (call.headers, call.body, call.file) == ({}, None, None)

    def test_a_task_id_cannot_leave_its_place(self) -> None:
        path = self.provider.query_call("../a/b?c#d %&e=f").path

        assert path == self.query_path.format("..%2Fa%2Fb%3Fc%23d%20%25%26e%3Df")

    def test_the_callback_url_is_where_the_document_has_it(self) -> None:
        sent: Any = self.provider.submit_call(self.body, CALLBACK_URL, KEY).body
        for step in self.callback_path:
            sent = sent[step]

        assert sent == (CALLBACK_URL if self.callback_path else self.body)
        assert self.provider.capabilities.callbacks == bool(self.callback_path)

    def test_the_attempts_key_goes_where_keys_are_understood(self) -> None:
        headers = self.provider.submit_call(self.body, None, KEY).headers

        assert headers == ({self.key_header: KEY} if self.key_header else {})
        assert bool(self.provider.capabilities.idempotency_seconds) == bool(self.key_header)

    # Families ------------------------------------------------------------------------------

    def test_a_family_name_chooses_the_providers_own_model(
        self, family_tier: tuple[str, str | None, str]
    ) -> None:
        family, resolution, model = family_tier
        options = {} if resolution is None else {"resolution": resolution}

        assert self.written(self.request(family, **options))["model"] == model

    def test_these_are_all_its_families(self) -> None:
        families = {
            name: {None: family.default, **family.tiers}
            for name, family in self.provider.families.items()
        }

        assert families == self.families

    def test_a_family_name_is_no_model_of_a_native_request(self) -> None:
        for name in self.provider.families.keys() - self.provider.models.keys():
            body = {**self.body, "model": name}
            if self.provider.unlisted:
                assert self.written(self.native(body)) == body
                continue
            [violation] = self.refusals(self.native(body))
            assert (violation.field, violation.value) == ("model", name)
            assert violation.allowed.endswith(f"models: {', '.join(self.provider.models)}")

    def test_a_resolution_that_a_family_has_not_is_refused_with_those_it_has(self) -> None:
        for name in self.provider.families:
            [violation] = self.refusals(self.request(name, resolution="16K"))
            assert (violation.field, violation.value) == ("resolution", "16K")
            assert self.provider.families[name].default in violation.allowed or all(
                tier in violation.allowed for tier in self.provider.families[name].tiers
            )

    # provider_options ----------------------------------------------------------------------

    def test_unknown_provider_options_are_merged_last_deep_and_unchecked(
        self, each_name: str
    ) -> None:
        plain = self.written(self.request(each_name))
        extras = {"brand_new": {"x": [None, 1.5]}, "input": {"brand_new": 7}}

        body = self.written(self.with_extras(extras, each_name))

        assert body.pop("brand_new") == {"x": [None, 1.5]}
        assert body["input"].pop("brand_new") == 7
        assert {**plain, "input": plain.get("input", {})} == body

    def test_provider_options_win_over_the_unified_ones(self) -> None:
        path = self.provider.models[self.model].options["prompt"]
        extras: dict[str, Any] = {}
        _put(extras, path, "A dog")

        body = self.written(self.with_extras(extras))

        _put(expected := self.written(self.request()), path, "A dog")
        assert body == expected

    def test_provider_options_may_not_set_the_model_or_a_callback(self) -> None:
        ours = {*self.provider.callback_fields, *self.callback_path[:1]}
        for field, allowed in [
            ("model", "use the field `model`"),
            *((f, "callbacks") for f in ours),
        ]:
            [violation] = self.refusals(self.with_extras({field: "x"}))
            assert (violation.field, violation.value) == (f"provider_options.{field}", "x")
            assert allowed in violation.allowed

    def test_a_known_field_of_provider_options_is_checked_and_named_so(
        self, extra_limits: list[Limit]
    ) -> None:
        for limit in extra_limits:
            name, path, value, allowed = limit
            extras: dict[str, Any] = {}
            _put(extras, tuple(path.split(".")), value)

            violation = self.refusals(self.with_extras(extras, name))[0]

            assert f"{violation.field}.".startswith(f"provider_options.{path}."), limit
            assert violation.value in (value, *_inside(value)), limit
            assert allowed in violation.allowed, limit

    # Refusals ------------------------------------------------------------------------------

    def test_each_limit_is_refused_with_field_value_and_what_is_allowed(
        self, limits: list[Limit]
    ) -> None:
        for limit in limits:
            violation = self.refusals(self.request(limit.model, **{limit.field: limit.value}))[0]

            assert violation.field.partition(".")[0] == limit.field, limit
            assert violation.value in (limit.value, *_inside(limit.value)), limit
            assert limit.allowed in violation.allowed, limit

    def test_the_same_limits_hold_for_a_native_request(self, native_limits: list[Limit]) -> None:
        for limit in native_limits:
            name, path, value, allowed = limit
            body = self.provider.body(self.request(name))
            _put(body, tuple(path.split(".")), value)

            violation = self.refusals(self.native(body))[0]

            assert f"{violation.field}.".startswith(f"request.{path}."), limit
            assert violation.value in (value, *_inside(value)), limit
            assert allowed in violation.allowed, limit

    def test_an_option_that_a_model_does_not_accept_is_refused_with_the_accepted_ones(
        self, gaps: list[Limit]
    ) -> None:
        for gap in gaps:
            [violation] = self.refusals(self.request(gap.model, **{gap.field: gap.value}))

            assert (violation.field, violation.value) == (gap.field, gap.value), gap
            assert gap.allowed in violation.allowed, gap

    def test_every_option_is_accepted_or_refused_by_every_model(self, each_model: str) -> None:
        accepted = set(self.provider.models[each_model].options)

        assert accepted <= {"prompt", *OPTIONS}
        assert "prompt" in accepted

    def test_each_option_is_full_limited_or_refused(self) -> None:
        assert [support(self.provider, option) for option in UNIFIED_OPTIONS] == self.support

    def test_n_may_be_1_everywhere(self, each_name: str) -> None:
        plain, one = self.written(self.request(each_name)), self.request(each_name, n=1)
        counted = orjson.loads(dump(plain))
        _put(counted, self.provider.models[plain["model"]].options.get("n", ("n",)), 1)

        assert self.written(one) in (plain, counted)

    def test_a_file_is_accepted_or_refused_by_name(self, each_name: str) -> None:
        request = replace(self.request(each_name), upload=UPLOAD)
        if self.provider.capabilities.upload_field:
            self.provider.check(request)
            return

        [violation] = self.refusals(request)

        assert (violation.field, violation.value) == ("image_file", "cat.png")
        assert "accepts only links in images" in violation.allowed

    def test_an_unknown_model_is_refused_with_the_known_ones(self) -> None:
        [violation] = self.refusals(self.request("no-such"))

        assert (violation.field, violation.value) == ("model", "no-such")
        names = {**self.provider.models, **self.provider.families}
        assert all(name in violation.allowed for name in names)

    @pytest.mark.parametrize("field", ["callback", "callback_url", "no_such_field"])
    def test_a_native_request_may_not_bring_a_callback_nor_unknown_fields(
        self, field: str, each_model: str
    ) -> None:
        body = self.provider.body(self.request(each_model))

        [violation] = self.refusals(self.native({**body, field: CALLBACK_URL}))

        assert violation.field == f"request.{field}"
        assert "a known field: " in violation.allowed

    def test_a_native_request_needs_its_prompt(self, each_model: str) -> None:
        path = self.provider.models[each_model].options["prompt"]
        body: dict[str, Any] = orjson.loads(dump(self.provider.body(self.request(each_model))))
        inner = body
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]

        [violation] = self.refusals(self.native(body))

        assert (violation.field, violation.allowed) == (
            f"request.{'.'.join(path)}",
            "given",
        )

    def test_every_violation_is_named_at_once(self) -> None:
        named = self.refusals(self.request(prompt="", aspect_ratio="7:5", resolution="9K", n=0))

        fields = [violation.field for violation in named]
        assert sorted(fields) == ["aspect_ratio", "n", "prompt", "resolution"]

    # Prices --------------------------------------------------------------------------------

    def test_a_price_is_looked_up_by_the_providers_own_model(self, each_name: str) -> None:
        request = self.request(each_name)
        model = self.provider.body(request)["model"]
        table = PriceTable("USD", {"another": 9, model: 0.25})

        assert self.provider.price(request, table) == Cost(0.25, "USD", "computed")

    def test_without_a_price_for_the_model_there_is_no_cost(self, each_name: str) -> None:
        assert self.provider.price(self.request(each_name), PriceTable("USD", {"x": 1})) is None

    def test_the_price_of_all_others_is_used_for_an_unlisted_model(self, each_name: str) -> None:
        table = PriceTable("credits", {"another": 9, "*": 0.1})

        cost = self.provider.price(self.request(each_name), table)

        assert cost == Cost(0.1, "credits", "computed")

    # Signatures ----------------------------------------------------------------------------

    @FUZZ
    @given(
        headers=st.dictionaries(
            st.sampled_from(["x-hiapi-timestamp", "x-hiapi-signature", "signature"]) | TEXT,
            TEXT | st.sampled_from([str(NOON // 1000), "0" * 64]),
        ),
        body=st.binary(),
        secrets=st.lists(st.text(CHARACTERS, min_size=1).map(Secret), max_size=3),
    )
    def test_an_unsigned_callback_is_a_bad_signature(
        self, headers: dict[str, str], body: bytes, secrets: list[Secret]
    ) -> None:
        with pytest.raises(BadSignature):
            self.provider.verify_callback(headers, body, secrets, NOON)

    @FUZZ
    @given(host=st.text(alphabet="abz019.-[]:@%/?#\u00e9", max_size=30))
    def test_any_callback_address_is_read_without_an_exception(self, host: str) -> None:
        with suppress(ValueError):  # urlsplit refuses it, and the settings did so before
            refusal = self.provider.callback_refusal(f"http://{host}")
            assert bool(refusal) == self.provider.capabilities.callbacks


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def _inside(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _put(body: Any, path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        body = body.setdefault(step, {})
    body[path[-1]] = value
